"""Binary scores of the same docs under two conditions, a and b (METHODS 9)."""

from dataclasses import dataclass
from math import asin, inf, sqrt

from stats._checks import whole_number
from stats.proportions import clopper_pearson, wilson


@dataclass(frozen=True)
class McNemar:
    """The exact McNemar test: its two-sided p-value and the discordant docs it rests on."""

    pvalue: float
    only_a: int
    only_b: int
    method: str = "McNemar exact (two-sided binomial on the discordant docs)"


@dataclass(frozen=True)
class RiskDifference:
    """p_a - p_b (`estimate`) within [-1, 1] with its interval, and Cohen's h as the effect size."""

    estimate: float
    low: float
    high: float
    p_a: float
    p_b: float
    cohens_h: float
    n: int
    confidence: float
    method: str = "Newcombe 1998, method 10"


@dataclass(frozen=True)
class DiscordantOdds:
    """Odds ratio of the discordant docs, only_a / only_b, with its exact conditional interval.

    `estimate` and `high` are math.inf when only_b is 0: that is the value of the ratio.
    """

    estimate: float
    low: float
    high: float
    only_a: int
    only_b: int
    confidence: float
    method: str = "exact conditional (Clopper-Pearson on only_a of the discordant docs)"


def mcnemar_exact(only_a: int, only_b: int) -> McNemar:
    """McNemar's test, exact and two-sided: the binomial test of `only_a` in only_a + only_b at 1/2.

    Without a discordant doc the two conditions cannot be told apart: p = 1.

    Args:
        only_a: docs right under a and wrong under b, at least 0.
        only_b: docs right under b and wrong under a, at least 0.

    Raises:
        ValueError: a count is negative or not an integer.
    """
    from scipy.stats import binomtest

    only_a, only_b = whole_number("only_a", only_a, least=0), whole_number("only_b", only_b, least=0)
    discordant = only_a + only_b
    pvalue = float(binomtest(only_a, discordant, 0.5).pvalue) if discordant else 1.0
    return McNemar(min(1.0, pvalue), only_a, only_b)


def paired_risk_difference(
    both: int, only_a: int, only_b: int, neither: int, *, confidence: float = 0.95
) -> RiskDifference:
    """Difference of two paired proportions, p_a - p_b, with Newcombe's interval.

    Newcombe 1998 (Statistics in Medicine 17, 2635-2650), method 10: the Wilson intervals of both
    proportions are squared and added, corrected by phi, whose numerator is pulled towards 0 by n / 2 where
    it is positive; phi is 0 where a margin of the table is.

    Args:
        both: docs right under a and b.
        only_a: docs right under a alone.
        only_b: docs right under b alone.
        neither: docs wrong under both.
        confidence: between 0 and 1, both excluded.

    Raises:
        ValueError: no doc; a count is negative or not an integer; `confidence` out of its range.
    """
    table = {"both": both, "only_a": only_a, "only_b": only_b, "neither": neither}
    both, only_a, only_b, neither = (whole_number(name, count, least=0) for name, count in table.items())
    n = both + only_a + only_b + neither
    if n == 0:
        raise ValueError("a paired risk difference needs at least 1 doc, got 0")
    a = wilson(both + only_a, n, confidence=confidence)
    b = wilson(both + only_b, n, confidence=confidence)
    phi = _phi(both, only_a, only_b, neither)
    difference = (only_a - only_b) / n
    down = _square_and_add(a.estimate - a.low, b.high - b.estimate, phi)
    up = _square_and_add(a.high - a.estimate, b.estimate - b.low, phi)
    low, high = max(-1.0, difference - down), min(1.0, difference + up)
    h = 2 * (asin(sqrt(a.estimate)) - asin(sqrt(b.estimate)))
    return RiskDifference(difference, low, high, a.estimate, b.estimate, h, n, float(confidence))


def discordant_odds_ratio(only_a: int, only_b: int, *, confidence: float = 0.95) -> DiscordantOdds:
    """Effect size of McNemar's test: the conditional odds ratio only_a / only_b and its exact interval.

    The ends are p / (1 - p) of the Clopper-Pearson ends for only_a of only_a + only_b (Breslow and Day
    1980, section 5.2), so the 95 % interval and `mcnemar_exact` agree about 1.

    Raises:
        ValueError: no discordant doc (no ratio exists); a count is negative or not an integer.
    """
    only_a, only_b = whole_number("only_a", only_a, least=0), whole_number("only_b", only_b, least=0)
    if only_a + only_b == 0:
        raise ValueError("an odds ratio needs at least 1 discordant doc, got 0")
    share = clopper_pearson(only_a, only_a + only_b, confidence=confidence)
    ratio = only_a / only_b if only_b else inf
    return DiscordantOdds(ratio, _odds(share.low), _odds(share.high), only_a, only_b, float(confidence))


def _phi(both: int, only_a: int, only_b: int, neither: int) -> float:
    """Correlation of the two conditions, with Newcombe's correction of a positive numerator."""
    margins = (both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither)
    if margins == 0:
        return 0.0
    n = both + only_a + only_b + neither
    product = both * neither - only_a * only_b
    return (max(product - n / 2, 0.0) if product > 0 else product) / sqrt(margins)


def _square_and_add(one: float, other: float, phi: float) -> float:
    return sqrt(max(0.0, one * one - 2 * phi * one * other + other * other))


def _odds(share: float) -> float:
    return share / (1 - share) if share < 1 else inf
