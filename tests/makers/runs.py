"""Run folders as lmms-eval writes them, from answers given by hand."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

NONE = {"checkpoint": "m", "mask": "none", "layers": "none", "depth": 6}
BLOCK = {"checkpoint": "m", "mask": "block", "layers": "3-5", "depth": 6}


def binary(number: int, right: bool | None, answer: Any = None, **more: Any) -> dict[str, Any]:
    """A sample of Counting; `right` None: unscored."""
    record = {
        "kind": "counting", "content_hash": f"h{number}", "image_ids": [number, 1000 + number // 2],
        "response": "x", **more,
    }  # fmt: skip
    if right is None:
        record |= {"status": "unscored", "reason": "cut off", "response": None}
        return {"doc_id": number, "exact_match": {}, "unscored": 1, "mimic": record}
    score = float(right)
    record |= {"status": "parsed", "parsed": answer if answer is not None else int(right), "score": score}
    return {"doc_id": number, "exact_match": {"score": score}, "unscored": 0, "mimic": record}


def listing(number: int, counts: Sequence[int], answer: Sequence[str], **more: Any) -> dict[str, Any]:
    """A sample of Listing."""
    recalled, generated, relevant = counts
    f1 = 2 * recalled / (generated + relevant) if generated + relevant else 0.0
    record = {
        "kind": "listing", "content_hash": f"l{number}", "image_ids": [number], "response": ", ".join(answer),
        "status": "parsed", "parsed": list(answer), "score": f1, **more,
    }  # fmt: skip
    item = {"score": f1, "counts": list(counts)}
    return {"doc_id": number, "f1": item, "unscored": 0, "mimic": record}


def permuted(
    doc: int, orders: Sequence[Sequence[int]], rights: Sequence[bool | None], **more: Any
) -> list[dict[str, Any]]:
    """The samples of one doc of permuted Counting; the answer is in its image 0."""
    found = []
    for index, (order, right) in enumerate(zip(orders, rights, strict=True)):
        where = {
            "content_hash": f"h{doc}", "base_hash": f"b{doc}", "base_doc_id": doc, "order": list(order),
            "order_index": index, "n_orders": len(orders), "orders": "cyclic", "order_seed": 0,
            "target_positions": [list(order).index(0)],
        }  # fmt: skip
        sample = binary(doc, right, **where | more)
        sample["doc_id"] = 100 * doc + index
        item = sample.pop("exact_match")
        sample["exact_match_over_orders"] = {"doc": doc, **item}
        sample["unscored"] = {"doc": doc, "unscored": sample["unscored"]}
        found.append(sample)
    return found


def write_run(
    folder: Path,
    tasks: Mapping[str, Sequence[Mapping[str, Any]]],
    settings: Mapping[str, Any],
    *,
    date: str = "1",
    metrics: Sequence[str] = (),
) -> Path:
    """Write a run's results and samples; returns the folder. `metrics` are named among the scores."""
    folder.mkdir(parents=True, exist_ok=True)
    results = {
        "results": {task: {"alias": task, **{f"{m},none": 0.5 for m in metrics}} for task in tasks},
        "configs": {task: {"metadata": {"label": "made"}} for task in tasks},
        "n-samples": {task: {"original": len(rows), "effective": len(rows)} for task, rows in tasks.items()},
        "config": {"model": "llava_ov_mask", "model_args": ""},
        "mimic": {"run": dict(settings)},
    }
    (folder / f"{date}_results.json").write_text(json.dumps(results))
    for task, rows in tasks.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{date}_samples_{task}.jsonl").write_text(text)
    return folder
