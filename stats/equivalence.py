"""Whether two conditions are equivalent within a margin: two one-sided tests (METHODS 9, 16.1).

Schuirmann 1987 (Journal of Pharmacokinetics and Biopharmaceutics 15, 657-680): a difference lies within
-margin to margin if both "it is -margin or below" and "it is margin or above" are rejected at alpha.

One score test serves all scores, Tango's (1998), so that test and interval cannot contradict each other:
p < alpha exactly where the interval with confidence 1 - 2 alpha lies inside the margin. Chosen by its true
size (docs/coverage.md): for right and wrong at most 5.8 % where 5 % is nominal, at 30
to 600 docs and margins of 2 to 10 points. Wald's test and the inverted sign-flip test reach 19 %: they take
few changed docs for a small variance.
"""

from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np
import numpy.typing as npt

from stats._checks import finite_vector, open_unit, whole_number, within
from stats._intervals import LEAST_UNITS, TOO_FEW, Floats, alike_ends
from stats._tango import score, upper_end
from stats.f1 import PerDoc, paired_counts
from stats.means import Bounds, Clusters, mean_influence
from stats.power import FOLLOWING, least_docs, scaled

SCORE = "two one-sided score tests (Tango 1998)"


@dataclass(frozen=True)
class Equivalence:
    """Two one-sided tests of a difference: `pvalue` is the larger of the two.

    pvalue < alpha exactly where the interval `low` to `high`, of confidence 1 - 2 alpha, lies inside -margin
    to margin. With too few docs for an interval (`low` and `high` None, `method` says so) `pvalue` is 1.
    """

    estimate: float
    low: float | None
    high: float | None
    pvalue: float
    margin: float
    n: int
    units: int
    alpha: float
    method: str


def equivalent_shares(
    both: int, only_a: int, only_b: int, neither: int, *, margin: float, alpha: float = 0.05
) -> Equivalence:
    """Whether two paired proportions differ by less than `margin`.

    Args:
        both: docs right under a and b.
        only_a: docs right under a alone.
        only_b: docs right under b alone.
        neither: docs wrong under both.
        margin: between 0 and 1, both excluded.
        alpha: of each of the two tests.

    Raises:
        ValueError: no doc; a count is negative or not an integer; an option out of its range.
    """
    margin, alpha = open_unit("margin", margin), _alpha(alpha)
    table = {"both": both, "only_a": only_a, "only_b": only_b, "neither": neither}
    both, only_a, only_b, neither = (whole_number(name, count, least=0) for name, count in table.items())
    n = both + only_a + only_b + neither
    if n == 0:
        raise ValueError("an equivalence test needs at least 1 doc, got 0")
    return _tested(float(only_a), float(only_b), float(n), None, n, n, margin, alpha, SCORE)


def equivalent_means(
    differences: npt.ArrayLike,
    *,
    margin: float,
    bounds: Bounds = (-1.0, 1.0),
    clusters: Clusters = None,
    alpha: float = 0.05,
) -> Equivalence:
    """Whether a mean of paired differences lies within -margin to margin.

    The score test of right and wrong at the effective sample size, with Student's quantile: the sums of the
    positive and of the negative differences stand for the docs right under one condition alone, and all
    counts are scaled so that their variance is the one observed over units (Korn and Graubard 1998). Where
    all units have one difference other than 0, the exact bound on the share of others takes its part.

    Args:
        differences: one for each doc, finite, shape (docs,), each within `bounds`.
        margin: above 0 and inside `bounds`.
        bounds: of a difference.
        clusters: the cluster of each doc, or None if each doc is one.
        alpha: of each of the two tests.

    Raises:
        ValueError: no doc; NaN; a difference outside `bounds`; an option out of its range; not one cluster
            for each doc.
    """
    values = finite_vector("differences", differences)
    within("differences", values, bounds, " (`bounds`)")
    mean, influence = mean_influence(np.where(np.abs(values) < 1e-12, 0.0, values), clusters)
    return _of_units(mean, influence, len(values), bounds, margin, alpha)


def equivalent_f1(
    counts_a: PerDoc, counts_b: PerDoc, *, margin: float, clusters: Clusters = None, alpha: float = 0.05
) -> Equivalence:
    """Whether two corpus micro F1 differ by less than `margin`: `equivalent_means` of the docs' influence.

    Args:
        counts_a: as `micro_f1_difference`.
        counts_b: the same docs, in the same order, under b.
        margin: between 0 and 1, both excluded.
        clusters: the cluster of each doc, or None if each doc is one.
        alpha: of each of the two tests.

    Raises:
        ValueError: as `micro_f1_difference`; an option out of its range.
    """
    paired = paired_counts(counts_a, counts_b, clusters)
    return _of_units(paired.difference, paired.influence, paired.docs, (-1.0, 1.0), margin, alpha)


def docs_for_equivalent_shares(
    margin: float, discordant: float, *, alpha: float = 0.05, power: float = 0.8, design: float = 1.0
) -> int:
    """Docs for which `equivalent_shares` calls proportions without a true difference equivalent.

    Power is counted over the numbers of docs right under one condition alone.

    Args:
        margin: between 0 and 1, both excluded.
        discordant: share of docs right under one condition alone, between 0 and 1.
        alpha: of each of the two tests.
        power: the chance of the verdict.
        design: design effect of clusters: the docs are so many times more.

    Raises:
        ValueError: an argument is out of its range; more than 10 million docs.
    """
    margin, power = open_unit("margin", margin), open_unit("power", power)
    discordant, alpha = open_unit("discordant", discordant), _alpha(alpha)
    found = least_docs(lambda n: _power(n, discordant, margin, alpha) >= power, following=FOLLOWING)
    return scaled(found, design)


