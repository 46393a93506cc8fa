"""Counting: how many instances of k classes over N images (METHODS 2)."""

from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from random import Random

import numpy as np

from mimic_tasks.planning.base import Indices, PlannedDoc, Planner, Stock, sample, shuffled, span
from mimic_tasks.planning.controls import Controls
from mimic_tasks.planning.partitions import Partitions
from mimic_tasks.planning.tree import ChoiceTree, Prefix

_TRIES_FOR_EACH_CLASS = 40


class _Supply:
    """The images that can serve a set of target classes: by their number of instances, and distractors."""

    def __init__(self, planner: "CountingPlanner", targets: tuple[int, ...]) -> None:
        pool, stock = planner.pool, planner.stock
        columns = list(targets)
        present = pool.present[:, columns]
        countable = pool.countable[:, columns]
        clean = ((countable > 0) | ~present).all(axis=1)
        values = np.where(clean, countable.sum(axis=1), 0)
        self.positive: Indices = stock.where(values > 0)
        distractors = np.asarray(~present.any(axis=1))
        if planner.controls.hard:
            distractors &= pool.present[:, planner.siblings(targets)].any(axis=1)
        self.distractors: Indices = stock.where(distractors)
        self.values = values
        self.by_value: dict[int, Indices] = {
            int(v): self.positive[values[self.positive] == v] for v in np.unique(values[self.positive])
        }
        self.partitions = Partitions({v: len(images) for v, images in self.by_value.items()})


class CountingPlanner(Planner):
    """Shared by both splits: which classes a question may name, and the doc of chosen images."""

    kind = "counting"

    def __init__(self, stock: Stock, controls: Controls) -> None:
        super().__init__(stock, controls)
        self._supplies: dict[tuple[int, ...], tuple[int, _Supply]] = {}

    @cached_property
    def shapes(self) -> list[tuple[int, int]]:
        """(N, s) pairs the options allow."""
        return self.controls.counting_shapes()

    def supply(self, targets: tuple[int, ...]) -> _Supply:
        """The images for some target classes, computed again when images have been used up."""
        version, supply = self._supplies.get(targets, (-1, None))
        if supply is None or version != self.stock.version:
            supply = _Supply(self, targets)
            if len(targets) == 1:
                self._supplies[targets] = (self.stock.version, supply)
        return supply

    def askable(self) -> list[int]:
        """The classes that may be targets, less those that the profile says cannot be counted."""
        return [
            c for c in super().askable() if self.pool.source.classes[c] not in self.pool.profile.uncounted
        ]

    def draw_targets(self, first: int, rng: Random) -> tuple[int, ...]:
        """`first` and k - 1 other askable classes, in a random order."""
        others = [c for c in self.askable() if c != first]
        targets = [first, *rng.sample(others, min(self.controls.k - 1, len(others)))]
        rng.shuffle(targets)
        return tuple(targets)

    def make(
        self, targets: tuple[int, ...], positive: list[int], distractors: list[int], rng: Random
    ) -> PlannedDoc:
        """The doc of some images: its ground truth is counted here."""
        counts = self.pool.countable[np.ix_(positive, list(targets))].sum(axis=0).tolist()
        names = self.names(targets)
        gt = (
            str(counts[0])
            if len(targets) == 1
            else ", ".join(f"{n}: {c}" for n, c in zip(names, counts, strict=True))
        )
        return PlannedDoc(
            kind=self.kind,
            images=shuffled(rng, positive + distractors),
            targets=targets,
            gt=gt,
            spread=len(positive),
            split=self.split,
        )

    def covers(self, targets: tuple[int, ...], positive: list[int]) -> bool:
        """Each target class has an instance."""
        return bool(self.pool.countable[np.ix_(positive, list(targets))].sum(axis=0).all())

    def shortage(self) -> str:
        def served(c: int) -> tuple[int, int]:
            supply = self.supply((c,))
            room, targets = len(supply.distractors), len(supply.positive)
            return sum(s <= targets and n - s <= room for n, s in self.shapes), targets

        best = max(self.askable(), key=served, default=None)
        if best is None or not any(served(c)[1] for c in self.askable()):
            return "no image has a target class whose objects are all large enough (5 %) and not a crowd"
        name = self.names([best])[0]
        supply = self.supply((best,))
        kind = "hard distractors" if self.controls.hard else "distractors"
        return (
            f"asked: {span([n for n, _ in self.shapes])} images, {span([s for _, s in self.shapes])} of them "
            f"with a target; the best-served class, '{name}', has {len(supply.positive)} target images "
            f"({span(list(supply.by_value))} instances each) and {len(supply.distractors)} {kind}"
        )


class BalancedPlanner(CountingPlanner):
    """The total is drawn first, uniform over its range; then class, N and s; then a partition."""

    split = "balanced"

    def tree(self) -> ChoiceTree:
        def shapes(total: int, c: int) -> Iterator[tuple[int, int]]:
            supply = self.supply((c,))
            for n, s in self.shapes:
                if n - s <= len(supply.distractors) and (
                    self.controls.k > 1 or supply.partitions.count(total, s)
                ):
                    yield n, s

        return ChoiceTree(
            [
                lambda p: [t for t in self.controls.total.values() if t >= self.controls.k],
                lambda p: [c for c in self.askable() if any(True for _ in shapes(p[0], c))],
                lambda p: sorted({n for n, _ in shapes(p[0], p[1])}),
                lambda p: [s for n, s in shapes(p[0], p[1]) if n == p[2]],
            ]
        )

    def attempt(self, leaf: Prefix, rng: Random) -> PlannedDoc | None:
        total, first, n, s = leaf
        for _ in range(_TRIES_FOR_EACH_CLASS if self.controls.k > 1 else 1):
            targets = self.draw_targets(first, rng)
            supply = self.supply(targets)
            if len(targets) < self.controls.k or len(supply.distractors) < n - s:
                continue
            if not supply.partitions.count(total, s):
                continue
            parts = Counter(supply.partitions.draw(rng, total, s))
            positive = [
                i for value, m in sorted(parts.items()) for i in sample(rng, supply.by_value[value], m)
            ]
            if self.covers(targets, positive):
                return self.make(targets, positive, sample(rng, supply.distractors, n - s), rng)
        return None

    def shortage(self) -> str:
        return f"{super().shortage()}; asked: totals {self.controls.total}"


class UnbalancedPlanner(CountingPlanner):
    """Each target image brings its natural count, so the total grows with the spread."""

    split = "unbalanced"

    def tree(self) -> ChoiceTree:
        def shapes(c: int) -> list[tuple[int, int]]:
            supply = self.supply((c,))
            room = len(supply.distractors)
            return [
                (n, s)
                for n, s in self.shapes
                if n - s <= room and (self.controls.k > 1 or s <= len(supply.positive))
            ]

        return ChoiceTree(
            [
                lambda p: [c for c in self.askable() if shapes(c)],
                lambda p: sorted({n for n, _ in shapes(p[0])}),
                lambda p: [s for n, s in shapes(p[0]) if n == p[1]],
            ]
        )

    def attempt(self, leaf: Prefix, rng: Random) -> PlannedDoc | None:
        first, n, s = leaf
        for _ in range(_TRIES_FOR_EACH_CLASS if self.controls.k > 1 else 1):
            targets = self.draw_targets(first, rng)
            supply = self.supply(targets)
            if len(targets) < self.controls.k or len(supply.positive) < s or len(supply.distractors) < n - s:
                continue
            positive = sample(rng, supply.positive, s)
            if self.covers(targets, positive):
                return self.make(targets, positive, sample(rng, supply.distractors, n - s), rng)
        return None
