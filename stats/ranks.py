"""Signed ranks of paired differences (METHODS 9): Wilcoxon's test, zeros as Pratt, and its effect size."""

from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt

from stats._checks import finite_vector, open_unit, whole_number
from stats._intervals import Floats, unseen_share

EXACT_NONZERO = 25
"""Up to this many nonzero differences the test enumerates all signs (METHODS 9)."""

_SAME = 1e-12
"""Differences nearer than this share of the largest are tied, and as near to 0 zeros: 0.3 - 0.1 is 0.2."""

_CHUNK_CELLS = 2**20
"""Weights in memory at once, (draws in a chunk) x (distinct differences): 8 MiB of float64."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SignedRank:
    """Wilcoxon's signed-rank test: `statistic` is the sum of the ranks of positive differences.

    `n` counts all differences, `zeros` those that are 0; `method` is the test's exact name.
    """

    statistic: float
    pvalue: float
    n: int
    zeros: int
    method: str


@dataclass(frozen=True)
class RankBiserial:
    """Matched-pairs rank-biserial correlation within [-1, 1] with its interval over docs."""

    estimate: float
    low: float
    high: float
    n: int
    zeros: int
    method: str
    confidence: float
    draws: int
    seed: int


def wilcoxon_signed_rank(differences: npt.ArrayLike) -> SignedRank:
    """Wilcoxon's signed-rank test, two-sided, zeros as Pratt (1959): ranked with the rest, then dropped.

    Up to 25 nonzero differences the p-value is exact for these ranks, ties and zeros included: the share
    of all assignments of signs whose statistic is at least as far from its mean. Beyond, the normal
    approximation with the variance corrected for ties and zeros (Cureton 1967), without a continuity
    correction (as SciPy and R's coin). When every difference is 0, p = 1.

    Differences that agree up to a rounding error (1e-12 of the largest) are tied, and so are zeros.

    Args:
        differences: one per doc, finite, shape (docs,).

    Raises:
        ValueError: no doc; NaN or infinite.
    """
    signed = signed_ranks(finite_vector("differences", differences))
    n, zeros = len(signed), int((signed == 0).sum())
    statistic = float(signed[signed > 0].sum()) / 2
    nonzero = np.abs(signed[signed != 0])
    name = "Wilcoxon signed-rank, two-sided, zeros as Pratt, "
    if len(nonzero) == 0:
        return SignedRank(statistic, 1.0, n, zeros, name + "all differences zero")
    if len(nonzero) <= EXACT_NONZERO:
        return SignedRank(statistic, _exact(signed), n, zeros, name + "exact (all signs)")
    return SignedRank(statistic, _normal(signed), n, zeros, name + "normal approximation")


def rank_direction(differences: npt.ArrayLike) -> int:
    """Where the signed ranks point: 1, -1, or 0 where both signs have the same sum of ranks.

    Args:
        differences: one per doc, finite, shape (docs,).

    Raises:
        ValueError: no doc; NaN or infinite.
    """
    return int(np.sign(signed_ranks(finite_vector("differences", differences)).sum()))


def rank_biserial(
    differences: npt.ArrayLike, *, confidence: float = 0.95, draws: int = 10_000, seed: int = 0
) -> RankBiserial:
    """Effect size of the signed-rank test: (positive - negative rank sum) / sum of all ranks (Kerby 2014).

    Zeros as in the test: they are ranked (Pratt), and count below the line as evidence for neither side,
    so a few changed docs among many unchanged ones are a small effect.

    The interval is the percentile bootstrap over docs, with new ranks in each resample. Where all docs agree
    (all positive, all negative, all zero) the data show no spread; with p the exact bound for the share of
    other docs (0 of n - 1, one-sided: the first doc defines what they agree on), the largest ranks going to
    those: all positive gives [2 (1 - p)^2 - 1, 1], all negative its mirror, all zero -+ (1 - (1 - p)^2).
    With one doc that is the trivial interval: p is 1.

    Args:
        differences: one per doc, finite, shape (docs,).
        confidence: between 0 and 1, both excluded.
        draws: number of resamples, at least 1.
        seed: of NumPy's default generator, at least 0; it is in the result.

    Raises:
        ValueError: no doc; NaN or infinite; an option out of its range.
    """
    confidence = open_unit("confidence", confidence)
    draws = whole_number("draws", draws, least=1)
    seed = whole_number("seed", seed, least=0)
    signed = signed_ranks(finite_vector("differences", differences))
    n, signs = len(signed), np.unique(np.sign(signed))
    estimate = float(signed.sum()) / (n * (n + 1))
    if len(signs) == 1:
        unchanged = (1 - unseen_share(n, confidence)) ** 2
        ends = {1: (2 * unchanged - 1, 1.0), 0: (unchanged - 1, 1 - unchanged), -1: (-1.0, 1 - 2 * unchanged)}
        low, high = ends[int(signs[0])]
        method = "all docs of one sign: exact bound on the share of others"
    else:
        tail = (1 - confidence) / 2
        low, high = map(float, np.quantile(_drawn_biserial(signed, draws, seed), [tail, 1 - tail]))
        method = "percentile bootstrap over docs"
    zeros = int((signed == 0).sum())
    return RankBiserial(estimate, low, high, n, zeros, method, confidence, draws, seed)


def signed_ranks(differences: Floats) -> Ints:
    """Twice the midrank of each |difference|, with its sign; zeros are ranked (Pratt) and given 0.

    Twice a midrank is an integer, so ties stay exact. Shape (docs,) in and out.
    """
    size = np.abs(differences)
    near = _SAME * size.max(initial=0.0)
    size[size <= near] = 0.0
    order = np.argsort(size, kind="stable")
    starts = np.flatnonzero(np.diff(size[order], prepend=-1.0) > near)
    ends = np.append(starts[1:], len(size))
    doubled = np.empty(len(size), dtype=np.int64)
    # Ranks first..last of a tie share (first + last) / 2; positions start..end - 1 are ranks start + 1..end.
    doubled[order] = np.repeat(starts + ends + 1, ends - starts)
    return np.where(size > 0, np.sign(differences).astype(np.int64) * doubled, 0)


def _exact(signed: Ints) -> float:
    """Two-sided p-value over all 2^m signs of the m nonzero ranks, by counting sums of doubled ranks."""
    ranks = np.abs(signed[signed != 0])
    ways = np.zeros(int(ranks.sum()) + 1, dtype=np.int64)
    ways[0] = 1
    top = 0
    for rank in ranks.tolist():
        top += rank
        ways[rank : top + 1] += ways[: top + 1 - rank].copy()
    positive = int(signed[signed > 0].sum())
    tail = min(positive, len(ways) - 1 - positive)
    return min(1.0, int(ways[: tail + 1].sum()) / 2.0 ** (len(ranks) - 1))


def _normal(signed: Ints) -> float:
    """Two-sided p-value: given the ranks, each is positive with chance 1/2, independently."""
    from scipy.special import ndtr

    positive, ranks = float(signed[signed > 0].sum()) / 2, np.abs(signed).astype(np.float64) / 2
    z = (positive - float(ranks.sum()) / 2) / sqrt(float((ranks**2).sum()) / 4)
    return 2 * float(ndtr(-abs(z)))


def _drawn_biserial(signed: Ints, draws: int, seed: int) -> Floats:
    """The statistic of each resample, shape (draws,): how often each difference is drawn gives its rank."""
    values, copies = np.unique(signed, return_counts=True)
    sizes, group = np.unique(np.abs(values), return_inverse=True)
    n, sign = len(signed), np.sign(values).astype(np.float64)
    unit_group, unit_sign = np.repeat(group, copies), np.repeat(sign, copies)
    rng = np.random.default_rng(seed)
    drawn = np.empty(draws)
    step = max(1, _CHUNK_CELLS // max(n, len(sizes)))
    for start in range(0, draws, step):
        rows = min(step, draws - start)
        units = rng.integers(0, n, size=(rows, n))
        cells = (unit_group[units] + len(sizes) * np.arange(rows)[:, None]).ravel()
        counts = np.bincount(cells, minlength=rows * len(sizes)).reshape(rows, -1)
        pull = np.bincount(cells, unit_sign[units].ravel(), rows * len(sizes)).reshape(rows, -1)
        midranks = np.cumsum(counts, axis=1) - (counts - 1) / 2
        drawn[start : start + rows] = (pull * midranks).sum(axis=1)
    return drawn / (n * (n + 1) / 2)
