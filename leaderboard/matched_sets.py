"""The matched sets of a sweep: its i-th docs of all cells, which are one observation and not several."""

from collections.abc import Sequence

from mimic_eval.records import Sample

INDEPENDENT = "the samples do not contain the matched sets of the sweep: docs are treated as independent"


def matched_sets(samples: Sequence[Sample]) -> list[int] | None:
    """The number of the matched set of each sample, or None if they are not of a sweep or do not contain it.

    New samples carry it (`matched_set`). In older ones it follows from the number of the doc: a sweep's docs
    are stored set by set, every set with the same cells in the same order.

    Args:
        samples: of one task, all that were logged.
    """
    cells = [sample.cell for sample in samples if sample.cell]
    if not cells or len(cells) < len(samples):
        return None
    named = [sample.matched_set for sample in samples if sample.matched_set is not None]
    if len(named) == len(samples):
        return named
    period = len(set(cells))
    docs = [number_of(sample) for sample in samples]
    position: dict[int, str] = {}
    for doc, cell in zip(docs, cells, strict=True):
        if position.setdefault(doc % period, cell) != cell:
            return None
    if len(set(position.values())) < len(position):
        return None
    return [doc // period for doc in docs]


def undetermined(samples: Sequence[Sample]) -> bool:
    """Whether samples are of a sweep whose matched sets cannot be determined."""
    return any(sample.cell for sample in samples) and matched_sets(samples) is None


def number_of(sample: Sample) -> int:
    """The doc's number in the plain task."""
    return sample.ordering.base_doc_id if sample.ordering is not None else sample.doc_id or 0
