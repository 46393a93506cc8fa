"""Groups of docs that share images: the units of the 'new images' question (METHODS 9)."""

from collections.abc import Hashable, Sequence
from typing import NamedTuple


class Groups(NamedTuple):
    """Connected groups of docs.

    Attributes:
        labels: the group of each doc, numbered from 0 in order of first appearance.
        groups: how many.
        largest_share: docs in the largest group over all docs.
    """

    labels: tuple[int, ...]
    groups: int
    largest_share: float


def connected_groups(docs: Sequence[Sequence[Hashable]]) -> Groups:
    """Connected groups of docs that share images, directly or through other docs.

    Args:
        docs: the image ids of each doc.

    Raises:
        ValueError: no docs.
    """
    if not docs:
        raise ValueError("no docs to cluster")
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ids: dict[Hashable, int] = {}
    pairs = [(d, ids.setdefault(image, len(ids))) for d, images in enumerate(docs) for image in images]
    rows, columns = zip(*pairs, strict=True) if pairs else ((), ())
    size = len(docs) + len(ids)
    graph = coo_array(([1] * len(pairs), (rows, [len(docs) + c for c in columns])), shape=(size, size))
    _, components = connected_components(graph, directed=False)
    order: dict[int, int] = {}
    labels = tuple(order.setdefault(int(label), len(order)) for label in components[: len(docs)])
    largest = max(labels.count(label) for label in order.values()) if len(order) > 1 else len(docs)
    return Groups(labels, len(order), largest / len(docs))
