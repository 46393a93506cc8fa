"""Micro F1 over a corpus of lists (METHODS 9: Listing's headline): of one run, and of two with their test."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stats._checks import open_unit
from stats._intervals import Floats, bounded_ends, summed
from stats.means import Clusters, PairedDifference
from stats.sign_flip import TEST, tested

Counts = npt.NDArray[np.int64]

PerDoc = tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike]
"""`recalled`, `generated` and `relevant` as `micro_f1` takes them, integers, each of shape (docs,)."""


class F1(NamedTuple):
    """Precision, recall and their harmonic mean, each within [0, 1]."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class F1Interval:
    """Corpus micro F1 (`estimate`) with its interval, and what it was computed from."""

    estimate: float
    low: float | None
    high: float | None
    precision: float
    recall: float
    docs: int
    units: int
    method: str
    confidence: float


def f1_from_counts(recalled: int, generated: int, relevant: int) -> F1:
    """Precision = recalled / generated, recall = recalled / relevant, F1 = 2PR / (P + R).

    A ratio with nothing below the line is 0; F1 is 0 when both are 0.
    """
    precision = recalled / generated if generated else 0.0
    recall = recalled / relevant if relevant else 0.0
    both = precision + recall
    return F1(precision, recall, 2 * precision * recall / both if both else 0.0)


def micro_f1(
    recalled: npt.ArrayLike,
    generated: npt.ArrayLike,
    relevant: npt.ArrayLike,
    *,
    clusters: Clusters = None,
    confidence: float = 0.95,
) -> F1Interval:
    """Micro F1 over the corpus: counts are summed over docs before the ratios are taken (METHODS 9).

    The interval is `mean_interval`'s, from the influence of each doc (the infinitesimal jackknife of the
    ratio 2 recalled / (generated + relevant)); with fewer than 8 units there is none.

    Args:
        recalled: right items in the answer, integers, shape (docs,).
        generated: items in the answer, integers, shape (docs,), each >= recalled.
        relevant: items in the ground truth, integers, shape (docs,), each >= recalled.
        clusters: the cluster of each doc, or None if each doc is one.
        confidence: between 0 and 1, both excluded.

    Raises:
        ValueError: no doc; shapes differ or are not (docs,); not integers; negative counts; more
            recalled than generated or relevant; not one cluster for each doc; an option out of its range.
    """
    confidence = open_unit("confidence", confidence)
    counts = _counts((recalled, generated, relevant))
    precision, recall, estimate = _totals(counts)
    influence = _influence(summed(counts.astype(np.float64), clusters))
    low, high, method = bounded_ends(estimate, influence, (0.0, 1.0), confidence)
    return F1Interval(estimate, low, high, precision, recall, len(counts), len(influence), method, confidence)


def micro_f1_difference(
    counts_a: PerDoc, counts_b: PerDoc, *, clusters: Clusters = None, confidence: float = 0.95
) -> PairedDifference:
    """Corpus micro F1 under a minus that under b, its permutation test and the interval (METHODS 9).

    The test exchanges a doc's counts between the conditions. F1_a - F1_b = 4 (K R - S G) / (K^2 - G^2), where
    R and G are the differences of recalled and of generated + relevant, S and K their sums over both.
    Exchanges leave K and S alone: each doc adds K r - S g to a sum that has the difference's sign, and an
    exchange turns the sign of what it adds (`sign_flip`). The interval excludes 0 exactly where
    p < 1 - confidence.

    Args:
        counts_a: (recalled, generated, relevant) under a, integers as in `micro_f1`, shape (docs,) each.
        counts_b: the same of the same docs, in the same order, under b.
        clusters: the cluster of each doc, whose counts are exchanged together, or None if each doc is one.
        confidence: between 0 and 1, both excluded.

    Raises:
        ValueError: as `micro_f1`; not three arrays; the numbers of docs differ.
    """
    confidence = open_unit("confidence", confidence)
    paired = paired_counts(counts_a, counts_b, clusters)
    result = tested(paired.difference, paired.influence, paired.exchanged, (-1.0, 1.0), confidence)
    return PairedDifference(
        paired.difference, result.low, result.high, result.pvalue, paired.docs, len(paired.influence),
        result.spread, f"{TEST} of counts", result.method, confidence,
    )  # fmt: skip


class PairedCounts(NamedTuple):
    """F1_a - F1_b over `docs`, the influence of each unit on it, and what each adds to the tested sum."""

    docs: int
    difference: float
    influence: Floats
    exchanged: Floats


def paired_counts(counts_a: PerDoc, counts_b: PerDoc, clusters: Clusters) -> PairedCounts:
    """Two conditions on the same docs, as `micro_f1_difference` takes them.

    Raises:
        ValueError: as there.
    """
    a, b = _counts(counts_a, "counts_a"), _counts(counts_b, "counts_b")
    if len(a) != len(b):
        raise ValueError(f"`counts_a` and `counts_b` must hold the same docs, got {len(a)} and {len(b)}")
    left, right = (summed(counts.astype(np.float64), clusters) for counts in (a, b))
    influence = _influence(left) - _influence(right)
    return PairedCounts(len(a), _totals(a).f1 - _totals(b).f1, influence, _exchanged(left, right))


def _totals(counts: Counts) -> F1:
    return f1_from_counts(*(int(total) for total in counts.sum(axis=0)))


def _influence(units: Floats) -> Floats:
    """Of each unit on F1, mean 0, shape (units,); `units` holds counts, shape (units, 3)."""
    recalled, below = units[:, 0], units[:, 1] + units[:, 2]
    if not below.sum():
        return np.zeros(len(units))
    f1 = 2 * recalled.sum() / below.sum()
    influence: Floats = (2 * recalled - f1 * below) * (len(units) / below.sum())
    return np.where(np.abs(influence) < 1e-12, 0.0, influence)


def _exchanged(a: Floats, b: Floats) -> Floats:
    """What each unit adds to the tested sum, integers, shape (units,)."""
    difference, total = a - b, a + b
    below = total[:, 1:].sum()
    added: Floats = difference[:, 0] * below - difference[:, 1:].sum(axis=1) * total[:, 0].sum()
    return added


def _counts(given: PerDoc, name: str = "counts") -> Counts:
    """The three count arrays as one, shape (docs, 3)."""
    if len(given) != 3:
        raise ValueError(f"`{name}` must be (recalled, generated, relevant), got {len(given)} arrays")
    named = zip(("recalled", "generated", "relevant"), given, strict=True)
    columns = [(each, np.asarray(values)) for each, values in named]
    shapes = {name: values.shape for name, values in columns}
    docs = columns[0][1].shape
    if len(docs) != 1 or any(shape != docs for shape in shapes.values()):
        sizes = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"counts must be three arrays of one shape (docs,), got {sizes}")
    if docs[0] == 0:
        raise ValueError("micro F1 needs at least 1 doc, got 0")
    for name, values in columns:
        if not np.issubdtype(values.dtype, np.integer):
            raise ValueError(f"`{name}` must hold integers >= 0, got {values.dtype}")
        if values.min() < 0:
            raise ValueError(f"`{name}` must hold integers >= 0, got {values.min()}")
    counts: Counts = np.stack([values.astype(np.int64) for _, values in columns], axis=1)
    for other, name in ((1, "generated"), (2, "relevant")):
        over = np.flatnonzero(counts[:, 0] > counts[:, other])
        if len(over):
            doc = int(over[0])
            came = f"{counts[doc, 0]} > {counts[doc, other]} at doc {doc}"
            raise ValueError(f"`recalled` must not exceed `{name}`, got {came}")
    return counts
