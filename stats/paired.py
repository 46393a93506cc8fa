"""Binary scores of the same docs under two conditions, a and b (METHODS 9)."""

from dataclasses import dataclass
from math import asin, inf, sqrt

from stats._checks import open_unit, whole_number
from stats._tango import upper_end
from stats.proportions import clopper_pearson


@dataclass(frozen=True)
class McNemar:
    """The exact McNemar test: its two-sided p-value and the discordant docs it rests on."""

    pvalue: float
    only_a: int
    only_b: int
    method: str = "McNemar exact (two-sided binomial on the discordant docs)"


@dataclass(frozen=True)
class RiskDifference:
    """p_a - p_b (`estimate`) within [-1, 1] with its interval, and Cohen's h as the effect size.

    `pvalue` is `mcnemar_exact`'s; the interval excludes 0 exactly where it is below 1 - confidence.
    """

    estimate: float
    low: float
    high: float
    p_a: float
    p_b: float
    cohens_h: float
    n: int
    pvalue: float
    confidence: float
    method: str = "Tango 1998 score, extended to 0 if McNemar's exact test does not reject"


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

    Without a discordant doc there is no evidence of a difference: p = 1.

    Args:
        only_a: docs right under a and wrong under b, at least 0.
        only_b: docs right under b and wrong under a, at least 0.

    Raises:
        ValueError: a count is negative or not an integer.
    """
    from scipy.special import bdtr

    only_a, only_b = whole_number("only_a", only_a, least=0), whole_number("only_b", only_b, least=0)
    # At 1/2 the binomial is symmetric: the outcomes no likelier than this one are its two equal tails.
    tail = float(bdtr(min(only_a, only_b), only_a + only_b, 0.5))
    return McNemar(1.0 if only_a == only_b else min(1.0, 2 * tail), only_a, only_b)


def paired_risk_difference(
    both: int, only_a: int, only_b: int, neither: int, *, confidence: float = 0.95
) -> RiskDifference:
    """Difference of two paired proportions, p_a - p_b, with an interval that goes with McNemar's exact test.

    The interval holds every difference that its test does not reject: at 0 McNemar's exact test, elsewhere
    the score test of Tango 1998 (Statistics in Medicine 17, 891-908). Where the two differ, Tango's interval
    is extended to 0, so it excludes 0 exactly where p < 1 - confidence, and always has a width.

    Args:
        both: docs right under a and b.
        only_a: docs right under a alone.
        only_b: docs right under b alone.
        neither: docs wrong under both.
        confidence: between 0 and 1, both excluded.

    Raises:
        ValueError: no doc; a count is negative or not an integer; `confidence` out of its range.
    """
    from scipy.special import ndtri

    confidence = open_unit("confidence", confidence)
    table = {"both": both, "only_a": only_a, "only_b": only_b, "neither": neither}
    both, only_a, only_b, neither = (whole_number(name, count, least=0) for name, count in table.items())
    n = both + only_a + only_b + neither
    if n == 0:
        raise ValueError("a paired risk difference needs at least 1 doc, got 0")
    p_a, p_b = (both + only_a) / n, (both + only_b) / n
    pvalue = mcnemar_exact(only_a, only_b).pvalue
    z2 = float(ndtri(0.5 + confidence / 2)) ** 2
    low, high = -upper_end(only_b, only_a, n, z2), upper_end(only_a, only_b, n, z2)
    if pvalue >= 1 - confidence:
        low, high = min(low, 0.0), max(high, 0.0)
    h = 2 * (asin(sqrt(p_a)) - asin(sqrt(p_b)))
    return RiskDifference((only_a - only_b) / n, low, high, p_a, p_b, h, n, pvalue, confidence)


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


def _odds(share: float) -> float:
    return share / (1 - share) if share < 1 else inf
