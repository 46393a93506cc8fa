"""Means over docs (METHODS 9): of one run with an interval, of two with their test and its interval."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stats._checks import finite_vector, open_unit, within
from stats._intervals import Floats, bounded_ends, summed
from stats.sign_flip import TEST, tested

Bounds = tuple[float, float]
Clusters = Sequence[Hashable] | None


@dataclass(frozen=True)
class MeanInterval:
    """A mean over `n` docs in `units` clusters with its interval; `method` names it or says why not."""

    estimate: float
    low: float | None
    high: float | None
    n: int
    units: int
    method: str
    confidence: float


@dataclass(frozen=True)
class PairedDifference:
    """A difference (`estimate`) with its test's p-value and the interval that goes with the test.

    `spread` is the standard deviation over units behind it, `test` the test's name, `method` the interval's.
    """

    estimate: float
    low: float | None
    high: float | None
    pvalue: float
    n: int
    units: int
    spread: float
    test: str
    method: str
    confidence: float


def mean_interval(
    values: npt.ArrayLike,
    *,
    bounds: Bounds | None = (0.0, 1.0),
    clusters: Clusters = None,
    confidence: float = 0.95,
) -> MeanInterval:
    """The mean over docs with an interval that holds from 8 docs on; for 0/1 scores take `wilson`.

    Within bounds: the score interval at the effective sample size, with Student's quantile; without:
    Student's. When all docs have one value v inside the bounds, p being the exact bound for the share of
    docs unlike them (0 of n - 1, one-sided), the mean lies within v - p (v - bounds[0]) and
    v + p (bounds[1] - v).
    With fewer than 8 units there is no interval (`low` and `high` are None).

    Args:
        values: one finite number per doc, shape (docs,), each within `bounds`.
        bounds: the values a score can take, (0, 1) for shares and F1, (-1, 1) for their differences;
            None if unknown.
        clusters: the cluster of each doc (matched sets, groups that share images), or None if each doc is
            one.
        confidence: between 0 and 1, both excluded.

    Raises:
        ValueError: no doc; NaN or a value outside `bounds`; an option out of its range; not one cluster for
            each doc; all values equal and `bounds` is None.
    """
    confidence = open_unit("confidence", confidence)
    scores = finite_vector("values", values)
    if bounds is not None:
        within("values", scores, bounds, " (`bounds`)")
    mean, influence = mean_influence(scores, clusters)
    low, high, method = bounded_ends(mean, influence, bounds, confidence)
    return MeanInterval(mean, low, high, len(scores), len(influence), method, confidence)


def paired_mean_difference(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    *,
    bounds: Bounds = (-1.0, 1.0),
    clusters: Clusters = None,
    confidence: float = 0.95,
) -> PairedDifference:
    """Mean of a - b over docs, its sign-flip permutation test, and the interval by inverting that test.

    p < 1 - confidence exactly where the interval excludes 0; both have the sign of the estimate.

    Args:
        a: one finite score per doc, shape (docs,).
        b: the same docs in the same order.
        bounds: of a difference.
        clusters: the cluster of each doc, whose signs are flipped together, or None if each doc is one.
        confidence: between 0 and 1, both excluded.

    Raises:
        ValueError: no doc; lengths differ; NaN; a difference outside `bounds`; an option out of its range.
    """
    confidence = open_unit("confidence", confidence)
    left, right = finite_vector("a", a), finite_vector("b", b)
    if len(left) != len(right):
        raise ValueError(f"`a` and `b` must hold the same docs, got {len(left)} and {len(right)}")
    differences = left - right
    differences[np.abs(differences) < 1e-12] = 0.0
    within("a - b", differences, bounds, " (`bounds`)")
    mean, influence = mean_influence(differences, clusters)
    result = tested(mean, influence, summed(differences, clusters), bounds, confidence)
    return PairedDifference(
        mean, result.low, result.high, result.pvalue, len(left), len(influence), result.spread, TEST,
        result.method, confidence,
    )  # fmt: skip


def mean_influence(values: Floats, clusters: Clusters) -> tuple[float, Floats]:
    """The mean over docs, and the influence of each unit."""
    ordered = np.sort(values)
    mean = float(ordered[0]) if ordered[0] == ordered[-1] else float(ordered.mean())
    influence = summed(values - mean, clusters)
    return mean, influence * (len(influence) / len(values))
