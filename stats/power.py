"""The smallest difference that a comparison would show (METHODS 16.2)."""

from stats._checks import open_unit, whole_number


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
    low, high = 0.0, 1.0
    if _mcnemar_power(n, discordant / n, high, alpha) < power:
        return None
    while high - low > 1e-4:
        middle = (low + high) / 2
        enough = _mcnemar_power(n, discordant / n, middle, alpha) >= power
        low, high = (low, middle) if enough else (middle, high)
    return high


def _mcnemar_power(n: int, share: float, difference: float, alpha: float) -> float:
    """Chance that the exact test rejects, with this share of discordant docs (or the difference)."""
    import numpy as np
    from scipy.stats import binom

    share = max(share, difference)
    counts = np.arange(n + 1)
    # The largest k with P(X <= k) <= alpha / 2 for X ~ Binomial(count, 1/2); -1: no k.
    k = binom.ppf(alpha / 2, counts, 0.5)
    k = np.where(binom.cdf(k, counts, 0.5) <= alpha / 2, k, k - 1)
    up = (1 + difference / share) / 2
    detected = binom.cdf(k, counts, up) + binom.sf(counts - k - 1, counts, up)
    return float((binom.pmf(counts, n, share) * np.where(k < 0, 0.0, detected)).sum())


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
    from statsmodels.stats.power import TTestPower

    return spread * float(TTestPower().solve_power(nobs=units, alpha=alpha, power=power))
