"""Docs that a comparison needs, and the smallest difference that it would show (METHODS 16.2)."""

from collections.abc import Callable
from functools import lru_cache
from math import ceil, floor, sqrt

import numpy as np
import numpy.typing as npt

from stats._checks import open_unit, whole_number

MOST_DOCS = 10_000_000
"""No number of docs beyond this is looked for."""

_CELL = 2.0**-14
"""What `detectable_share` is a multiple of, where it finds it at once."""

FOLLOWING = 20
"""The power of tests of counts is no smooth function of n: so many further numbers of docs have it too."""


def docs_for_share(
    difference: float, discordant: float, *, alpha: float = 0.05, power: float = 0.8, design: float = 1.0
) -> int:
    """Docs for which McNemar's exact test shows a paired difference of two proportions with this power.

    Power is counted as in `detectable_share`. The next 20 numbers of docs have it too.

    Args:
        difference: of the proportions, above 0.
        discordant: share of docs right under one condition alone, within difference-1.
        alpha: of the two-sided test; for the first test of a Holm family of m, 0.05 / m.
        power: the chance to show the difference.
        design: design effect of clusters (`stats.design_effect`): the docs are so many times more.

    Raises:
        ValueError: an argument is out of its range; more than 10 million docs.
    """
    difference, alpha, power = _positive(difference), open_unit("alpha", alpha), open_unit("power", power)
    if not difference <= discordant <= 1:
        raise ValueError(
            f"`discordant` must be within the difference and 1, {difference:g} to 1, got {discordant:g}: so "
            "many docs at least are right under one condition alone"
        )
    found = least_docs(
        lambda n: _mcnemar_power(n, discordant, difference, alpha) >= power, following=FOLLOWING
    )
    return scaled(found, design)


def docs_for_mean(
    difference: float, spread: float, *, alpha: float = 0.05, power: float = 0.8, design: float = 1.0
) -> int:
    """Docs (or clusters, with the spread over clusters) for which a paired test shows a mean difference.

    By the noncentral t distribution, as `detectable_mean`; at least 2.

    Args:
        difference: the mean of the differences, above 0.
        spread: standard deviation of the differences, above 0.
        alpha: of the two-sided test.
        power: the chance to show the difference.
        design: design effect of clusters: the docs are so many times more.

    Raises:
        ValueError: an argument is out of its range; more than 10 million docs.
    """
    difference, alpha, power = _positive(difference), open_unit("alpha", alpha), open_unit("power", power)
    if not 0 < spread < float("inf"):
        raise ValueError(f"`spread` must be a finite number above 0, got {spread}")
    from statsmodels.stats.power import TTestPower

    test = TTestPower()
    found = least_docs(lambda n: float(test.power(difference / spread, n, alpha)) >= power, first=2)
    return scaled(found, design)


def _positive(difference: float) -> float:
    if not 0 < difference < float("inf"):
        raise ValueError(f"`difference` must be a finite number above 0, got {difference}")
    return float(difference)


def scaled(docs: int, design: float) -> int:
    """Docs in clusters with this design effect that are worth `docs` independent ones.

    Raises:
        ValueError: `design` is not a finite number above 0.
    """
    if not 0 < design < float("inf"):
        raise ValueError(f"`design` must be a finite number above 0, got {design}")
    return ceil(docs * design - 1e-9)


def least_docs(enough: Callable[[int], bool], *, first: int = 1, following: int = 0) -> int:
    """A number of docs that is `enough`, as the next `following` are, and the one before it is not.

    By doubling and bisection from `first`.

    Raises:
        ValueError: more than 10 million docs.
    """
    low, high = first - 1, first
    while not enough(high):
        if high >= MOST_DOCS:
            raise ValueError(f"more than {MOST_DOCS:,} docs are needed")
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    while gaps := [n for n in range(high + 1, high + following + 1) if not enough(n)]:
        high = gaps[-1] + 1
    return high


@lru_cache(maxsize=4096)
def detectable_share(n: int, discordant: int, *, alpha: float = 0.05, power: float = 0.8) -> float | None:
    """Smallest paired difference of two proportions that McNemar's exact test shows with this power.

    The share of discordant docs is the observed one, or the difference itself where that is larger (a
    difference needs as many). Power is counted, not approximated: over the number of discordant docs, the
    chance that the exact test rejects.

    Args:
        n: docs, at least 1.
        discordant: docs right under one condition alone, within 0-n.
        alpha: of the two-sided test.
        power: the chance to show the difference.

    Returns:
        Within (0, 1], to 0.0001; or None if not even a difference of 1 is detected.

    Raises:
        ValueError: an argument is out of its range.
    """
    n, discordant = whole_number("n", n, least=1), whole_number("discordant", discordant, least=0, most=n)
    alpha, power = open_unit("alpha", alpha), open_unit("power", power)

    def detected(difference: float) -> float:
        return _mcnemar_power(n, discordant / n, difference, alpha)

    low, high = 0.0, 1.0
    if detected(high) < power:
        return None
    cells = _near(detected, power, sqrt(max(discordant, 1)) / n) / _CELL
    ends = [_CELL * count for count in (floor(cells), floor(cells) + 1)]
    while high - low > 1e-4:
        middle = ends.pop() if ends else (low + high) / 2
        if low < middle < high:
            low, high = (low, middle) if detected(middle) >= power else (middle, high)
    return high


