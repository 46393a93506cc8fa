"""The units of the question about new images (METHODS 9): groups of docs that share images."""

from collections.abc import Hashable, Sequence

import numpy.typing as npt

from stats._checks import finite_vector
from stats._intervals import summed
from stats.groups import Groups, connected_groups

LEAST_CLUSTERS = 30
"""Fewer clusters give no interval (METHODS 9)."""

LARGEST_PERCENT = 10
"""A cluster with more than this share of the docs gives no interval (METHODS 9)."""


class NotEstimableError(ValueError):
    """The docs share images too densely for an interval about new images; the message says how densely."""


def image_clusters(docs: Sequence[Sequence[Hashable]]) -> Groups:
    """Clusters of docs for a statement about new images: connected groups of docs that share images.

    Pass `labels` as `clusters` to an interval or a test: complete groups are then drawn or exchanged.

    Args:
        docs: the image ids of each doc.

    Raises:
        NotEstimableError: fewer than 30 groups, or one with more than 10 % of the docs (a ValueError; its
            text is what the output says).
        ValueError: no docs.
    """
    groups = connected_groups(docs)
    if groups.groups < LEAST_CLUSTERS or 100 * groups.largest_share > LARGEST_PERCENT * (1 + 1e-9):
        count = f"{groups.groups} group{'s' * (groups.groups != 1)}"
        raise NotEstimableError(
            "not estimable: docs share images too densely "
            f"(largest group {100 * groups.largest_share:.4g} %): {count}, at least {LEAST_CLUSTERS} are "
            f"needed and none may hold more than {LARGEST_PERCENT} % of the docs"
        )
    return groups


def design_effect(values: npt.ArrayLike, clusters: Sequence[Hashable]) -> float | None:
    """How many times larger clusters make the variance of a mean over docs (Kish 1965, section 8.2).

    Args:
        values: one for each doc, finite, shape (docs,).
        clusters: the cluster of each doc.

    Returns:
        1 for clusters of one doc; None where there is one cluster only, or all values are equal.

    Raises:
        ValueError: no doc; NaN or infinite; not one cluster for each doc.
    """
    scores = finite_vector("values", values)
    apart = scores - scores.mean()
    sums = summed(apart, clusters)
    alone = float((apart**2).sum()) * len(scores) / max(1, len(scores) - 1)
    if len(sums) < 2 or alone <= 1e-24:
        return None
    return float((sums**2).sum()) * len(sums) / (len(sums) - 1) / alone
