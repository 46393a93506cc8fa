"""Intervals for new images (METHODS 9): a bootstrap over clusters of docs that share images."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stats._checks import finite_vector, open_unit, whole_number, within
from stats._resample import Floats, alike_ends, bca_ends, resampled_sums

LEAST_CLUSTERS = 30
"""Fewer clusters give no interval (METHODS 9)."""

LARGEST_PERCENT = 10
"""A cluster with more than this share of the docs gives no interval (METHODS 9)."""


class NotEstimableError(ValueError):
    """The docs share images too densely for an interval about new images; the text says how densely."""


@dataclass(frozen=True)
class ClusterInterval:
    """A mean over docs with its interval for new images; `largest_share` of the docs are in one cluster."""

    estimate: float
    low: float
    high: float
    clusters: int
    largest_share: float
    n: int
    method: str
    confidence: float
    draws: int
    seed: int


def cluster_bootstrap(
    values: npt.ArrayLike,
    clusters: Sequence[Hashable],
    *,
    bounds: tuple[float, float] | None = (0.0, 1.0),
    draws: int = 10_000,
    seed: int = 0,
    confidence: float = 0.95,
) -> ClusterInterval:
    """Mean over docs with a BCa bootstrap interval over clusters (METHODS 9: new images).

    Whole clusters are drawn with replacement, as many as there are; the statistic is a ratio, the sum of
    their values over the number of their docs. When all docs have one value, the interval is that of
    `mean_interval` with clusters for docs (the exact bound on the share of other clusters).

    Args:
        values: one finite number per doc, shape (docs,), each within `bounds`.
        clusters: the cluster of each doc, hashable, length docs.
        bounds: the values a score can take, (-1, 1) for differences of scores; None: unknown.
        draws: number of resamples, at least 1.
        seed: of NumPy's default generator, at least 0; it is in the result.
        confidence: between 0 and 1, both excluded.

    Raises:
        NotEstimableError: fewer than 30 clusters, or one with more than 10 % of the docs (a ValueError;
            its text is what the output says).
        ValueError: no doc; lengths differ; NaN, a value outside `bounds`, a cluster that is None; an option
            out of its range; all values equal and `bounds` is None.
    """
    confidence = open_unit("confidence", confidence)
    draws = whole_number("draws", draws, least=1)
    seed = whole_number("seed", seed, least=0)
    scores = finite_vector("values", values)
    if bounds is not None:
        within("values", scores, bounds, " (`bounds`)")
    sums = _per_cluster(scores, clusters)
    share = _largest_share(sums[:, 1])
    options = (len(sums), share, len(scores))
    if scores.min() == scores.max():
        if bounds is None:
            raise ValueError(f"all {len(scores)} values are equal: they give no interval without `bounds`")
        low, high = alike_ends(float(scores[0]), len(sums), bounds, confidence)
        method = "all docs alike: exact bound on the share of other clusters"
        return ClusterInterval(float(scores[0]), low, high, *options, method, confidence, draws, seed)
    estimate, low, high = _bca_of_ratio(sums, confidence, draws, seed)
    method = "BCa bootstrap over clusters"
    return ClusterInterval(estimate, low, high, *options, method, confidence, draws, seed)


def _bca_of_ratio(sums: Floats, confidence: float, draws: int, seed: int) -> tuple[float, float, float]:
    """Estimate and ends for sum of values / docs; `sums` has shape (clusters, 2)."""
    total, docs = sums.sum(axis=0)
    drawn = resampled_sums(sums, draws=draws, seed=seed)
    left_out = (total - sums[:, 0]) / (docs - sums[:, 1])
    estimate = float(total / docs)
    return estimate, *bca_ends(drawn[:, 0] / drawn[:, 1], estimate, left_out, confidence)


def _per_cluster(scores: Floats, clusters: Sequence[Hashable]) -> Floats:
    """Sum of values and number of docs per cluster, shape (clusters, 2)."""
    if len(clusters) != len(scores):
        raise ValueError(
            f"`clusters` must name the cluster of each of {len(scores)} docs, got {len(clusters)}"
        )
    numbers: dict[Hashable, int] = {}
    for doc, cluster in enumerate(clusters):
        if cluster is None or cluster != cluster:
            raise ValueError(f"`clusters` must name a cluster for each doc, got {cluster} at doc {doc}")
        numbers.setdefault(cluster, len(numbers))
    member = np.array([numbers[cluster] for cluster in clusters])
    return np.stack([np.bincount(member, scores), np.bincount(member).astype(np.float64)], axis=1)


def _largest_share(docs: Floats) -> float:
    """Share of the docs in the largest cluster, of `docs` per cluster, where METHODS 9 allows an interval."""
    share = float(docs.max() / docs.sum())
    if len(docs) < LEAST_CLUSTERS or 100 * docs.max() > LARGEST_PERCENT * docs.sum():
        raise NotEstimableError(
            f"not estimable: docs share images too densely (largest group {100 * share:.4g} %): "
            f"{len(docs)} cluster{'s' * (len(docs) > 1)}, at least {LEAST_CLUSTERS} are needed and none may "
            f"hold more than {LARGEST_PERCENT} % of the docs"
        )
    return share
