"""What lmms-eval calls for the permuted tasks: a plain task's functions, with the row's order applied."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mimic_eval.records import OVER_ORDERS, TASKS, Item, Ordering, UserError, doc_means
from mimic_tasks import lmms_hooks
from mimic_tasks.locate import VARIABLE
from mimic_tasks.permuted import expand as rows
from mimic_tasks.permuted.orders import orders_from_environment
from mimic_tasks.task_spec import spec_of


def metric_name(plain: str) -> str:
    """What a plain task's metric is called here, where it is a mean over docs of the mean over orders.

    Listing's is the F1 of each doc, not the F1 over the corpus: ``doc_f1_over_orders``.
    """
    name = plain.removesuffix("_official")
    return f"{'doc_f1' if name == 'f1' else name}{OVER_ORDERS}{plain[len(name) :]}"


def expand(dataset: Any) -> Any:
    """One row for each doc and order; pictures stay encoded.

    Raises:
        UserError: `MIMIC_ORDERS` or `MIMIC_SEED` is wrong, or does not suit the docs.
    """
    return rows.expand(lmms_hooks.keep_bytes(dataset), orders_from_environment())


def expand_embedded(dataset: Any) -> Any:
    """The same for the packaged task files, which read the embedded data.

    Raises:
        UserError: as above; `MIMIC_DATA` names other data.
    """
    if os.environ.get(VARIABLE):
        raise UserError(
            f"the packaged permuted tasks read the embedded data, but {VARIABLE} is set: unset it, or use "
            "the lmms_eval command of mimic-eval, which makes them for that folder"
        )
    return expand(dataset)


def doc_to_visual(doc: Mapping[str, Any]) -> list[Any]:
    """The row's pictures in its order, RGB.

    Raises:
        Unscorable: see the plain task's.
    """
    return lmms_hooks.doc_to_visual(_in_order(doc))


def doc_to_messages(doc: Mapping[str, Any], lmms_eval_specific_kwargs: Any = None) -> list[dict[str, Any]]:
    """One user turn: all images in the row's order, then the text."""
    return lmms_hooks.doc_to_messages(_in_order(doc))


def _in_order(doc: Mapping[str, Any]) -> dict[str, Any]:
    return {**doc, "images": [doc["images"][i] for i in doc["order"]]}


def process_counting(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Score one order of a Counting doc."""
    return _process("counting", doc, results[0])


def process_listing(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Score one order of a Listing doc."""
    return _process("listing", doc, results[0])


def process_common(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Score one order of a Common doc."""
    return _process("common", doc, results[0])


def process_oddone(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Score one order of an Odd-One doc."""
    return _process("oddone", doc, results[0])


def __getattr__(name: str) -> Callable[..., dict[str, Any]]:
    """``process_<kind>`` of the other known kinds of tasks, as in `lmms_hooks`."""
    kind = name.removeprefix("process_")
    if kind == name or kind not in TASKS:
        raise AttributeError(f"module {__name__} has no attribute {name}")

    def process(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
        return _process(kind, doc, results[0])

    return process


def _process(kind: str, doc: Mapping[str, Any], response: str) -> dict[str, Any]:
    """The sample's entries: each item names its doc, `mimic` holds the order and the positions of targets.

    Positional answers are recorded for the images as they are stored, so that they can be compared.
    """
    plain = lmms_hooks.sample_of(kind, doc, response)
    items = dict(plain.items)
    if plain.unscored and "class_accuracy" in _metrics_of(doc):
        items["class_accuracy"] = Item()
    number = doc["base_doc_id"]
    positional = spec_of(kind).positional
    parsed = plain.parsed
    if positional is not None and parsed is not None:
        parsed = positional.as_stored(parsed, doc["order"])
    sample = replace(
        plain,
        items={metric_name(name): replace(item, doc=number) for name, item in items.items()},
        parsed=parsed,
        ordering=Ordering.from_json({**doc, "target_positions": target_positions(doc)}, "a permuted row"),
    )
    return lmms_hooks.entries_of(sample)


def _metrics_of(doc: Mapping[str, Any]) -> tuple[str, ...]:
    """What is reported beside the headline: with several target classes the share of right ones."""
    several = (doc.get("k") or 1) > 1 or lmms_hooks.varies_k(doc)
    return ("class_accuracy",) if several else ()


def target_positions(doc: Mapping[str, Any]) -> list[int] | None:
    """The positions, from 0, of the images with a target in this order, or None if the doc has no boxes."""
    if doc.get("boxes") is None:
        return None
    return [position for position, boxes in enumerate(doc["boxes"]) if any(box["target"] for box in boxes)]


def aggregate_over_orders(items: Iterable[Mapping[str, Any]]) -> float | None:
    """The mean over docs of the mean over the doc's orders; None if no doc has all its orders scored."""
    means, _ = doc_means(items)
    return sum(means) / len(means) if means else None


def aggregate_position_rsd(items: Sequence[Mapping[str, Any]]) -> float | None:
    """As the plain task's, over all orders."""
    return lmms_hooks.aggregate_position_rsd(items)


def aggregate_docs(items: Iterable[Mapping[str, Any]]) -> int:
    """The number of docs."""
    return len({item["doc"] for item in items})


def aggregate_unscored(items: Iterable[Mapping[str, Any]]) -> int:
    """How many docs have an order without an answer."""
    return len({item["doc"] for item in items if item["unscored"]})
