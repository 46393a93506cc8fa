"""The paired sign-flip permutation test, and the interval of the difference that goes with it (METHODS 9)."""

from dataclasses import dataclass
from math import ceil, sqrt
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stats._checks import finite_vector
from stats._intervals import ALIKE, LEAST_UNITS, TOO_FEW, Floats, alike_ends
from stats._sign_sums import at_most

_CELLS = (2**14, 2**16)
"""Weights that are no small integers are rounded to a share of their sum: 50 parts a doc, within these."""

TEST = "paired sign-flip permutation"
INVERTED = "inverted sign-flip test"


@dataclass(frozen=True)
class SignFlip:
    """The sign-flip test of paired differences: their sum, its two-sided p-value, and the method."""

    statistic: float
    pvalue: float
    n: int
    zeros: int
    method: str


class Tested(NamedTuple):
    """A difference's p-value with the interval that excludes 0 where p is below 1 - confidence.

    `spread` is the standard deviation of the units' influence.
    """

    pvalue: float
    low: float | None
    high: float | None
    spread: float
    method: str


def sign_flip(differences: npt.ArrayLike) -> SignFlip:
    """The permutation test of paired differences (Fisher 1935, section 21; Pitman 1937), two-sided.

    Under the null the two conditions of a doc are exchangeable: each difference may have either sign. p is
    the share of all assignments of signs whose sum is at least as far from 0. Sums are counted, not drawn
    (of many docs by inversion of the characteristic function, to 11 digits): with integers exactly, otherwise
    with weights rounded to 1/16,384 of their sum or less, sums within the rounding error counting as equal
    (so p errs upwards). For 0/1 scores this is McNemar's exact test.

    Args:
        differences: one for each doc (or cluster), finite, shape (docs,).

    Raises:
        ValueError: no doc; NaN or infinite.
    """
    values = np.sort(finite_vector("differences", differences))
    weights = np.abs(values[values != 0])
    n, zeros, statistic = len(values), int((values == 0).sum()), float(values.sum())
    if not len(weights):
        return SignFlip(0.0, 1.0, n, zeros, f"{TEST}, no doc differs")
    counts, slack = _as_integers(weights)
    positive = values[values != 0] > 0
    less = min(int(counts[positive].sum()), int(counts[~positive].sum())) + ceil(slack / 2)
    return SignFlip(statistic, min(1.0, 2 * at_most(less, counts)), n, zeros, f"{TEST}, all signs")


def _as_integers(weights: Floats) -> tuple[npt.NDArray[np.int64], float]:
    """Positive weights on a lattice, and how far a sum can be off (two standard deviations)."""
    least = float(weights.min())
    if (weights == np.rint(weights)).all() and weights.sum() < 2**53:
        steps = [float(np.gcd.reduce(weights.astype(np.int64)))]
    else:
        steps = [least / part for part in (1, 2, 3, 4, 6, 12)]
    for step in steps:
        counts = np.rint(weights / step)
        if counts.sum() <= _CELLS[1] and np.allclose(counts * step, weights, rtol=1e-9, atol=0):
            return counts.astype(np.int64), 0.0
    parts = np.clip(50 * len(weights), *_CELLS)
    counts = np.rint(weights / weights.sum() * parts)
    return counts.astype(np.int64), sqrt(len(weights) / 3)


def tested(
    estimate: float, influence: Floats, flipped: Floats, bounds: tuple[float, float], confidence: float
) -> Tested:
    """The sign-flip test of a difference and its interval, from one statistic.

    The test's large-sample form, z = sum / root of the sum of squares, is inverted: the interval is
    estimate +- z s / sqrt(n - z^2), s^2 the mean squared influence; it is a little wider than Student's.
    Where all units agree on a value v, it is `alike_ends`, whose p is (bound / (bound + |v|))^(n - 1).
    p is the larger of the counted one and the interval's. Where p >= 1 - confidence, 0 belongs to the
    interval, which is extended to it. So p < 1 - confidence exactly where the interval excludes 0.

    Args:
        estimate: the difference.
        influence: of each unit, mean 0.
        flipped: what each unit adds to the tested sum, which has the estimate's sign.
        bounds: of the difference.
        confidence: between 0 and 1, both excluded.
    """
    from scipy.special import ndtr, ndtri

    n, variance = len(influence), float(np.mean(np.sort(influence**2)))
    spread = sqrt(variance)
    counted = sign_flip(flipped).pvalue
    if n < LEAST_UNITS:
        return Tested(counted, None, None, spread, TOO_FEW)
    z = float(ndtri(0.5 + confidence / 2))
    if n <= z * z:
        return Tested(counted, *bounds, spread, "bounds of the difference: too few for this confidence")
    if variance <= 1e-24:
        far = -bounds[0] if estimate > 0 else bounds[1]
        p = max(counted, (far / (far + abs(estimate))) ** (n - 1))
        low, high = alike_ends(estimate, n, bounds, confidence)
        method = ALIKE
    else:
        p = max(counted, 2 * float(ndtr(-sqrt(n * estimate**2 / (variance + estimate**2)))))
        half = z * spread / sqrt(n - z * z)
        low, high, method = estimate - half, estimate + half, INVERTED
    if p >= 1 - confidence:
        low, high = min(low, 0.0), max(high, 0.0)
    return Tested(p, max(bounds[0], low), min(bounds[1], high), spread, method)
