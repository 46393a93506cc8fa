"""Whether a printed score can be a share of n items, an overall the mean of its parts (METHODS 2.2, 16.3).

Exact arithmetic on the digits as printed; ties may have been rounded either way.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from math import ceil, floor
from typing import Literal

from stats._checks import whole_number

Verdict = Literal["attainable", "not attainable", "cannot be said"]


@dataclass(frozen=True)
class Attainability:
    """A verdict on a printed number and its reason in words.

    `chance` is the share of all numbers with as many decimals that are attainable: 1 means that the check
    cannot fail. None where nothing was counted.
    """

    verdict: Verdict
    reason: str
    chance: float | None = None


def attainable(printed: str, n: int | None, *, full: int = 100) -> Attainability:
    """Whether `printed` is full * k / n, rounded to its decimals, for an integer k from 0 to n.

    Args:
        printed: a score as its source prints it, such as ``30.0``: its decimals count.
        n: items behind it, at least 1, or None if unknown (or if the score is no share of items).
        full: what all items right would be printed as: 100 for percent, 1 for shares.

    Raises:
        ValueError: `printed` is no decimal number; `n` or `full` is below 1.
    """
    low, high, decimals = _rounded_from(printed)
    full = whole_number("full", full, least=1)
    if not (low <= full and high >= 0):
        return Attainability("not attainable", f"{printed} is outside 0 to {full}")
    if n is None:
        return Attainability("cannot be said", "the number of items is unknown")
    n = whole_number("n", n, least=1)
    chance = attainable_numbers(n, decimals, full=full) / (full * 10**decimals + 1)
    least, most = _counts(low, high, n, full)
    if least <= most:
        which = f"{least}/{n}" if least == most else f"{least}/{n} to {most}/{n}"
        every = ", as every number with so many decimals is" if chance == 1 else ""
        return Attainability("attainable", which + every, chance)
    around = [f"{k}/{n} = {full * k / n:.{decimals + 1}f}" for k in (most, least) if 0 <= k <= n]
    return Attainability("not attainable", f"the nearest: {', '.join(around)}", chance)


def attainable_numbers(n: int, decimals: int, *, full: int = 100) -> int:
    """How many numbers with so many decimals, 0 to `full`, `attainable` calls attainable for n items.

    Raises:
        ValueError: `n` or `full` is below 1; `decimals` is negative.
    """
    n, full = whole_number("n", n, least=1), whole_number("full", full, least=1)
    units = full * int(10 ** whole_number("decimals", decimals, least=0))
    if n >= units:
        return units + 1
    numbers = set()
    for k in range(n + 1):
        below, rest = divmod(2 * units * k, 2 * n)
        numbers |= {below} if rest < n else {below + 1} if rest > n else {below, below + 1}
    return len(numbers)


def overall_attainable(
    printed: str, parts: Sequence[str], sizes: Sequence[int] | None = None, *, full: int = 100
) -> Attainability:
    """Whether a printed overall can be a mean of its printed parts: unweighted, or weighted by their items.

    Every part stands for the numbers that are rounded to it; those that are counts of its items, where
    `sizes` are given and some count is. Without `sizes` any weights are possible: then an overall between
    the least and the greatest part that is not the unweighted mean cannot be judged.

    Args:
        printed: the overall as its source prints it.
        parts: the parts as printed, at least one.
        sizes: items of each part, or None if unknown.
        full: as `attainable`.

    Raises:
        ValueError: a number is no decimal number; no part; not one size for each part; a size below 1.
    """
    low, high, _ = _rounded_from(printed)
    full = whole_number("full", full, least=1)
    if not parts:
        raise ValueError("an overall needs at least 1 part, got 0")
    if sizes is not None and len(sizes) != len(parts):
        raise ValueError(f"`sizes` must hold one number for each of {len(parts)} parts, got {len(sizes)}")
    items = None if sizes is None else [whole_number("sizes", size, least=1) for size in sizes]
    ranges = [
        _part(part, None if items is None else items[i], full) for i, part in enumerate(parts)
    ]  # of what is printed, lowest and highest
    unweighted = _mean(ranges, [1] * len(ranges))
    tried = [("unweighted mean", unweighted)]
    if items is not None:
        tried.append((f"mean weighted by n ({sum(items)} items)", _mean(ranges, items)))
    said = "; ".join(f"{name} {_spoken(*values)}" for name, values in tried)
    for name, (least, most) in tried:
        if least <= high and most >= low:
            return Attainability("attainable", f"the {name}; {said}")
    least, most = min(part[0] for part in ranges), max(part[1] for part in ranges)
    if items is None and least <= high and most >= low:
        return Attainability("cannot be said", f"{said}; a weighted mean needs the items of each part")
    return Attainability("not attainable", said)


def _rounded_from(printed: str) -> tuple[Fraction, Fraction, int]:
    """The lowest and the highest number that is rounded to `printed`, and its decimals."""
    try:
        number = Decimal(printed.strip())
    except InvalidOperation:
        raise ValueError(f"`printed` must be a decimal number such as 30.0, got {printed!r}") from None
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int):  # NaN, infinity
        raise ValueError(f"`printed` must be a decimal number such as 30.0, got {printed!r}")
    decimals = max(0, -exponent)
    half = Fraction(1, 2 * 10**decimals)
    return Fraction(number) - half, Fraction(number) + half, decimals


def _counts(low: Fraction, high: Fraction, n: int, full: int) -> tuple[int, int]:
    """The least and the greatest k with low <= full k / n <= high; the first is larger if there is none."""
    return max(0, ceil(low * n / full)), min(n, floor(high * n / full))


def _part(printed: str, n: int | None, full: int) -> tuple[Fraction, Fraction]:
    low, high, _ = _rounded_from(printed)
    if n is not None:
        least, most = _counts(low, high, n, full)
        if least <= most:
            return Fraction(full * least, n), Fraction(full * most, n)
    return low, high


def _mean(ranges: Sequence[tuple[Fraction, Fraction]], weights: Sequence[int]) -> tuple[Fraction, Fraction]:
    total = sum(weights)
    low, high = (
        sum((weight * one[end] for weight, one in zip(weights, ranges, strict=True)), Fraction(0)) / total
        for end in (0, 1)
    )
    return low, high


def _spoken(least: Fraction, most: Fraction) -> str:
    low, high = f"{float(least):.2f}", f"{float(most):.2f}"
    return low if low == high else f"{low} to {high}"
