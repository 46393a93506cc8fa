"""What lmms-eval calls: the functions that the task YAMLs name, and the YAMLs' common part.

A doc arrives with its pictures as bytes, and is decoded strictly only when a model needs it, so that a
broken picture costs one doc and not the run (METHODS 13, "Unscored").
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mimic_eval.records import (
    CONTROL_COLUMNS,
    TASKS,
    UNSCORED,
    Item,
    Sample,
    Unscorable,
    announced_run,
    content_hash,
    unscored_reason,
)
from mimic_tasks.images import BrokenImage, decode_strict, read_named
from mimic_tasks.prompts import framed, framed_official
from mimic_tasks.task_spec import spec_of

OFFICIAL_DATASET = "anurag4446/mimic"


class Function(str):
    """The dotted name of a function, as a task YAML refers to it (``!function a.b``)."""


POSITION_RSD = "position_rsd"
"""The metric of kinds with positional answers: relative standard deviation of accuracy over positions."""


def task_config(kind: str, *, k: int = 1) -> dict[str, Any]:
    """The part of a task's YAML that does not depend on its data, for questions about `k` classes."""
    spec = spec_of(kind)
    mean = "aggregate_f1" if spec.measure == "corpus_f1" else "aggregate_exact_match"
    official = {f"{spec.metric}_official": mean} if spec.official and k == 1 else {}
    further = dict.fromkeys(spec.further_metrics, "aggregate_exact_match")
    if spec.positional is not None:
        further[POSITION_RSD] = "aggregate_position_rsd"
    aggregations = {spec.metric: mean, **official, **further, "unscored": "aggregate_unscored"}
    if k > 1:
        aggregations["class_accuracy"] = "aggregate_exact_match"
    return {
        "test_split": "test",
        "output_type": "generate_until",
        "process_docs": Function("mimic_tasks.lmms_hooks.keep_bytes"),
        "doc_to_visual": Function("mimic_tasks.lmms_hooks.doc_to_visual"),
        "doc_to_text": Function("mimic_tasks.lmms_hooks.doc_to_text"),
        "doc_to_messages": Function("mimic_tasks.lmms_hooks.doc_to_messages"),
        "doc_to_target": "gt",
        "process_results": Function(f"mimic_tasks.lmms_hooks.process_{kind}"),
        "metric_list": [
            {
                "metric": name,
                "aggregation": Function(f"mimic_tasks.lmms_hooks.{function}"),
                "higher_is_better": name not in ("unscored", POSITION_RSD),
            }
            for name, function in aggregations.items()
        ],
    }


def generation_kwargs(kind: str, k: int = 1, images: int = 0) -> dict[str, Any]:
    """Greedy; no stop but the end token (METHODS 2.1): upstream sets a blank line where none is set."""
    return {
        "max_new_tokens": spec_of(kind).max_new_tokens(k, images),
        "do_sample": False,
        "temperature": 0,
        "until": [],
    }


def official_config(kind: str) -> dict[str, Any]:
    """The YAML of ``mimic_official_<kind>``: the Hub's data, its prompts, its generation settings."""
    prompts = (
        {
            "doc_to_text": Function(f"mimic_tasks.lmms_hooks.official_{kind}_text"),
            "doc_to_messages": Function(f"mimic_tasks.lmms_hooks.official_{kind}_messages"),
        }
        if spec_of(kind).official_frame
        else {}
    )
    return {
        **task_config(kind),
        **prompts,
        "task": f"mimic_official_{kind}",
        "dataset_path": OFFICIAL_DATASET,
        "dataset_name": kind,
        "dataset_kwargs": {"token": False},
        "generation_kwargs": generation_kwargs(kind),
        "metadata": {"version": 1.0, "label": OFFICIAL_DATASET},
    }


def keep_bytes(dataset: Any) -> Any:
    """Leave the pictures encoded: upstream would decode them all, leniently, before any model sees one.

    Docs without a content hash (the official data) get it here, where their pictures can be seen.

    Raises:
        UserError: a package of ours is hidden by another, so that answers could not be scored.
    """
    import datasets

    from mimic_eval.records.packages import check_packages

    check_packages()
    if "images" in dataset.column_names:
        dataset = dataset.cast_column("images", datasets.List(datasets.Image(decode=False)))
    return dataset if "content_hash" in dataset.column_names else dataset.map(_with_hash)


