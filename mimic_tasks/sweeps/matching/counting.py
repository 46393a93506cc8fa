"""Matched sets of Counting: the same classes and totals, over the same target images where s is the same."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from random import Random

import numpy as np

from mimic_eval.records import UserError
from mimic_tasks.planning import PlannedDoc
from mimic_tasks.planning.base import Stock, sample
from mimic_tasks.planning.counting import BalancedPlanner, CountingPlanner, UnbalancedPlanner
from mimic_tasks.planning.tree import ChoiceTree, Prefix
from mimic_tasks.sweeps.matching.base import MatchedSet, Matcher, Shapes
from mimic_tasks.sweeps.spec import SweepCell

_TRIES = 40


class _CountingMatcher(Matcher):
    """What both splits share: (N, s) of each cell, and distractors that larger cells add to."""

    def __init__(self, stock: Stock, cells: Sequence[SweepCell], *, most: int | None = None) -> None:
        super().__init__(stock, cells)
        planner: type[CountingPlanner] = BalancedPlanner if self.balanced else UnbalancedPlanner
        by_kind = {cell.controls.hard: cell.controls for cell in reversed(cells)}
        shared = {hard: planner(stock, controls) for hard, controls in by_kind.items()}
        self.planners = [shared[cell.controls.hard] for cell in cells]
        self.shapes = Shapes(cells, most=most)
        (self.k,) = {cell.controls.k for cell in cells}

    @property
    def balanced(self) -> bool:
        """Whether the totals are drawn first."""
        return self.cells[0].controls.split == "balanced"

    def enough_distractors(self, targets: tuple[int, ...], shapes: Sequence[tuple[int, int]]) -> bool:
        """Every cell has its distractors for these target classes."""
        return all(
            n - s <= len(planner.supply(targets).distractors)
            for planner, (n, s) in zip(self.planners, shapes, strict=True)
        )

    def targets(self, first: int, rng: Random) -> tuple[int, ...]:
        """`first` and k - 1 others."""
        return self.planners[0].draw_targets(first, rng)

    def docs(
        self,
        targets: tuple[int, ...],
        positive: dict[int, list[int]],
        shapes: Sequence[tuple[int, int]],
        rng: Random,
    ) -> MatchedSet:
        """The docs of the cells: a cell with more distractors has those of a cell with fewer."""
        drawn: dict[bool, list[int]] = {}
        for hard in sorted({cell.controls.hard for cell in self.cells}):
            members = [i for i, cell in enumerate(self.cells) if cell.controls.hard == hard]
            most = max(shapes[i][0] - shapes[i][1] for i in members)
            drawn[hard] = sample(rng, self.planners[members[0]].supply(targets).distractors, most)
        return [
            planner.make(targets, list(positive[s]), drawn[cell.controls.hard][: n - s], rng)
            for cell, planner, (n, s) in zip(self.cells, self.planners, shapes, strict=True)
        ]

    def shortage(self) -> str:
        return self.planners[0].shortage()


class BalancedMatcher(_CountingMatcher):
    """The (class, total) pair is drawn once and used for every cell (METHODS 2).

    Cells with the same s share their target images; for another s the same total is partitioned again.
    """

    def __init__(self, stock: Stock, cells: Sequence[SweepCell]) -> None:
        totals = {cell.controls.total for cell in cells}
        smallest = min(total.low for total in totals)
        super().__init__(stock, cells, most=smallest)
        self.total = cells[0].controls.total if len(totals) == 1 else None
        spreads = [s for choice in self.shapes.choices() for _, s in self.shapes.of(choice) or ()]
        if max(spreads) > smallest:
            raise UserError(
                f"a spread of {max(spreads)} needs totals of at least {max(spreads)}, "
                f"got total {smallest}: raise total, or leave out the larger spreads"
            )

    def tree(self) -> ChoiceTree:
        return ChoiceTree(
            [
                lambda p: [t for t in self.total.values() if t >= self.k] if self.total else [0],
                lambda p: list(self.shapes.choices()),
                lambda p: [c for c in self.planners[0].askable() if self._servable((c,), p[0], p[1])],
            ]
        )

    def matched(self, leaf: Prefix, rng: Random) -> MatchedSet | None:
        total, choice, first = leaf
        shapes = self.shapes.of(choice) or []
        for _ in range(_TRIES if self.k > 1 else 1):
            targets = self.targets(first, rng)
            if len(targets) < self.k or not self._servable(targets, total, choice, exact=True):
                continue
            matched = self._matched(targets, total, shapes, rng)
            if matched is not None:
                return matched
        return None

    def _servable(self, targets: tuple[int, ...], total: int, choice: Prefix, *, exact: bool = False) -> bool:
        shapes = self.shapes.of(choice) or []
        if not self.enough_distractors(targets, shapes):
            return False
        partitions = self.planners[0].supply(targets).partitions
        return (self.k > 1 and not exact) or all(
            partitions.count(t, s) for t, (_, s) in zip(self._totals(total), shapes, strict=True)
        )

    def _totals(self, total: int) -> list[int]:
        """The total of each cell: the one drawn, or the cell's where totals vary."""
        return [total or cell.controls.total.low for cell in self.cells]

    def _matched(
        self, targets: tuple[int, ...], total: int, shapes: Sequence[tuple[int, int]], rng: Random
    ) -> MatchedSet | None:
        supply = self.planners[0].supply(targets)
        positive: dict[tuple[int, int], list[int]] = {}
        for key in sorted({(t, s) for t, (_, s) in zip(self._totals(total), shapes, strict=True)}):
            parts = Counter(supply.partitions.draw(rng, *key))
            positive[key] = [
                i for value, m in sorted(parts.items()) for i in sample(rng, supply.by_value[value], m)
            ]
            if not self.planners[0].covers(targets, positive[key]):
                return None
        if self.total is not None:
            return self.docs(targets, {s: images for (_, s), images in positive.items()}, shapes, rng)
        docs = []
        for i, of_cell in enumerate(self._totals(total)):
            images = {s: chosen for (t, s), chosen in positive.items() if t == of_cell}
            docs.append(self._doc(i, targets, images[shapes[i][1]], shapes[i], rng))
        return docs

    def _doc(
        self, i: int, targets: tuple[int, ...], positive: list[int], shape: tuple[int, int], rng: Random
    ) -> PlannedDoc:
        distractors = self.planners[i].supply(targets).distractors
        return self.planners[i].make(
            targets, list(positive), sample(rng, distractors, shape[0] - shape[1]), rng
        )


