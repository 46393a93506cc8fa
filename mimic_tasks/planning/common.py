"""Common: the one class that is in every image (METHODS 2)."""

from collections.abc import Sequence
from random import Random

import numpy as np

from mimic_tasks.planning.base import Indices, PlannedDoc, Planner, Stock, sample, shuffled, span, without
from mimic_tasks.planning.controls import Controls
from mimic_tasks.planning.tree import ChoiceTree, Prefix
from mimic_tasks.pool import Mask

_SWAPS = 60
_CONFUSABLE_TRIES = 10


class CommonPlanner(Planner):
    """Draws images of a class and swaps some until no other class is annotated in all of them.

    What the answer is a kind of may be in all of them. With `--confusable`, see `_Confusable`.
    """

    kind = "common"

    def __init__(self, stock: Stock, controls: Controls) -> None:
        super().__init__(stock, controls)
        if controls.confusable:
            self.searches = 4

    def tree(self) -> ChoiceTree:
        supply = {c: len(self.stock.showing(c)) for c in self.askable()}
        return ChoiceTree(
            [
                lambda p: list(self.controls.servable_sizes(self.kind)),
                lambda p: [c for c in supply if supply[c] >= p[0]],
            ]
        )

    def attempt(self, leaf: Prefix, rng: Random) -> PlannedDoc | None:
        n, answer = leaf
        candidates = self.stock.showing(answer)
        if len(candidates) < n:
            return None
        images = self._images(n, answer, candidates, rng)
        if images is None:
            return None
        return PlannedDoc(
            kind=self.kind,
            images=shuffled(rng, images),
            targets=(answer,),
            gt=self.names([answer])[0],
            spread=n,
        )

    def _images(self, n: int, answer: int, candidates: Indices, rng: Random) -> list[int] | None:
        """`n` of the candidates that share no class but the answer, or None."""
        others = ~self.pool.ancestors[answer]
        others[answer] = False
        if self.controls.confusable:
            search = _Confusable(self.pool.boxed, self.pool.present, candidates, others)
            numbers = list(self.controls.confusable.values())
            rng.shuffle(numbers)
            drawn = (search.draw(n, count, rng) for count in numbers)
            return next((images for images in drawn if images), None)
        images = sample(rng, candidates, n)
        for _ in range(_SWAPS):
            shared = np.asarray(self.pool.present[images].all(axis=0) & others)
            if not shared.any():
                return images
            rival = rng.choice(np.flatnonzero(shared).tolist())
            without_rival = np.setdiff1d(candidates[~self.pool.present[candidates, rival]], images)
            if not len(without_rival):
                return None  # the rival is wherever the answer is
            images[rng.randrange(n)] = sample(rng, without_rival, 1)[0]
        return None

    def shortage(self) -> str:
        supply = {c: len(self.stock.showing(c)) for c in self.askable()}
        best = max(supply, key=lambda c: supply[c], default=None)
        if best is None or not supply[best]:
            return "no image has a target class whose objects are all large enough (5 %) and not a crowd"
        confusable = self.controls.confusable
        in_all_but_one = (
            f", with --confusable {confusable} other classes in all but one of them" if confusable else ""
        )
        return (
            f"asked: {span(list(self.controls.sizes('common')))} images that share one class and no other"
            f"{in_all_but_one}; "
            f"the best-served class, '{self.names([best])[0]}', has {supply[best]} images"
        )


class _Confusable:
    """Draws images of the answer in which a given number of other classes is in all but one.

    The rivals are drawn first, with a slot for each image: one slot for each block of a partition of the
    rivals, whose image lacks just that block, and the other slots for images that show all rivals. Then
    images are swapped for others that fit the same slot, until no other class is in all images or in all
    but one.

    Args:
        boxed: bool (I, C), the class has a box in the image.
        present: bool (I, C), the class is or may be in the image.
        candidates: the images that show the answer.
        others: bool (C,), the classes that are not to be in every image.
    """

    def __init__(self, boxed: Mask, present: Mask, candidates: Indices, others: Mask) -> None:
        self._boxed = boxed[candidates] & others
        self._present = present[candidates] & others
        self._candidates = candidates

    def draw(self, n: int, count: int, rng: Random) -> list[int] | None:
        """`n` images with exactly `count` rivals, or None if a bounded search gave none."""
        everyone = np.arange(len(self._candidates))
        with_box = self._boxed.sum(axis=0)
        fit = (with_box >= n - 1) & ~self._present.all(axis=0)
        for attempt in range(_CONFUSABLE_TRIES):
            rivals: list[int] = []
            if count:
                visible = self._boxed[sample(rng, everyone, 1 + attempt % 2)].any(axis=0)  # of one or of two
                able = np.flatnonzero(visible & fit)
                if len(able) < count:
                    continue
                rivals = sample(rng, able, count)
            slots = self._slots(n, rivals, rng)
            rows = slots and self._without_further(slots, rivals, rng)
            if rows:
                return [int(self._candidates[row]) for row in rows]
        return None

    def _slots(self, n: int, rivals: Sequence[int], rng: Random) -> list[Indices] | None:
        """For each of `n` slots the rows of the images that fit it: each rival is missing in one slot."""
        missed = ~self._present[:, rivals]
        certain = (self._boxed[:, rivals] | missed).all(axis=1)
        sets = missed @ (1 << np.arange(len(rivals), dtype=np.int64))  # what is missed, as bits
        blocks = [int(block) for block in np.unique(sets[certain]) if block]
        chosen: list[int] = []
        left = (1 << len(rivals)) - 1
        while left:
            bit = left & -left
            able = [block for block in blocks if block & bit and block & ~left == 0]
            if not able:
                return None
            chosen.append(able[rng.randrange(len(able))])
            left &= ~chosen[-1]
        rows = {block: np.flatnonzero(certain & (sets == block)) for block in (0, *chosen)}
        if len(chosen) > n or len(rows[0]) < n - len(chosen):
            return None
        return [rows[block] for block in chosen] + [rows[0]] * (n - len(chosen))

    def _without_further(
        self, slots: Sequence[Indices], rivals: Sequence[int], rng: Random
    ) -> list[int] | None:
        """A row for each slot, all different, such that no class but the rivals is in too many images."""
        rows: list[int] = []
        for slot in slots:
            rows.append(sample(rng, without(slot, rows), 1)[0])
        wrong = self._further(rows, rivals)
        for _ in range(_SWAPS):
            if not len(wrong):
                return rows
            further = int(wrong[rng.randrange(len(wrong))])
            at = rng.choice([i for i, row in enumerate(rows) if self._present[row, further]])
            instead = without(slots[at][~self._present[slots[at], further]], rows)
            if not len(instead):
                continue
            swapped = [*rows[:at], sample(rng, instead, 1)[0], *rows[at + 1 :]]
            after = self._further(swapped, rivals)
            if len(after) <= len(wrong):
                rows, wrong = swapped, after
        return None

    def _further(self, rows: Sequence[int], rivals: Sequence[int]) -> Indices:
        """The classes beside the rivals that are, or may be, in all of the images, or are in all but one."""
        rows = list(rows)
        further = self._present[rows].all(axis=0) | (self._boxed[rows].sum(axis=0) == len(rows) - 1)
        further[list(rivals)] = False
        return np.flatnonzero(further)
