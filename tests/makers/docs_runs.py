"""Run folders over the docs of a task folder: answers given by hand or drawn, scored by our own scoring."""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mimic_eval.records import DOC_COLUMNS, unscored_response
from mimic_tasks import lmms_hooks
from mimic_tasks.stored_docs import read_docs, task_files

Docs = Mapping[str, Sequence[Mapping[str, Any]]]
DocAnswer = Callable[[str, Mapping[str, Any]], str]
_scored: dict[tuple[str, str, str], dict[str, Any]] = {}


def docs_in(folder: Path, *, limit: int | None = None) -> dict[str, list[dict[str, Any]]]:
    """The docs of each task of a folder, without pictures."""
    columns = [name for name in DOC_COLUMNS if name != "images"]
    return {kind: list(read_docs(file, columns))[:limit] for kind, file in task_files(folder).items()}


def drawn(seed: int, skill: float, docs: Docs) -> DocAnswer:
    """Answers right with a chance that falls with the number of images, else another doc's truth."""
    draw = random.Random(seed)

    def answer(kind: str, doc: Mapping[str, Any]) -> str:
        if draw.random() < skill * 1.1 ** (3 - doc["n_images"]):
            return str(doc["gt"])
        return str(docs[kind][draw.randrange(len(docs[kind]))]["gt"])

    return answer


def unscored(reason: str) -> str:
    """The answer of a doc that failed."""
    return unscored_response(reason)


def write_docs_run(
    folder: Path,
    docs: Docs,
    answer: DocAnswer,
    settings: Mapping[str, Any],
    *,
    date: str = "20260101_000000",
    label: str = "embedded",
) -> Path:
    """Write one run as lmms-eval writes it; returns its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    scores: dict[str, Any] = {}
    for kind, own in docs.items():
        aggregations = {
            str(entry["metric"]): getattr(lmms_hooks, entry["aggregation"].rpartition(".")[2])
            for entry in lmms_hooks.task_config(kind)["metric_list"]
            if entry["metric"] != "unscored"
        }
        items: dict[str, list[Any]] = {name: [] for name in aggregations}
        lines = []
        for i, doc in enumerate(own):
            said = answer(kind, doc)
            key = (kind, doc["content_hash"], said)
            if key not in _scored:
                _scored[key] = getattr(lmms_hooks, f"process_{kind}")(doc, [said])
            sample = _scored[key]
            for name, held in items.items():
                held.append(sample[name])
            record = {**sample, "doc_id": i, "target": doc["gt"], "input": doc["question"]}
            lines.append(json.dumps({**record, "mimic": {**sample["mimic"], "run": dict(settings)}}))
        (folder / f"{date}_samples_mimic_{kind}.jsonl").write_text("\n".join(lines) + "\n")
        means = {f"{name},none": aggregations[name](held) for name, held in items.items()}
        scores[f"mimic_{kind}"] = {"alias": kind, **means}
    counts = {f"mimic_{kind}": {"original": len(own), "effective": len(own)} for kind, own in docs.items()}
    results = {
        "results": scores,
        "configs": {task: {"metadata": {"label": label}} for task in scores},
        "n-samples": counts,
        "config": {"model": "llava_ov_mask", "model_args": f"mask={settings['mask']}", "random_seed": 0},
        "date": date,
        "mimic": {"version": "made", "run": dict(settings)},
    }
    (folder / f"{date}_results.json").write_text(json.dumps(results))
    return folder