class UnbalancedMatcher(_CountingMatcher):
    """Each target image brings its natural count; a larger s adds target images to those of a smaller."""

    def tree(self) -> ChoiceTree:
        return ChoiceTree(
            [
                lambda p: list(self.shapes.choices()),
                lambda p: [c for c in self.planners[0].askable() if self._servable((c,), p[0])],
            ]
        )

    def matched(self, leaf: Prefix, rng: Random) -> MatchedSet | None:
        choice, first = leaf
        shapes = self.shapes.of(choice) or []
        for _ in range(_TRIES if self.k > 1 else 1):
            targets = self.targets(first, rng)
            if len(targets) < self.k or not self._servable(targets, choice, exact=True):
                continue
            spreads = sorted({s for _, s in shapes})
            drawn = sample(rng, self.planners[0].supply(targets).positive, spreads[-1])
            if self.planners[0].covers(targets, drawn[: spreads[0]]):
                return self.docs(targets, {s: drawn[:s] for s in spreads}, shapes, rng)
        return None

    def _servable(self, targets: tuple[int, ...], choice: Prefix, *, exact: bool = False) -> bool:
        shapes = self.shapes.of(choice) or []
        positive = len(self.planners[0].supply(targets).positive)
        return self.enough_distractors(targets, shapes) and (
            (self.k > 1 and not exact) or max(s for _, s in shapes) <= positive
        )


class VariedKMatcher(Matcher):
    """k varies: the same images for every k, with questions that name more or fewer classes.

    The images show an instance of each of the largest k's classes, each picture only large ones of them.
    The question of a cell names the first k of them in the order drawn.
    """

    def __init__(self, stock: Stock, cells: Sequence[SweepCell]) -> None:
        super().__init__(stock, cells)
        for cell in cells:
            c = cell.controls
            if c.split != "unbalanced" or c.spread or c.distractors or c.hard or not c.n_images:
                raise UserError(
                    "where k varies, the images stay and only the question changes: give n_images and "
                    "split: unbalanced, and no spread, distractors or hard"
                )
        sizes = {cell.controls.n_images for cell in cells}
        if len(sizes) > 1:
            raise UserError("where k varies, n_images cannot vary too")
        (self.sizes,) = sizes
        self.most = max(cell.controls.k for cell in cells)
        self.planner = UnbalancedPlanner(stock, cells[0].controls)

    def tree(self) -> ChoiceTree:
        counted = (self.pool.countable > 0).sum(axis=0)
        return ChoiceTree(
            [
                lambda p: list(self.sizes.values()) if self.sizes else [],
                lambda p: [c for c in self.planner.askable() if counted[c]],
            ]
        )

    def matched(self, leaf: Prefix, rng: Random) -> MatchedSet | None:
        n, first = leaf
        for _ in range(_TRIES):
            images, classes = self._images(n, first, rng)
            if len(images) == n:
                rng.shuffle(images)
                return [self._doc(cell.controls.k, images, classes, rng) for cell in self.cells]
        return None

    def _images(self, n: int, first: int, rng: Random) -> tuple[list[int], list[int]]:
        """`n` images that show `first` and others, and the classes in a drawn order; fewer on a bad draw."""
        others = [c for c in self.planner.askable() if c != first and (self.pool.countable[:, c] > 0).any()]
        if len(others) < self.most - 1:
            return [], []
        classes = [first, *rng.sample(others, self.most - 1)]
        rng.shuffle(classes)
        countable = self.pool.countable[:, classes] > 0
        clean = self.stock.where(np.asarray((countable | ~self.pool.present[:, classes]).all(axis=1)))
        showing = clean[countable[clean].any(axis=1)]
        images: list[int] = []
        for i in rng.sample(range(self.most), self.most):
            if countable[images, i].any():
                continue
            candidates = np.setdiff1d(showing[countable[showing, i]], images)
            if not len(candidates):
                return [], []
            images += sample(rng, candidates, 1)
        rest = np.setdiff1d(showing, images)
        if len(images) > n or len(rest) < n - len(images):
            return [], []
        return images + sample(rng, rest, n - len(images)), classes

    def _doc(self, k: int, images: list[int], classes: Sequence[int], rng: Random) -> PlannedDoc:
        named = tuple(classes[:k])
        shows = np.asarray(self.pool.present[np.ix_(images, list(named))].any(axis=1)).tolist()
        positive = [i for i, visible in zip(images, shows, strict=True) if visible]
        rest = [i for i, visible in zip(images, shows, strict=True) if not visible]
        return replace(self.planner.make(named, positive, rest, rng), images=tuple(images))

    def shortage(self) -> str:
        return f"asked: {self.sizes} images with large objects of {self.most} classes that one question names"
