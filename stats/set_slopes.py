"""The slope of a score over a control within matched sets of a sweep (METHODS 9: sets are clusters)."""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stats._checks import finite_vector, within
from stats._intervals import Floats


class SetSlopes(NamedTuple):
    """Slope of each set in the order of first appearance, NaN where x never varies, shape (sets,).

    `steepest` is the largest slope that scores within [0, 1] can have in any of these sets.
    """

    slopes: Floats
    steepest: float


def set_slopes(
    x: npt.ArrayLike,
    scores: npt.ArrayLike,
    sets: Sequence[Hashable],
    strata: Sequence[Hashable] | None = None,
) -> SetSlopes:
    """Least-squares slope of the score on x within each set.

    A set with several strata (other controls that the sweep varies) has an intercept for each of them and
    one slope, so that only docs that differ in nothing but x are compared. The sets are the independent
    observations: the mean of their slopes, with an interval or a paired test over sets, is a regression with
    an intercept for each set and stratum and cluster-robust errors (Liang and Zeger 1986), exactly so where
    all sets have the same x.

    Args:
        x: of each doc, finite, shape (docs,); log2 of the number of images gives slopes per doubling.
        scores: of each doc, within [0, 1], shape (docs,).
        sets: the matched set of each doc.
        strata: of each doc, what else its cell varies, or None if nothing.

    Raises:
        ValueError: no doc; lengths differ; NaN; a score outside [0, 1].
    """
    values, right = finite_vector("x", x), finite_vector("scores", scores)
    within("scores", right, (0.0, 1.0))
    others = [None] * len(values) if strata is None else strata
    if not len(values) == len(right) == len(sets) == len(others):
        lengths = f"{len(values)}, {len(right)}, {len(sets)} and {len(others)}"
        raise ValueError(
            f"`x`, `scores`, `sets` and `strata` must have one value for each doc, got {lengths}"
        )
    of_set = _numbers(sets)
    groups = _numbers(list(zip(sets, others, strict=True)))
    apart = _centred(values, groups)
    apart[np.abs(apart) < 1e-9 * max(1.0, float(np.abs(values).max()))] = 0.0
    spread = np.bincount(of_set, apart**2)
    varies = spread > 0
    slopes = np.full(len(spread), np.nan)
    slopes[varies] = np.bincount(of_set, apart * right)[varies] / spread[varies]
    slopes[np.abs(slopes) < 1e-12] = 0.0
    if not varies.any():
        return SetSlopes(slopes, 0.0)
    # Right where x is above its mean and wrong below: sum of |x - mean| / 2 over the spread.
    largest = np.bincount(of_set, np.abs(apart))[varies] / 2 / spread[varies]
    return SetSlopes(slopes, float(largest.max()) * (1 + 1e-9))


def _numbers(names: Sequence[Hashable]) -> npt.NDArray[np.int64]:
    """Of each name its number in the order of first appearance."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64)


def _centred(values: Floats, groups: npt.NDArray[np.int64]) -> Floats:
    means = np.bincount(groups, values) / np.bincount(groups)
    return np.asarray(values - means[groups])
