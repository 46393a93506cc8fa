"""`--limit` counts docs: upstream applies it to rows, of which a permuted task has several for each doc."""

import math
from collections.abc import Mapping
from typing import Any


def is_permuted(task: Any) -> bool:
    """Whether one of upstream's task objects is a permuted task."""
    return "order_index" in (getattr(task.eval_docs, "features", None) or ())


def limit_docs(tasks: Mapping[str, Any], limit: float) -> dict[str, int]:
    """Leave each task its first docs only, with all their orders.

    Args:
        tasks: upstream's task objects by name, permuted ones and others; modified.
        limit: a number of docs, or a share of each task's below 1, rounded up.

    Returns:
        How many rows each task had.
    """
    had = {}
    for name, task in tasks.items():
        had[name] = len(task.eval_docs)
        keep = min(_rows(task, limit), had[name])
        split = task.config.test_split or task.config.validation_split
        for dataset in (task.dataset, task.dataset_no_image):
            dataset[split] = dataset[split].select(range(keep))
    return had


def _rows(task: Any, limit: float) -> int:
    if not is_permuted(task):
        return _share(len(task.eval_docs), limit)
    numbers = list(task.eval_docs["base_doc_id"])
    docs = _share(len(set(numbers)), limit)
    return sum(number < docs for number in numbers)


def _share(docs: int, limit: float) -> int:
    return math.ceil(docs * limit) if limit < 1 else int(limit)