def _with_hash(doc: Mapping[str, Any]) -> dict[str, str]:
    hashes = [hashlib.sha256(image.get("bytes") or b"").hexdigest() for image in doc["images"]]
    return {
        "content_hash": content_hash(
            kind="", question=doc["question"], gt=str(doc["gt"]), image_hashes=hashes
        )
    }


def doc_to_visual(doc: Mapping[str, Any]) -> list[Any]:
    """The doc's pictures in order, RGB.

    Raises:
        Unscorable: a picture is missing, broken, cut off or another one than the doc was made with; the
            message says which and why.
    """
    images = doc["images"]
    if not images:
        raise Unscorable("it has no images")
    pictures = []
    for i, image in enumerate(images):
        try:
            if image is not None and image.get("reason"):
                raise BrokenImage(image["reason"])
            if not image or not image.get("bytes"):
                raise BrokenImage("missing")
            pictures.append(decode_strict(image["bytes"]))
        except BrokenImage as error:
            ids = doc.get("image_ids")
            name = f" (id {ids[i]})" if ids and i < len(ids) else ""
            raise Unscorable(f"image {i + 1} of {len(images)}{name} {error}") from error
    _check_hash(doc, [hashlib.sha256(image["bytes"]).hexdigest() for image in images])
    return pictures


def _check_hash(doc: Mapping[str, Any], image_hashes: Sequence[str]) -> None:
    """That a doc is what it was when it was built.

    Raises:
        Unscorable: its question, truth or pictures do not have its content hash.
    """
    stored = doc.get("content_hash") if {"question", "gt"} <= doc.keys() else None
    kinds = (str(doc.get("task") or "").split("_")[0], "")  # "": hashed here, see `_with_hash`
    if stored is not None and all(
        content_hash(kind=kind, question=doc["question"], gt=str(doc["gt"]), image_hashes=image_hashes)
        != stored
        for kind in kinds
    ):
        raise Unscorable(
            "its pictures, question or truth were changed after the build (its content_hash differs)"
        )


def hooks_of(folder: Path) -> tuple[Callable[..., list[Any]], Callable[..., list[dict[str, Any]]]]:
    """`doc_to_visual` and `doc_to_messages` for docs that name their pictures (`image_files`).

    Args:
        folder: where the names start.
    """

    def with_images(doc: Mapping[str, Any]) -> dict[str, Any]:
        return {**doc, "images": [_named(folder / name) for name in doc["image_files"]]}

    def visual(doc: Mapping[str, Any]) -> list[Any]:
        return doc_to_visual(with_images(doc))

    def messages(doc: Mapping[str, Any], lmms_eval_specific_kwargs: Any = None) -> list[dict[str, Any]]:
        return doc_to_messages(with_images(doc))

    return visual, messages


def _named(file: Path) -> dict[str, Any]:
    """A picture that is named by its SHA-256, or the reason why it cannot be read."""
    try:
        return {"bytes": read_named(file)}
    except BrokenImage as error:
        return {"bytes": None, "reason": str(error)}


def doc_to_text(doc: Mapping[str, Any], lmms_eval_specific_kwargs: Any = None) -> str:
    """The text after the images."""
    return framed(doc["question"])


def doc_to_messages(doc: Mapping[str, Any], lmms_eval_specific_kwargs: Any = None) -> list[dict[str, Any]]:
    """One user turn: all images, then the text."""
    return _messages(doc, doc_to_text(doc))


def official_listing_text(doc: Mapping[str, Any], lmms_eval_specific_kwargs: Any = None) -> str:
    """The official Listing prompt."""
    return framed_official("listing", doc["question"])


def official_listing_messages(
    doc: Mapping[str, Any], lmms_eval_specific_kwargs: Any = None
) -> list[dict[str, Any]]:
    """One user turn with the official Listing prompt."""
    return _messages(doc, official_listing_text(doc))


def _messages(doc: Mapping[str, Any], text: str) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = [{"type": "image", "url": picture} for picture in doc_to_visual(doc)]
    return [{"role": "user", "content": [*content, {"type": "text", "text": text}]}]


