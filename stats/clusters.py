"""The units of the question about new images (METHODS 9): groups of docs that share images."""

from collections.abc import Hashable, Sequence

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
