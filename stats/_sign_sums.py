"""The chance that weights with random signs have a small sum of negative ones: counted, or by inversion."""

from math import ceil, exp, log, pi, sqrt

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_HALVED = 512
"""Weights after which chances are scaled, so that no number overflows."""

_LONG = 300_000
"""Weights times sums from which on inversion is faster."""

_NOTHING = 38.0
"""Terms below exp(-38) are left out."""


def at_most(less: int, weights: Integers) -> float:
    """Chance that the weights with a negative sign (each has one with chance 1/2) sum to `less` or below.

    Args:
        less: at least 0 and at most half of the sum of all weights.
        weights: positive, shape (units,).
    """
    return (inverted if len(weights) * less > _LONG else counted)(less, weights)


def counted(less: int, weights: Integers) -> float:
    """`at_most` by adding up the chances of all sums.

    The sums of either half of the weights are counted, then put together: the arrays are half as long.
    """
    ordered = np.sort(weights)
    here, there = _sums(ordered[::2], less), _sums(ordered[1::2], less)
    up_to = np.cumsum(there)
    rest = np.minimum(less - np.arange(len(here)), len(there) - 1)
    return float(here @ up_to[rest])


def _sums(weights: Integers, most: int) -> Floats:
    """Chance of each sum of the negative weights from 0 to `most` (or to the largest), weights ascending."""
    chance, spare = np.zeros((2, min(int(weights.sum()), most) + 1))
    chance[0] = 1.0
    top = 0
    for i, weight in enumerate(weights.tolist(), 1):
        top = min(top + weight, len(chance) - 1)
        end = min(weight, top + 1)
        spare[:end] = chance[:end]
        np.add(chance[end : top + 1], chance[: top + 1 - end], out=spare[end : top + 1])
        chance, spare = spare, chance
        if i % _HALVED == 0:
            chance *= 2.0**-_HALVED  # the halving of so many steps at once
    return np.asarray(chance * 2.0 ** -(len(weights) % _HALVED))


def inverted(less: int, weights: Integers) -> float:
    """`at_most` by inversion of the characteristic function, with a relative error below 1e-11.

    The signs are tilted: a weight w is negative with chance r^w / (1 + r^w), r such that the mean sum is
    `less`. So also the smallest chance is near the middle of a distribution (Daniels 1954). The discrete
    Fourier transform has so many points that what lies outside has a chance below 2 exp(-38) (Hoeffding
    1963); points at which the function is below exp(-38) are left out, which leaves a few hundred.
    """
    values, times = np.unique(weights, return_counts=True)
    sizes = values.astype(np.float64)
    deviation = sqrt(float(sizes * sizes @ times)) / 2
    decay = _decay(less, sizes, times, deviation)
    odds = np.exp(-decay * sizes)
    points = min(int(values @ times) + 1, 2 * ceil(sqrt(2 * _NOTHING) * deviation) + 1)
    sines = np.sin(pi / points * np.arange(points)) ** 2
    shrink = -4 * odds / (1 + odds) ** 2
    at, logs = np.arange(points // 2 + 1), np.zeros(points // 2 + 1)
    for i in np.argsort(times * shrink):
        logs += times[i] / 2 * np.log1p(np.maximum(shrink[i] * sines[at * values[i] % points], -1 + 1e-16))
        kept = np.flatnonzero(logs > -_NOTHING)
        at, logs = at[kept], logs[kept]
    angles = 2 * pi / points * (np.multiply.outer(at, values) % points)
    phases = np.angle(1 + odds * np.exp(1j * angles)) @ times - 2 * pi / points * (at * less % points)
    step = 2j * pi / points * at - decay
    below = np.expm1(min(less + 1, points // 2 + 1) * step) / np.expm1(step)
    twice = np.where((at == 0) | (2 * at == points), 1.0, 2.0)
    tilted = float((np.exp(logs + 1j * phases) * below).real @ twice) / points
    return tilted * exp(float(times @ (np.log1p(odds) - log(2))) + decay * less)


def _decay(less: int, sizes: Floats, times: Integers, deviation: float) -> float:
    """-log r by Newton's method, to a thousandth of a standard deviation: any value above 0 is right."""
    decay, least = 0.0, 1e-6 / deviation
    for _ in range(50):
        odds = np.exp(-decay * sizes)
        variance = float(sizes * sizes * times @ (odds / (1 + odds) ** 2))
        step = (float(sizes * times @ (odds / (1 + odds))) - less) / variance
        decay = max(decay + step, least)
        if abs(step) * sqrt(variance) < 1e-3:
            break
    return decay
