"""The true size of equivalence tests of right and wrong answers: counted over all tables, not drawn.

python benchmarks/equivalence.py
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln, xlogy
from scipy.stats import norm
from tabulate import tabulate

from stats._tango import score

Floats = npt.NDArray[np.float64]
CELLS = ((30, 0.1), (60, 0.05), (60, 0.1), (120, 0.05), (200, 0.02), (200, 0.05), (600, 0.02))
SHARES = (1.0, 1.2, 1.5, 2.0)
"""Shares of discordant docs, as multiples of the margin; and 5 to 60 %."""


def _tango(a: Floats, b: Floats, n: int, margin: float) -> Floats:
    return np.array([score(x, y, n, margin) for x, y in zip(a.tolist(), b.tolist(), strict=True)])


def _wald(a: Floats, b: Floats, n: int, margin: float) -> Floats:
    gap, variance = (a - b) / n - margin, ((a + b) / n - ((a - b) / n) ** 2) / n
    with np.errstate(divide="ignore"):
        return np.asarray(gap / np.sqrt(variance))


def _sign_flip(a: Floats, b: Floats, n: int, margin: float) -> Floats:
    """The inverted sign-flip test of `mimic compare`; without a discordant doc its exact bound."""
    gap, variance = (a - b) / n - margin, (a + b) / n - ((a - b) / n) ** 2
    z = np.sqrt(n * gap**2 / (variance + gap**2))
    alike = norm.isf((1 - abs(margin)) ** (n - 1))
    return np.asarray(np.sign(gap) * np.where(variance > 0, z, alike))


TESTS: dict[str, Callable[[Floats, Floats, int, float], Floats]] = {
    "score, Tango (used)": _tango,
    "inverted sign-flip": _sign_flip,
    "Wald": _wald,
}


def largest_size(test: Callable[[Floats, Floats, int, float], Floats], n: int, margin: float) -> float:
    """The largest chance to call conditions equivalent that are exactly the margin apart."""
    a, b = (side.ravel().astype(np.float64) for side in np.meshgrid(np.arange(n + 1), np.arange(n + 1)))
    near = (a + b <= n) & (np.abs(a - b) < margin * n)
    a, b = a[near], b[near]
    z = norm.isf(0.05)
    called = (test(a, b, n, margin) < -z) & (test(a, b, n, -margin) > z)
    a, b = a[called], b[called]
    ways = gammaln(n + 1) - gammaln(a + 1) - gammaln(b + 1) - gammaln(n - a - b + 1)
    sizes = [0.0]
    for share in {*(margin * times for times in SHARES), *np.arange(0.05, 0.61, 0.05).tolist()}:
        if margin <= share <= 1:
            chances = ((share + margin) / 2, (share - margin) / 2, 1 - share)
            counts = (a, b, n - a - b)
            log = ways + sum(xlogy(count, p) for count, p in zip(counts, chances, strict=True))
            sizes.append(float(np.exp(log).sum()))
    return max(sizes)


def table() -> str:
    """Rows are tests, columns numbers of docs and margins; in %."""
    body = [
        [name, *(f"{100 * largest_size(test, n, margin):.1f}" for n, margin in CELLS)]
        for name, test in TESTS.items()
    ]
    headers = ["%", *(f"n = {n}, {100 * margin:g} points" for n, margin in CELLS)]
    return tabulate(body, headers=headers, tablefmt="pipe", disable_numparse=True)


if __name__ == "__main__":
    print(table())