def process_counting(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Score one Counting doc."""
    return _process("counting", doc, results[0])


def process_listing(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Score one Listing doc."""
    return _process("listing", doc, results[0])


def process_common(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Score one Common doc."""
    return _process("common", doc, results[0])


def process_oddone(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Score one Odd-One doc."""
    return _process("oddone", doc, results[0])


def __getattr__(name: str) -> Callable[..., dict[str, Any]]:
    """``process_<kind>`` of the other known kinds of tasks, as their task files name it."""
    kind = name.removeprefix("process_")
    if kind == name or kind not in TASKS:
        raise AttributeError(f"module {__name__} has no attribute {name}")

    def process(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
        return _process(kind, doc, results[0])

    return process


def _process(kind: str, doc: Mapping[str, Any], response: str) -> dict[str, Any]:
    return entries_of(sample_of(kind, doc, response))


def entries_of(sample: Sample) -> dict[str, Any]:
    """What a hook returns of a sample."""
    entries = sample.to_json()
    if spec_of(sample.kind).positional is not None:
        scores = sample.position_scores
        entries[POSITION_RSD] = {} if scores is None else {"position_scores": list(scores)}
    return entries


def sample_of(kind: str, doc: Mapping[str, Any], response: str) -> Sample:
    """The answer to a doc with its scores; an unscored doc has none, so that every mean leaves it out."""
    from mimic_tasks.scoring.items import score_both

    spec = spec_of(kind)
    several = varies_k(doc)  # docs of k = 1 among others: every doc has the same metrics
    official = spec.official is not None and not several
    further = (*([f"{spec.metric}_official"] if official else []), *spec.further_metrics)
    sample = Sample(
        items={name: Item() for name in (spec.metric, *further)},
        kind=kind,
        content_hash=doc["content_hash"],
        gt=str(doc["gt"]),
        question=doc["question"],
        sub_task=doc.get("task"),
        controls={name: doc.get(name) for name in CONTROL_COLUMNS},
        run=announced_run(),
        matched_set=matched_set(doc) if doc.get("cell") else None,
        status=UNSCORED,
    )
    reason = unscored_reason(response)
    if reason is not None:
        return replace(sample, reason=reason)
    both = score_both(kind, response, doc)
    items = {spec.metric: Item.from_json(both.ours)}
    accuracy = both.scored.class_accuracy
    if several:
        accuracy = both.scored.score if accuracy is None else accuracy
    if official:
        items[f"{spec.metric}_official"] = Item.from_json(both.official)
    if accuracy is not None:
        items["class_accuracy"] = Item(accuracy)
    items |= {name: Item(value) for name, value in both.scored.further.items()}
    return replace(
        sample,
        items=items,
        response=response,
        position_scores=both.scored.position_scores,
        **both.record(),
    )


def matched_set(doc: Mapping[str, Any]) -> int | None:
    """The number of a sweep doc's matched set, from its `id`: ``counting_n-00012-003`` is of set 12."""
    parts = str(doc.get("id")).rsplit("-", 2)
    return int(parts[1]) if len(parts) == 3 and parts[1].isdecimal() else None


def varies_k(doc: Mapping[str, Any]) -> bool:
    """The doc belongs to a sweep in which k differs from cell to cell."""
    return any(part.startswith("k=") for part in (doc.get("cell") or "").split(","))


def aggregate_exact_match(items: Sequence[Mapping[str, Any]]) -> float | None:
    """The mean score of the scored docs; None if there are none."""
    scores = [item["score"] for item in items if "score" in item]
    return sum(scores) / len(scores) if scores else None


def aggregate_f1(items: Sequence[Mapping[str, Any]]) -> float | None:
    """Micro-F1 over the scored docs; None if there are none (METHODS 2.1, 9)."""
    from stats import f1_from_counts

    counts = [item["counts"] for item in items if "counts" in item]
    return f1_from_counts(*(sum(column) for column in zip(*counts, strict=True))).f1 if counts else None


def aggregate_position_rsd(items: Sequence[Mapping[str, Any]]) -> float | None:
    """The relative standard deviation over positions of the mean score (METHODS 16.1).

    None if every score is 0 or no doc is scored.
    """
    from stats import relative_deviation

    answers = [item["position_scores"] for item in items if "position_scores" in item]
    return relative_deviation(answers, range(len(answers)), draws=0).estimate if answers else None


def aggregate_unscored(items: Sequence[int]) -> int:
    """How many docs have no answer."""
    return sum(items)
