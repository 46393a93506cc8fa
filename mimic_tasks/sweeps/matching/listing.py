"""Matched sets of Listing: the same category, and the same right answer unless `listed` varies."""

from collections.abc import Sequence
from random import Random

import numpy as np

from mimic_tasks.planning import PlannedDoc, Range
from mimic_tasks.planning.base import Indices, Stock, sample, shuffled
from mimic_tasks.planning.listing import ListingPlanner
from mimic_tasks.planning.tree import ChoiceTree, Prefix
from mimic_tasks.sweeps.matching.base import MatchedSet, Matcher, Shapes
from mimic_tasks.sweeps.spec import SweepCell

_TRIES = 40


class ListingMatcher(Matcher):
    """A larger cell adds images to those of a smaller one: distractors, or images with the same classes."""

    searches = 5

    def __init__(self, stock: Stock, cells: Sequence[SweepCell]) -> None:
        super().__init__(stock, cells)
        self.planner = ListingPlanner(stock, cells[0].controls)
        self.shapes = Shapes(cells)
        for cell in cells:
            ListingPlanner(stock, cell.controls).categories()
        self.varied = len({cell.controls.category for cell in cells}) > 1

    def tree(self) -> ChoiceTree:
        categories = self.planner.categories()
        return ChoiceTree(
            [
                lambda p: list(self.shapes.choices()),
                lambda p: [None] if self.varied else [c for c in categories if self._servable(c, p[0])],
            ]
        )

    def matched(self, leaf: Prefix, rng: Random) -> MatchedSet | None:
        choice, category = leaf
        shapes = self.shapes.of(choice) or []
        docs: dict[int, PlannedDoc] = {}
        groups: dict[object, list[int]] = {}
        for i, cell in enumerate(self.cells):
            groups.setdefault((category or cell.controls.category, cell.controls.listed), []).append(i)
        for members in groups.values():
            of_group = category or self.cells[members[0]].controls.category
            group = self._group(str(of_group), members, shapes, rng)
            if group is None:
                return None
            docs.update(zip(members, group, strict=True))
        return [docs[i] for i in range(len(self.cells))]

    def _group(
        self, category: str, members: Sequence[int], shapes: Sequence[tuple[int, int]], rng: Random
    ) -> list[PlannedDoc] | None:
        """The docs of cells that list the same classes."""
        positive, distractors = self.planner.supply(category)
        spreads = sorted({shapes[i][1] for i in members})
        most = max(shapes[i][0] - shapes[i][1] for i in members)
        if len(positive) < spreads[-1] or len(distractors) < most:
            return None
        drawn = self._positives(category, positive, self.cells[members[0]].controls.listed, spreads, rng)
        if drawn is None:
            return None
        rest = sample(rng, distractors, most)
        return [
            self._doc(category, drawn[: shapes[i][1]], rest[: shapes[i][0] - shapes[i][1]], rng)
            for i in members
        ]

    def _positives(
        self, category: str, positive: Indices, listed: Range | None, spreads: Sequence[int], rng: Random
    ) -> list[int] | None:
        """Images of which the first, as many as the smallest spread, already show every class to list."""
        classes = list(self.pool.category_members[category])
        for _ in range(_TRIES):
            if listed is None:
                images = sample(rng, positive, spreads[0])
                requested = self._visible(images, classes)
            else:
                if listed.low > len(classes):
                    return None
                requested = set(rng.sample(classes, rng.randint(listed.low, min(listed.high, len(classes)))))
                images = self._covering(positive, classes, requested, spreads[0], rng)
                if not images:
                    continue
            allowed = self._within(positive, classes, requested)
            more = np.setdiff1d(allowed, images)
            if len(more) >= spreads[-1] - spreads[0]:
                return images + sample(rng, more, spreads[-1] - spreads[0])
        return None

    def _covering(
        self, positive: Indices, classes: Sequence[int], requested: set[int], n: int, rng: Random
    ) -> list[int]:
        """`n` images that together show just the `requested` classes of the category; empty on a bad draw."""
        allowed = self._within(positive, classes, requested)
        images: list[int] = []
        for c in rng.sample(sorted(requested), len(requested)):
            if c in self._visible(images, classes):
                continue
            showing = np.setdiff1d(allowed[self.pool.countable[allowed, c] > 0], images)
            if not len(showing):
                return []
            images += sample(rng, showing, 1)
        rest = np.setdiff1d(allowed, images)
        if not requested or len(images) > n or len(rest) < n - len(images):
            return []
        return images + sample(rng, rest, n - len(images))

    def _within(self, positive: Indices, classes: Sequence[int], requested: set[int]) -> Indices:
        """The images that show no class of the category but `requested`."""
        others = [c for c in classes if c not in requested]
        return positive[~(self.pool.countable[positive][:, others] > 0).any(axis=1)]

    def _visible(self, images: Sequence[int], classes: Sequence[int]) -> set[int]:
        return {c for c in classes if (self.pool.countable[list(images), c] > 0).any()}

    def _doc(self, category: str, seen: list[int], rest: list[int], rng: Random) -> PlannedDoc:
        visible = self._visible(seen, self.pool.category_members[category])
        targets = sorted(visible, key=lambda c: self.pool.source.classes[c])
        return PlannedDoc(
            kind=self.planner.kind,
            images=shuffled(rng, seen + rest),
            targets=tuple(targets),
            gt=", ".join(self.names(targets)),
            spread=len(seen),
            category=category,
        )

    def _servable(self, category: str, choice: Prefix) -> bool:
        positive, distractors = self.planner.supply(category)
        return all(s <= len(positive) and n - s <= len(distractors) for n, s in self.shapes.of(choice) or ())

    def shortage(self) -> str:
        return self.planner.shortage()
