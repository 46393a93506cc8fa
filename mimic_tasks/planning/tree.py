"""Uniform choice, level by level, among what can still be served."""

from collections.abc import Callable, Hashable, Sequence
from random import Random
from typing import Any

Prefix = tuple[Any, ...]


class ChoiceTree:
    """Draws a leaf by a uniform choice at each level among the branches that still have a live leaf.

    So a class, say, is drawn uniformly over those that can still supply a doc, however many docs each of
    them can supply. Leaves that turn out unable to serve are retired. Branches are made when first needed.

    Args:
        levels: for each level, a function from the choices so far to the values of that level.
    """

    def __init__(self, levels: Sequence[Callable[[Prefix], Sequence[Hashable]]]) -> None:
        self._levels = list(levels)
        self._live: dict[Prefix, list[Hashable]] = {}

    def draw(self, rng: Random) -> Prefix | None:
        """A live leaf, or None when none is left."""
        prefix: Prefix = ()
        while len(prefix) < len(self._levels):
            live = self._branches(prefix)
            if live:
                prefix = (*prefix, live[rng.randrange(len(live))])
            elif prefix:
                self.retire(prefix)
                prefix = ()
            else:
                return None
        return prefix

    def retire(self, node: Prefix) -> None:
        """Never draw this leaf (or branch) again."""
        self._live.pop(node, None)
        siblings = self._branches(node[:-1])
        siblings.remove(node[-1])
        if not siblings and len(node) > 1:
            self.retire(node[:-1])

    def _branches(self, prefix: Prefix) -> list[Hashable]:
        if prefix not in self._live:
            self._live[prefix] = list(self._levels[len(prefix)](prefix))
        return self._live[prefix]