def docs_for_equivalent_means(
    margin: float, spread: float, *, alpha: float = 0.05, power: float = 0.8, design: float = 1.0
) -> int:
    """Docs for which means without a true difference are called equivalent, by the normal approximation.

    Args:
        margin: above 0.
        spread: standard deviation of the docs' differences, above 0.
        alpha: of each of the two tests.
        power: the chance of the verdict.
        design: design effect of clusters: the docs are so many times more.

    Raises:
        ValueError: an argument is out of its range.
    """
    from scipy.special import ndtri

    alpha, power = _alpha(alpha), open_unit("power", power)
    if not (margin > 0 and 0 < spread < float("inf")):
        raise ValueError(f"`margin` and `spread` must be above 0, got {margin} and {spread}")
    root = (float(ndtri(1 - alpha)) + float(ndtri((1 + power) / 2))) * spread / margin
    return scaled(max(LEAST_UNITS, ceil(root * root - 1e-9)), design)


def _power(n: int, discordant: float, margin: float, alpha: float) -> float:
    """Chance that docs without a true difference are called equivalent."""
    from scipy.stats import binom

    far = 10 * sqrt(n * discordant * (1 - discordant)) + 10  # the chance beyond is below 1e-20
    counts = np.arange(max(0, int(n * discordant - far)), min(n, int(n * discordant + far)) + 1)
    apart = np.array([_widest_apart(int(count), n, margin, alpha) for count in counts])
    inside = binom.cdf((counts + apart) // 2, counts, 0.5) - binom.cdf((counts - apart - 1) // 2, counts, 0.5)
    return float((binom.pmf(counts, n, discordant) * np.where(apart < 0, 0.0, inside)).sum())


def _widest_apart(count: int, n: int, margin: float, alpha: float) -> int:
    """The largest |only_a - only_b| of `count` discordant docs that is called equivalent; -1: none is."""
    from scipy.special import ndtri

    z = float(ndtri(1 - alpha))

    def called(apart: int) -> bool:
        return -score((count + apart) / 2, (count - apart) / 2, n, margin) > z

    low, high = count % 2, count + 2
    if not called(low):
        return -1
    while high - low > 2:
        middle = low + (high - low) // 4 * 2
        low, high = (middle, high) if called(middle) else (low, middle)
    return low


def _of_units(
    mean: float, influence: Floats, docs: int, bounds: Bounds, margin: float, alpha: float
) -> Equivalence:
    alpha, units = _alpha(alpha), len(influence)
    widest = min(-bounds[0], bounds[1])
    if not 0 < margin < widest:
        raise ValueError(f"`margin` must be above 0 and below {widest:g}, got {margin}")
    if units < LEAST_UNITS:
        return Equivalence(mean, None, None, 1.0, margin, docs, units, alpha, TOO_FEW)
    variance = float(np.sort(influence**2).sum()) / (units - 1)
    if variance <= 1e-24 and mean:
        return _alike(mean, units, docs, bounds, margin, alpha)
    change = (mean + influence) / widest  # what each unit adds, as a share of the largest difference
    up, down = (float(np.sort(part).sum()) for part in (np.maximum(change, 0), np.maximum(-change, 0)))
    size = max(float(units), up + down)
    observed = variance / widest**2 / units
    supposed = ((up + down) / size - ((up - down) / size) ** 2) / size
    scale = supposed / observed if variance > 1e-24 and supposed > 0 else 1.0
    method = f"{SCORE}, t quantile, effective sample size"
    result = _tested(
        scale * up, scale * down, scale * size, units - 1, docs, units, margin / widest, alpha, method
    )
    low, high = result.low, result.high
    assert low is not None
    assert high is not None
    return Equivalence(mean, widest * low, widest * high, result.pvalue, margin, docs, units, alpha, method)


def _tested(
    up: float, down: float, size: float, df: int | None, docs: int, units: int, margin: float, alpha: float,
    method: str,
) -> Equivalence:  # fmt: skip
    from scipy.special import ndtr, ndtri, stdtr, stdtrit

    z = float(ndtri(1 - alpha) if df is None else stdtrit(df, 1 - alpha))
    low, high = -upper_end(down, up, size, z * z), upper_end(up, down, size, z * z)
    rejected = min(score(up, down, size, -margin), -score(up, down, size, margin))
    p = float(ndtr(-rejected) if df is None else stdtr(df, -rejected))
    return Equivalence((up - down) / size, low, high, p, margin, docs, units, alpha, method)


def _alike(mean: float, units: int, docs: int, bounds: Bounds, margin: float, alpha: float) -> Equivalence:
    """All units have one difference: others may exist that none of them is."""
    low, high = alike_ends(mean, units, bounds, 1 - alpha)
    shares = [
        (margin - mean) / (bounds[1] - mean) if mean < bounds[1] else 0.0,
        (margin + mean) / (mean - bounds[0]) if mean > bounds[0] else 0.0,
    ]
    p = max((1 - min(1.0, max(0.0, share))) ** (units - 1) for share in shares)
    return Equivalence(
        mean, low, high, p, margin, docs, units, alpha, "all alike: exact bound on the share of others"
    )


def _alpha(alpha: float) -> float:
    alpha = open_unit("alpha", alpha)
    if alpha >= 0.5:
        raise ValueError(f"`alpha` must be below 0.5, got {alpha}")
    return alpha
