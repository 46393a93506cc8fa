"""Docs that Wilcoxon's signed-rank test needs, by simulation (METHODS 16.2: the spread of per-doc F1)."""

from dataclasses import dataclass
from functools import cache
from math import ceil
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stats._checks import finite_vector, open_unit, whole_number
from stats._intervals import Floats
from stats.power import MOST_DOCS, scaled
from stats.proportions import wilson
from stats.ranks import EXACT_NONZERO, wilcoxon_signed_rank

_NORMAL = 200
"""Values that a normal distribution is drawn from: its quantiles, in the middle of as many equal parts."""


class Differences(NamedTuple):
    """A distribution of paired differences: its values and their chances, each of shape (values,)."""

    values: Floats
    chances: Floats


@dataclass(frozen=True)
class SimulatedDocs:
    """Docs for Wilcoxon's test, and the power that was simulated there, with its Monte Carlo interval.

    `drawn` names what the differences were drawn from.
    """

    docs: int
    power: float
    low: float
    high: float
    draws: int
    seed: int
    drawn: str


def normal_differences(difference: float, spread: float) -> Differences:
    """Normal differences with this mean and standard deviation, as 200 quantiles.

    Raises:
        ValueError: `spread` is not a finite number above 0.
    """
    if not 0 < spread < float("inf"):
        raise ValueError(f"`spread` must be a finite number above 0, got {spread}")
    from scipy.special import ndtri

    quantiles = ndtri((np.arange(_NORMAL) + 0.5) / _NORMAL)
    return Differences(difference + spread * quantiles / quantiles.std(), np.full(_NORMAL, 1 / _NORMAL))


def tilted_differences(differences: npt.ArrayLike, difference: float) -> Differences:
    """The observed differences, weighted so that their mean is `difference`.

    Each observed difference may have either sign (the null); then values are weighted by exp(c value), c such
    that the mean is `difference` (exponential tilting, Efron 1981). So zeros and ties stay, and no difference
    is larger than those observed.

    Args:
        differences: observed, one for each doc, finite, shape (docs,).
        difference: the mean.

    Raises:
        ValueError: no doc; NaN; `difference` is not below the largest observed one.
    """
    from scipy.optimize import brentq
    from scipy.special import softmax

    observed = finite_vector("differences", differences)
    values, copies = np.unique(np.round(np.concatenate([observed, -observed]), 12) + 0.0, return_counts=True)
    largest = float(values.max())
    if not 0 < difference < largest:
        limit = f"above 0 and below the largest observed one, {largest:g}"
        raise ValueError(f"`difference` must be {limit}, got {difference:g}")

    def tilted(c: float) -> Floats:
        chances: Floats = softmax(c * values / largest + np.log(copies))
        return chances

    c = brentq(lambda c: float(tilted(c) @ values) - difference, 0.0, 5000.0)
    return Differences(values, tilted(c))


def wilcoxon_power(
    n: int, among: Differences, *, alpha: float = 0.05, draws: int = 2000, seed: int = 0
) -> float:
    """The share of simulated comparisons of n docs in which Wilcoxon's signed-rank test is significant.

    The test is `wilcoxon_signed_rank` (zeros as Pratt).

    Args:
        n: docs of each.
        among: what the differences of the docs are drawn from.
        alpha: of the two-sided test.
        draws: simulated comparisons, at least 1.
        seed: of NumPy's default generator.

    Raises:
        ValueError: an argument is out of its range.
    """
    n, draws = whole_number("n", n, least=1), whole_number("draws", draws, least=1)
    alpha = open_unit("alpha", alpha)
    rng = np.random.default_rng(whole_number("seed", seed, least=0))
    return float((_pvalues(among.values, rng.multinomial(n, among.chances, size=draws)) < alpha).mean())


def docs_for_wilcoxon(
    difference: float,
    *,
    spread: float | None = None,
    differences: npt.ArrayLike | None = None,
    alpha: float = 0.05,
    power: float = 0.8,
    design: float = 1.0,
    draws: int = 2000,
    seed: int = 0,
) -> SimulatedDocs:
    """Docs for which Wilcoxon's signed-rank test shows a mean paired difference with this power.

    Power is simulated at numbers of docs that bisection picks, to 1 %; Monte Carlo adds about 2 %.

    Args:
        difference: the mean difference, above 0.
        spread: standard deviation of normal differences; or
        differences: observed ones, to draw from (`tilted_differences`). One of the two.
        alpha: of the two-sided test.
        power: the chance to show the difference.
        design: design effect of clusters: the docs are so many times more.
        draws: simulated comparisons a round.
        seed: of NumPy's default generator; it is in the result.

    Raises:
        ValueError: an argument is out of its range, or more than 10 million docs.
    """
    from scipy.special import ndtri

    alpha, power = open_unit("alpha", alpha), open_unit("power", power)
    if not 0 < difference < float("inf"):
        raise ValueError(f"`difference` must be a finite number above 0, got {difference}")
    if (spread is None) == (differences is None):
        raise ValueError("give `spread` or `differences`, one of the two")
    if differences is None:
        assert spread is not None
        among, drawn = normal_differences(difference, spread), "normal differences"
    else:
        among, drawn = tilted_differences(differences, difference), "the observed differences, tilted"
        spread = float(np.sqrt(np.mean(finite_vector("differences", differences) ** 2)))

    @cache
    def simulated(docs: int) -> float:
        if docs > MOST_DOCS:
            raise ValueError(f"more than {MOST_DOCS:,} docs are needed")
        return wilcoxon_power(docs, among, alpha=alpha, draws=draws, seed=seed)

    high = max(6, ceil(((ndtri(power) - ndtri(alpha / 2)) * spread / difference) ** 2))
    low = high // 2
    while simulated(high) < power:
        low, high = high, 2 * high
    while low > 0 and simulated(low) >= power:
        low, high = low // 2, low
    while high - low > max(1, high // 100):
        middle = (low + high) // 2
        low, high = (low, middle) if simulated(middle) >= power else (middle, high)
    reached = simulated(high)
    interval = wilson(round(reached * draws), draws)
    return SimulatedDocs(scaled(high, design), reached, interval.low, interval.high, draws, seed, drawn)


def _pvalues(values: Floats, counts: npt.NDArray[np.int64]) -> Floats:
    """Of each comparison, as `wilcoxon_signed_rank`; `counts` of each value, shape (draws, values)."""
    from scipy.special import ndtr

    order = np.argsort(np.abs(values), kind="stable")
    values, counts = values[order], counts[:, order]
    sizes, starts = np.unique(np.abs(values), return_index=True)
    copies = np.add.reduceat(counts, starts, axis=1)
    pull = np.add.reduceat(counts * np.sign(values), starts, axis=1)
    midranks = np.cumsum(copies, axis=1) - (copies - 1) / 2
    changed = sizes > 0
    squares = np.sqrt((copies * midranks**2)[:, changed].sum(axis=1))
    pvalues: Floats = 2 * ndtr(-np.abs((pull * midranks).sum(axis=1)) / np.where(squares > 0, squares, 1.0))
    for row in np.flatnonzero(copies[:, changed].sum(axis=1) <= EXACT_NONZERO):
        pvalues[row] = wilcoxon_signed_rank(np.repeat(values, counts[row])).pvalue
    return pvalues
