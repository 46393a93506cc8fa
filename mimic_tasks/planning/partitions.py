"""Partitions of a total into s positive parts, uniform among those that the data can serve (METHODS 2)."""

from collections.abc import Mapping
from functools import lru_cache
from random import Random


class Partitions:
    """The partitions of integers whose parts are available, each part value only so often.

    ``4`` in 2 parts has two partitions, [3, 1] and [2, 2]; where only one picture shows two instances,
    [2, 2] cannot be served and is not counted.

    Args:
        available: how many different images offer each part value.
    """

    def __init__(self, available: Mapping[int, int]) -> None:
        self._values = sorted(v for v in available if v > 0 and available[v] > 0)
        self._available = dict(available)
        self._count = lru_cache(maxsize=None)(self._count_uncached)

    def count(self, total: int, parts: int) -> int:
        """How many partitions of `total` into exactly `parts` parts can be served."""
        return self._count(len(self._values), total, parts)

    def draw(self, rng: Random, total: int, parts: int) -> list[int]:
        """One of them, each with the same probability.

        Raises:
            ValueError: there is none.
        """
        if not self.count(total, parts):
            raise ValueError(f"no partition of {total} into {parts} parts can be served")
        chosen: list[int] = []
        for i in range(len(self._values), 0, -1):
            value = self._values[i - 1]
            pick = rng.randrange(self._count(i, total, parts))
            for times in range(self._most(i, total, parts) + 1):
                rest = self._count(i - 1, total - times * value, parts - times)
                if pick < rest:
                    break
                pick -= rest
            chosen += [value] * times
            total, parts = total - times * value, parts - times
        return chosen

    def _most(self, i: int, total: int, parts: int) -> int:
        value = self._values[i - 1]
        return min(self._available[value], parts, total // value)

    def _count_uncached(self, i: int, total: int, parts: int) -> int:
        """Partitions with parts among the `i` smallest values."""
        if parts == 0 or total < parts:
            return int(total == 0 and parts == 0)
        if i == 0:
            return 0
        value = self._values[i - 1]
        return sum(
            self._count(i - 1, total - times * value, parts - times)
            for times in range(self._most(i, total, parts) + 1)
        )
