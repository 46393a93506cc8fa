"""Intervals of estimates that are sums over units (docs, or clusters of them), from each unit's influence."""

from collections.abc import Hashable, Sequence
from math import sqrt

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

LEAST_UNITS = 8
"""With fewer units no interval over them is given (METHODS 9)."""

SCORE = "score interval, t quantile, effective sample size"
ALIKE = "all alike: exact bound on the share of others"
T = "t interval"
TOO_FEW = f"no interval below {LEAST_UNITS} docs"


def summed(values: Floats, clusters: Sequence[Hashable] | None) -> Floats:
    """Sums over the docs of each cluster, shape (docs, ...) to (clusters, ...), or None if each doc is one.

    Raises:
        ValueError: not one cluster for each doc, or one that is None or NaN.
    """
    if clusters is None:
        return values
    if len(clusters) != len(values):
        raise ValueError(
            f"`clusters` must name the cluster of each of {len(values)} docs, got {len(clusters)}"
        )
    numbers: dict[Hashable, int] = {}
    for doc, cluster in enumerate(clusters):
        if cluster is None or cluster != cluster:
            raise ValueError(f"`clusters` must name a cluster for each doc, got {cluster} at doc {doc}")
        numbers.setdefault(cluster, len(numbers))
    sums = np.zeros((len(numbers), *values.shape[1:]))
    np.add.at(sums, [numbers[cluster] for cluster in clusters], values)
    return sums


def bounded_ends(
    estimate: float, influence: Floats, bounds: tuple[float, float] | None, confidence: float
) -> tuple[float | None, float | None, str]:
    """The interval of one estimate, and its name.

    Within bounds it is Wilson's score interval with the sample size that gives this variance to a
    proportion (Korn and Graubard 1998 take the same size), and Student's quantile: no end leaves the
    bounds, and at a bound it is the interval of as many right or wrong docs. All equal inside the bounds:
    `alike_ends`. Without bounds: Student's interval.

    Args:
        estimate: the statistic.
        influence: of each unit, mean 0, such that the statistic's variance is theirs over the units.
        bounds: of the statistic.
        confidence: between 0 and 1, both excluded.

    Raises:
        ValueError: all influences are 0 and there are no bounds.
    """
    from scipy.special import stdtrit

    n = len(influence)
    if n < LEAST_UNITS:
        return None, None, TOO_FEW
    variance = float(np.sort(influence**2).sum()) / (n - 1)  # whatever the order of the docs
    t = float(stdtrit(n - 1, 0.5 + confidence / 2))
    if bounds is None:
        if variance == 0:
            raise ValueError(f"all {n} values are equal: they give no interval without `bounds`")
        half = t * sqrt(variance / n)
        return estimate - half, estimate + half, T
    low, high = bounds
    width = high - low
    share = (estimate - low) / width
    room = share * (1 - share)
    at_bound = room < 1e-12
    if variance <= 1e-24 * width**2 and not at_bound:
        return *alike_ends(estimate, n, bounds, confidence), ALIKE
    effect = 1.0 if at_bound else variance / width**2 / room
    k = t * t * effect / n
    centre = (share + k / 2) / (1 + k)
    half = sqrt(k * room + k * k / 4) / (1 + k)
    ends = (max(0.0, centre - half), min(1.0, centre + half))
    return low + width * min(ends[0], share), low + width * max(ends[1], share), SCORE


def unseen_share(units: int, confidence: float) -> float:
    """Upper bound for the share of units unlike the ones seen, when all `units` seen are alike.

    The first unit defines the value, the others are trials without an event: the exact one-sided
    bound for 0 of units - 1 (Clopper and Pearson 1934), 1 for a single unit.
    """
    return 1.0 if units < 2 else 1 - (1 - confidence) ** (1 / (units - 1))


def alike_ends(
    value: float, units: int, bounds: tuple[float, float], confidence: float
) -> tuple[float, float]:
    """Where the mean of bounded values can lie when all `units` seen equal `value`: see `unseen_share`."""
    share = unseen_share(units, confidence)
    return value - share * (value - bounds[0]), value + share * (bounds[1] - value)
