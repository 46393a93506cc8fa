"""Matched sets of Common and Odd-One, PQA and Retrieval: the same class in every cell."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from random import Random

import numpy as np

from mimic_eval.records import UserError
from mimic_tasks.planning.base import Indices, PlannedDoc, Stock, sample, shuffled
from mimic_tasks.planning.common import CommonPlanner
from mimic_tasks.planning.oddone import OddOnePlanner
from mimic_tasks.planning.presence import PqaPlanner, PresencePlanner, RetrievalPlanner
from mimic_tasks.planning.tree import ChoiceTree, Prefix
from mimic_tasks.sweeps.matching.base import MatchedSet, Matcher
from mimic_tasks.sweeps.spec import SweepCell


class CommonMatcher(Matcher):
    """Where only N varies, a larger cell adds images to those of a smaller one."""

    searches = 3

    def __init__(self, stock: Stock, cells: Sequence[SweepCell]) -> None:
        super().__init__(stock, cells)
        self.sizes = _sizes(cells)
        self.planners = [CommonPlanner(stock, cell.controls) for cell in cells]
        self.nested = all(cell.controls.confusable is None for cell in cells)

    def tree(self) -> ChoiceTree:
        supply = {c: len(self._images(c)) for c in self.planners[0].askable()}
        return ChoiceTree([lambda p: [c for c in supply if supply[c] >= max(self.sizes)]])

    def matched(self, leaf: Prefix, rng: Random) -> MatchedSet | None:
        (answer,) = leaf
        if not self.nested:
            docs = []
            for planner, n in zip(self.planners, self.sizes, strict=True):
                doc = planner.attempt((n, answer), rng)
                if doc is None:
                    return None
                docs.append(doc)
            return docs
        smallest = self.planners[0].attempt((min(self.sizes), answer), rng)
        if smallest is None:
            return None
        more = np.setdiff1d(self._images(answer), smallest.images)
        images = [*smallest.images, *sample(rng, more, max(self.sizes) - min(self.sizes))]
        made = {
            n: replace(smallest, images=shuffled(rng, images[:n]), spread=n) for n in sorted(set(self.sizes))
        }
        return [made[n] for n in self.sizes]

    def _images(self, answer: int) -> Indices:
        return self.stock.showing(answer)

    def shortage(self) -> str:
        largest = max(range(len(self.sizes)), key=self.sizes.__getitem__)
        return self.planners[largest].shortage()


class OddOneMatcher(Matcher):
    """The same answer; a minority that no cell fixes is drawn once for all cells."""

    searches = 3

    def __init__(self, stock: Stock, cells: Sequence[SweepCell]) -> None:
        super().__init__(stock, cells)
        self.sizes = _sizes(cells)
        self.planners = [OddOnePlanner(stock, cell.controls) for cell in cells]
        minorities = {cell.controls.minority for cell in cells}
        self.minority = cells[0].controls.minority if len(minorities) == 1 else None
        self.varied = len(minorities) > 1

    def tree(self) -> ChoiceTree:
        most = (min(self.sizes) - 1) // 2
        low, high = self.minority or (1, most)
        return ChoiceTree(
            [
                lambda p: [0] if self.varied else list(range(low, min(high, most) + 1)),
                lambda p: [c for c in self.planners[0].askable() if len(self.stock.showing(c))],
            ]
        )

    def matched(self, leaf: Prefix, rng: Random) -> MatchedSet | None:
        minority, answer = leaf
        docs = []
        for cell, planner, n in zip(self.cells, self.planners, self.sizes, strict=True):
            size = minority or (cell.controls.minority.low if cell.controls.minority else 1)
            doc = planner.attempt((n, size, answer), rng) if 2 * size < n else None
            if doc is None:
                return None
            docs.append(doc)
        return docs

    def shortage(self) -> str:
        largest = max(range(len(self.sizes)), key=self.sizes.__getitem__)
        return self.planners[largest].shortage()


class PresenceMatcher(Matcher):
    """PQA and Retrieval: the same class; a larger cell adds images to those of a smaller one."""

    planner: type[PresencePlanner]

    def __init__(self, stock: Stock, cells: Sequence[SweepCell]) -> None:
        super().__init__(stock, cells)
        self.sizes = _sizes(cells)
        self.planners = [self.planner(stock, cell.controls) for cell in cells]
        self._spreads: Counter[tuple[int, int]] = Counter()

    def tree(self) -> ChoiceTree:
        return ChoiceTree([lambda p: [c for c in self.planners[0].askable() if self._serves(c)]])

    def _serves(self, c: int) -> bool:
        return all(p.serves(c, n, s) for p in self.planners for n, s in p.shapes)

    def matched(self, leaf: Prefix, rng: Random) -> MatchedSet | None:
        (c,) = leaf
        if not self._serves(c):
            return None
        spreads = [self._spread(i, rng) for i in range(len(self.cells))]
        present = sample(rng, self.planners[0].supply(c).present, max(spreads))
        absent: dict[bool, list[int]] = {}
        docs = []
        for cell, planner, n, s in zip(self.cells, self.planners, self.sizes, spreads, strict=True):
            hard = cell.controls.hard
            if hard not in absent:
                most = max(
                    size - one
                    for other, size, one in zip(self.cells, self.sizes, spreads, strict=True)
                    if other.controls.hard == hard
                )
                absent[hard] = sample(rng, planner.supply(c).absent, most)
            docs.append(planner.doc(c, present[:s], absent[hard][: n - s]))
        return docs

    def _spread(self, i: int, rng: Random) -> int:
        """How many images of the i-th cell show the class: what the cell has had least often."""
        allowed = [s for _, s in self.planners[i].shapes]
        rng.shuffle(allowed)
        s = min(allowed, key=lambda one: self._spreads[i, one])
        self._spreads[i, s] += 1
        return s

    def arranged(self, docs: Sequence[PlannedDoc], rng: Random) -> list[PlannedDoc]:
        return self.planners[0].arranged(docs, rng)

    def shortage(self) -> str:
        largest = max(range(len(self.sizes)), key=self.sizes.__getitem__)
        return self.planners[largest].shortage()


class PqaMatcher(PresenceMatcher):
    """Of PQA."""

    planner = PqaPlanner


class RetrievalMatcher(PresenceMatcher):
    """Of Retrieval: the same image shows the class in every cell."""

    planner = RetrievalPlanner


def _sizes(cells: Sequence[SweepCell]) -> list[int]:
    """N of each cell.

    Raises:
        UserError: a cell without one, or with a range.
    """
    sizes = []
    for cell in cells:
        n = cell.controls.n_images
        if n is None or n.low != n.high:
            raise UserError(f"cell {cell.name}: give n_images as one number")
        sizes.append(n.low)
    return sizes
