"""Odd-One: the one class that is in a minority of the images, where every other is in more than half."""

from collections.abc import Iterator
from itertools import product
from random import Random

import numpy as np

from mimic_tasks.planning.base import Indices, PlannedDoc, Planner, sample, shuffled, span
from mimic_tasks.planning.controls import MINIMUM_SIZE
from mimic_tasks.planning.tree import ChoiceTree, Prefix
from mimic_tasks.pool import Mask

_THEMED_TRIES = 30
_EXHAUSTIVE_PAIRS = 4000


class OddOnePlanner(Planner):
    """Starts from one image of the minority and one of the majority, and fills up.

    First tries themes: the majority image shows all that the minority image shows but the answer, and the
    fill shows nothing else, which finds docs fast where many pictures show nearly the same classes. Small
    data runs out of themes and has docs at three images only: there every pair of first images is tried.
    """

    kind = "oddone"

    def tree(self) -> ChoiceTree:
        return ChoiceTree(
            [
                lambda p: list(self.controls.sizes("oddone")),
                lambda p: list(range(1, (p[0] - 1) // 2 + 1)),
                lambda p: [c for c in self.askable() if (self.pool.countable[:, c] > 0).any()],
            ]
        )

    def attempt(self, leaf: Prefix, rng: Random) -> PlannedDoc | None:
        n, spread, answer = leaf
        present = self.pool.present
        minority = self.stock.where(self.pool.countable[:, answer] > 0)
        majority = self.stock.where(~present[:, answer] & present.any(axis=1))
        if len(minority) < spread or len(majority) < n - spread:
            return None
        for odd, usual, only in self._starts(n, answer, minority, majority, rng):
            doc = self._fill(
                [odd, usual], answer, minority[only[minority]], majority[only[majority]], n, spread, rng
            )
            if doc is not None:
                return doc
        return None

    def _starts(
        self, n: int, answer: int, minority: Indices, majority: Indices, rng: Random
    ) -> Iterator[tuple[int, int, Mask]]:
        """(minority image, majority image, the images that may join them)."""
        present = self.pool.present
        for _ in range(_THEMED_TRIES):
            odd = sample(rng, minority, 1)[0]
            rest = present[odd].copy()
            rest[answer] = False
            themes = majority[present[majority][:, rest].all(axis=1)]
            if len(themes):
                usual = sample(rng, themes, 1)[0]
                foreign = ~present[usual]
                foreign[answer] = False
                yield odd, usual, np.asarray(~present[:, foreign].any(axis=1))
        if n == MINIMUM_SIZE[self.kind] and len(minority) * len(majority) <= _EXHAUSTIVE_PAIRS:
            pairs = list(product(minority.tolist(), majority.tolist()))
            rng.shuffle(pairs)
            for odd, usual in pairs:
                yield odd, usual, self.pool.usable

    def _fill(
        self,
        images: list[int],
        answer: int,
        minority: Indices,
        majority: Indices,
        n: int,
        spread: int,
        rng: Random,
    ) -> PlannedDoc | None:
        """A new doc of `n` images that begins with the two given, or None."""
        minority = np.setdiff1d(minority, images)
        majority = np.setdiff1d(majority, images)
        if len(minority) < spread - 1:
            return None
        images = [*images, *sample(rng, minority, spread - 1)]
        if len(images) == n:
            return self._doc(images, answer, spread, rng)
        while True:
            fits = self._fitting(images, answer, majority, n)
            if not len(fits):
                return None
            if len(images) < n - 1:
                images.append(sample(rng, fits, 1)[0])
                continue
            for last in sample(rng, fits, len(fits)):
                doc = self._doc([*images, last], answer, spread, rng)
                if doc is not None:
                    return doc
            return None

    def _fitting(self, images: list[int], answer: int, majority: Indices, n: int) -> Indices:
        """The majority images that can join and still leave every class in none or in more than half."""
        need = n // 2 + 1
        left = n - len(images)
        counts = self.pool.present[images].sum(axis=0)
        counts[answer] = 0
        must = (counts > 0) & (counts < need) & (counts + left <= need)
        late = (counts == 0) & (left < need)
        shown = self.pool.present[majority]
        return np.setdiff1d(majority[shown[:, must].all(axis=1) & ~shown[:, late].any(axis=1)], images)

    def _doc(self, images: list[int], answer: int, spread: int, rng: Random) -> PlannedDoc | None:
        """The doc of these images if it is right and new."""
        counts = self.pool.present[images].sum(axis=0)
        counts[answer] = 0
        if ((counts > 0) & (2 * counts <= len(images))).any():
            return None
        doc = PlannedDoc(
            kind="oddone",
            images=shuffled(rng, list(images)),
            targets=(answer,),
            gt=self.names([answer])[0],
            spread=spread,
        )
        return doc if self.stock.is_new(doc) else None

    def shortage(self) -> str:
        return (
            f"asked: {span(list(self.controls.sizes('oddone')))} images with one class in a minority and "
            "every other class in more than half; too few images show nearly the same classes"
        )
