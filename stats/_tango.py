"""The score test of a paired difference of proportions (Tango 1998, Statistics in Medicine 17, 891-908).

Counts may be fractions: those at an effective sample size.
"""

from functools import lru_cache
from math import inf, sqrt


def score(only_a: float, only_b: float, n: float, difference: float) -> float:
    """z for p_a - p_b = `difference`: positive where the observed difference is above it."""
    linear = (2 * n - only_a + only_b) * difference - only_a - only_b
    constant = -only_b * difference * (1 - difference)
    alone = (sqrt(max(0.0, linear * linear - 8 * n * constant)) - linear) / (4 * n)  # share right in b alone
    variance = n * (2 * alone + difference * (1 - difference))
    gap = only_a - only_b - n * difference
    return gap / sqrt(variance) if variance > 0 else inf * gap if gap else 0.0


@lru_cache(maxsize=1 << 15)
def upper_end(only_a: float, only_b: float, n: float, z2: float) -> float:
    """The largest difference that the score test does not reject, by bisection (z2: the squared z)."""
    inside, outside = (only_a - only_b) / n, 1.0
    if score(only_a, only_b, n, outside) ** 2 <= z2:
        return 1.0
    while inside < (middle := inside + (outside - inside) / 2) < outside:
        if score(only_a, only_b, n, middle) ** 2 <= z2:
            inside = middle
        else:
            outside = middle
    return inside
