"""The items of permuted tasks: one for each order of a doc, of which a mean is over docs (METHODS 9)."""

from collections.abc import Iterable, Mapping
from typing import Any

OVER_ORDERS = "_over_orders"
"""In the name of every metric that is a mean over docs of the mean over the doc's image orders."""

ORDER_COLUMNS = ("base_doc_id", "base_hash", "order", "order_index", "n_orders", "orders", "order_seed")
"""Columns of a permuted row besides those of the doc; they are also in its sample, under `mimic`.

`base_doc_id` and `base_hash` are the doc's index in the plain task and its content hash there, `order` which
of its images is at each position, `order_index` the order's number among the doc's `n_orders`, `orders`
and `order_seed` the rule that made them.
"""


def doc_means(items: Iterable[Mapping[str, Any]]) -> tuple[list[float], int]:
    """What is averaged, and what is left out.

    Args:
        items: one for each order of each doc, in any order: `doc`, and `score` if the order was scored.

    Returns:
        The mean over its orders of each doc that has all orders scored, by doc; and the number of other docs.
    """
    scores: dict[Any, list[float | None]] = {}
    for item in items:
        scores.setdefault(item["doc"], []).append(item.get("score"))
    means = []
    for _, of_doc in sorted(scores.items()):
        scored = [score for score in of_doc if score is not None]
        if len(scored) == len(of_doc):
            means.append(sum(scored) / len(scored))
    return means, len(scores) - len(means)