def _near(detected: Callable[[float], float], power: float, deviation: float) -> float:
    """About the difference that is detected with this power, by secants; it need not be."""
    at, there = 2.5 * deviation, 2.8 * deviation
    power_at = detected(min(at, 1.0))
    for _ in range(5):
        power_there = detected(min(there, 1.0))
        if power_there == power_at:
            break
        slope = (power_there - power_at) / (there - at)
        at, power_at, there = there, power_there, there + (power - power_there) / slope
        if not 0 < there < 1 or abs(there - at) < _CELL / 8:
            break
    return min(max(there, 0.0), 1.0)


def _mcnemar_power(n: int, share: float, difference: float, alpha: float) -> float:
    """Chance that the exact test rejects, with this share of discordant docs (or the difference)."""
    from scipy.special import bdtr, bdtrc  # scipy.stats has them too, and is slower

    share = max(share, difference)
    far = 7 * sqrt(n * share * (1 - share)) + 10  # the chance beyond is below 1e-10
    first, last = max(0, int(n * share - far)), min(n, int(n * share + far))
    counts, k = np.arange(first, last + 1), _critical(first, last, alpha)
    counts, k = counts[k >= 0], k[k >= 0]
    up = (1 + difference / share) / 2
    detected = bdtr(k, counts, up) + bdtrc(counts - k - 1, counts, up)
    return float(_chances(n, share, first, last)[-len(counts) :] @ detected) if len(counts) else 0.0


@lru_cache(maxsize=256)
def _chances(n: int, share: float, first: int, last: int) -> npt.NDArray[np.float64]:
    """Of each number of discordant docs."""
    from scipy.special import gammaln, xlog1py, xlogy

    counts = np.arange(first, last + 1)
    ways = gammaln(n + 1) - gammaln(counts + 1) - gammaln(n - counts + 1)
    return np.asarray(np.exp(ways + xlogy(counts, share) + xlog1py(n - counts, -share)))


@lru_cache(maxsize=64)
def _critical(first: int, last: int, alpha: float) -> npt.NDArray[np.float64]:
    """For each number of discordant docs, the largest k with P(X <= k) <= alpha / 2 under the null, or -1."""
    from scipy.special import bdtr, bdtrik

    counts = np.arange(max(first, 1), last + 1)
    k = np.floor(bdtrik(alpha / 2, counts, 0.5))
    k = np.where(np.isnan(k), -1.0, k)  # below the chance of no success
    k += (k < counts) & (bdtr(np.minimum(k + 1, counts), counts, 0.5) <= alpha / 2)
    k -= (k >= 0) & (bdtr(np.maximum(k, 0), counts, 0.5) > alpha / 2)
    return np.concatenate([np.full(len(range(first, last + 1)) - len(counts), -1.0), k])


def detectable_mean(units: int, spread: float, *, alpha: float = 0.05, power: float = 0.8) -> float | None:
    """Smallest mean of paired differences that a paired test shows with this power, given their spread.

    By the noncentral t distribution (statsmodels' `TTestPower`), which the sign-flip test of a mean follows.

    Args:
        units: docs, or clusters of docs, at least 2; fewer give None.
        spread: standard deviation of the differences over units.
        alpha: of the two-sided test.
        power: the chance to show the difference.

    Raises:
        ValueError: an argument is out of its range.
    """
    units = whole_number("units", units, least=1)
    alpha, power = open_unit("alpha", alpha), open_unit("power", power)
    if not 0 <= spread < float("inf"):
        raise ValueError(f"`spread` must be a finite number >= 0, got {spread}")
    if units < 2 or spread == 0:
        return None
    return spread * _standardised(units, alpha, power)


@lru_cache(maxsize=1024)
def _standardised(units: int, alpha: float, power: float) -> float:
    """`detectable_mean` of a spread of 1."""
    from statsmodels.stats.power import TTestPower

    return float(TTestPower().solve_power(nobs=units, alpha=alpha, power=power))
