"""Intervals for a proportion (METHODS 9): Wilson, Clopper-Pearson, and the rule of three for zero events."""

from dataclasses import dataclass
from math import sqrt

from stats._checks import open_unit, whole_number

SIDES = ("two-sided", "lower", "upper")
"""What `clopper_pearson` can bound: both ends, only the lower one, only the upper one."""


@dataclass(frozen=True)
class Interval:
    """A proportion with its interval; all three within [0, 1] and low <= estimate <= high."""

    estimate: float
    low: float
    high: float


def wilson(successes: int, n: int, *, confidence: float = 0.95) -> Interval:
    """Wilson's score interval for `successes` out of `n` (Wilson 1927; METHODS 9).

    Args:
        successes: an integer within 0-n.
        n: number of trials, at least 1.
        confidence: coverage aimed at, between 0 and 1, both excluded.

    Returns:
        The estimate successes / n and both ends. At 0 successes `low` is exactly 0, at n `high` exactly 1.

    Raises:
        ValueError: an argument is out of its range or not a number of the right kind.
    """
    from scipy.special import ndtri

    successes, n, confidence = _checked(successes, n, confidence)
    z = float(ndtri(0.5 + confidence / 2))
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2) / (1 + z * z / n)
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return Interval(share, low, high)


def clopper_pearson(successes: int, n: int, *, confidence: float = 0.95, side: str = "two-sided") -> Interval:
    """The exact binomial interval (Clopper and Pearson 1934; METHODS 9), from quantiles of the Beta law.

    Args:
        successes: an integer within 0-n.
        n: number of trials, at least 1.
        confidence: coverage guaranteed, between 0 and 1, both excluded.
        side: "two-sided"; "upper": a one-sided upper bound at the full confidence, `low` is 0;
            "lower": a one-sided lower bound, `high` is 1.

    Returns:
        The estimate successes / n and both ends.

    Raises:
        ValueError: an argument is out of its range or not a number of the right kind; an unknown side.
    """
    from scipy.special import betaincinv

    if side not in SIDES:
        raise ValueError(f"`side` must be one of {', '.join(SIDES)}, got {side!r}")
    successes, n, confidence = _checked(successes, n, confidence)
    tail = (1 - confidence) / 2 if side == "two-sided" else 1 - confidence
    low, high = 0.0, 1.0
    if side != "upper" and successes > 0:
        low = float(betaincinv(successes, n - successes + 1, tail))
    if side != "lower" and successes < n:
        high = float(betaincinv(successes + 1, n - successes, 1 - tail))
    return Interval(successes / n, low, high)


def rule_of_three(n: int) -> float:
    """The rule-of-three 95 % upper bound for a proportion with no event in `n` trials: exactly 3 / n.

    Not capped: below n = 3 it exceeds 1, where the rule is void; `clopper_pearson(0, n,
    side="upper")` is the exact bound to show beside it (METHODS 9).

    Raises:
        ValueError: `n` is not an integer of at least 1.
    """
    return 3 / whole_number("n", n, least=1)


def _checked(successes: int, n: int, confidence: float) -> tuple[int, int, float]:
    n = whole_number("n", n, least=1)
    return (
        whole_number("successes", successes, least=0, most=n),
        n,
        open_unit("confidence", confidence),
    )
