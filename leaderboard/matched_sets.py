"""The matched sets of a sweep: its i-th docs of all cells, which are one observation and not several."""

from collections.abc import Mapping, Sequence
from typing import Any

INDEPENDENT = "the samples do not tell the sweep's matched sets: its docs are treated as independent"


def matched_sets(samples: Sequence[Mapping[str, Any]]) -> list[int] | None:
    """The number of the matched set of each sample; None where they are of no sweep, or cannot tell.

    New samples carry it (`matched_set`). In older ones it follows from the number of the doc: a sweep's docs
    are stored set by set, every set with the same cells in the same order.

    Args:
        samples: of one task, all that were logged.
    """
    records = [sample.get("mimic") or {} for sample in samples]
    if not records or not all(record.get("cell") for record in records):
        return None
    named = [record.get("matched_set") for record in records]
    if all(isinstance(number, int) for number in named):
        return [int(number) for number in named if number is not None]
    cells = {record["cell"] for record in records}
    docs = [
        int(record.get("base_doc_id", sample["doc_id"]))
        for sample, record in zip(samples, records, strict=True)
    ]
    position: dict[int, str] = {}
    for doc, record in zip(docs, records, strict=True):
        if position.setdefault(doc % len(cells), record["cell"]) != record["cell"]:
            return None
    if len(set(position.values())) < len(position):
        return None
    return [doc // len(cells) for doc in docs]


def undetermined(samples: Sequence[Mapping[str, Any]]) -> bool:
    """Whether samples are of a sweep whose matched sets they cannot tell."""
    return (
        any((sample.get("mimic") or {}).get("cell") for sample in samples) and matched_sets(samples) is None
    )
