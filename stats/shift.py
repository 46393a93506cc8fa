"""The Hodges-Lehmann shift of paired differences (METHODS 9) with its distribution-free interval."""

from dataclasses import dataclass
from math import floor, sqrt

import numpy as np
import numpy.typing as npt

from stats._checks import finite_vector, open_unit, within
from stats._intervals import Floats

EXACT_DOCS = 50
"""Up to this many docs the ends come from the exact null distribution of the signed-rank statistic."""

_ALL_AVERAGES = 2_000
"""Up to this many docs all Walsh averages are computed (2 million); beyond, they are counted."""


@dataclass(frozen=True)
class Shift:
    """The median of Walsh averages over `n` docs with its interval; `method` names it."""

    estimate: float
    low: float
    high: float
    n: int
    method: str
    confidence: float


def hodges_lehmann(
    differences: npt.ArrayLike, *, confidence: float = 0.95, bounds: tuple[float, float] | None = None
) -> Shift:
    """Median of the Walsh averages (d_i + d_j) / 2, i <= j (Hodges and Lehmann 1963), with its interval.

    The interval inverts the signed-rank test (Hollander and Wolfe 1999, section 3.3): its ends are Walsh
    averages, the rank of the lower one from the null distribution of the statistic: exact up to 50 docs,
    normal beyond. With ties and zeros its coverage is at least nominal for symmetric differences.

    Few docs give no such interval (fewer than 6 at 95 %): it is then `bounds`, or an error without them.

    Args:
        differences: one per doc, finite, shape (docs,). Memory is bounded for many docs.
        confidence: between 0 and 1, both excluded.
        bounds: what a difference can be, (-1, 1) for scores within [0, 1], or None if unknown.

    Raises:
        ValueError: no doc; NaN or infinite; outside `bounds`; too few docs for an interval and no `bounds`.
    """
    confidence = open_unit("confidence", confidence)
    data = np.sort(finite_vector("differences", differences)) + 0.0  # no -0.0
    if bounds is not None:
        within("differences", data, bounds, " (`bounds`)")
    n = len(data)
    averages = n * (n + 1) // 2
    rank = _lower_rank(n, confidence)
    middle = ((averages + 1) // 2, averages // 2 + 1)
    ranks = middle if rank == 0 else (*middle, rank, averages + 1 - rank)
    sums = _walsh(data, ranks)
    estimate = sums[0] if middle[0] == middle[1] else (sums[0] + sums[1]) / 2
    if rank == 0:
        low, high = _trivial(n, confidence, bounds)
        return Shift(estimate, low, high, n, "too few docs: the bounds of a difference", confidence)
    kind = "exact" if n <= EXACT_DOCS else "normal approximation"
    return Shift(estimate, sums[2], sums[3], n, f"inverted signed-rank test, {kind}", confidence)


def _lower_rank(n: int, confidence: float) -> int:
    """The largest rank c with P(statistic < c) <= (1 - confidence) / 2 under the null; 0: there is none."""
    tail = (1 - confidence) / 2
    if n <= EXACT_DOCS:
        return int(np.searchsorted(np.cumsum(_null(n)), tail * (1 + 1e-12), "right"))
    from scipy.special import ndtri

    mean, variance = n * (n + 1) / 4, n * (n + 1) * (2 * n + 1) / 24
    # P(statistic <= c - 1) with a continuity correction: (c - 1/2 - mean) / sd <= z.
    return max(0, floor(mean + float(ndtri(tail)) * sqrt(variance) + 0.5))


def _null(n: int) -> Floats:
    """P(sum of the positive ranks = s) for s = 0..n (n + 1) / 2, ranks 1..n, each sign with chance 1/2."""
    chance = np.zeros(n * (n + 1) // 2 + 1)
    chance[0] = 1.0
    for rank in range(1, n + 1):
        moved = np.zeros_like(chance)
        moved[rank:] = chance[:-rank]
        chance = (chance + moved) / 2
    return chance


def _walsh(data: Floats, ranks: tuple[int, ...]) -> list[float]:
    """The Walsh averages of sorted `data` at these ranks (1 = the smallest)."""
    if len(data) > _ALL_AVERAGES:
        return [_counted(data, rank) / 2 for rank in ranks]
    rows, columns = np.triu_indices(len(data))
    sums = data[rows] + data[columns]
    sums.partition([rank - 1 for rank in ranks])
    return [float(sums[rank - 1]) / 2 for rank in ranks]


def _counted(data: Floats, rank: int) -> float:
    """The sum d_i + d_j, i <= j, at `rank`, by bisection: sums at or below a value are counted."""
    least, most = 2 * float(data[0]), 2 * float(data[-1])
    under, over = least - (most - least), most
    # Invariant: fewer than `rank` sums are at or below `under`, at least `rank` at or below `over`.
    while under < (middle := under + (over - under) / 2) < over:
        if _at_or_below(data, middle) >= rank:
            over = middle
            continue
        under = middle
        if _at_or_below(data, following := _next_sum(data, under)) >= rank:
            return following
    return _next_sum(data, under)


def _at_or_below(data: Floats, value: float) -> int:
    """How many sums d_i + d_j, i <= j, of sorted `data` are at most `value`."""
    counts = np.searchsorted(data, value - data, "right") - np.arange(len(data))
    return int(counts[counts > 0].sum())


def _next_sum(data: Floats, value: float) -> float:
    """The smallest sum d_i + d_j, i <= j, above `value`: per i the first j >= i that gives one."""
    first = np.maximum(np.searchsorted(data, value - data, "right"), np.arange(len(data)))
    inside = first < len(data)
    return float((data[inside] + data[first[inside]]).min(initial=2 * float(data[-1])))


def _trivial(n: int, confidence: float, bounds: tuple[float, float] | None) -> tuple[float, float]:
    if bounds is None:
        came = f"{n} doc{'s' * (n > 1)}"
        raise ValueError(f"{came} are too few for a {confidence:.4g} interval of the shift; give `bounds`")
    return bounds
