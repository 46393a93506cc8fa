"""Odd-One: the one class that is in a minority of the images, where every other is in more than half.

That holds at three thresholds (METHODS 2): with every annotation, and with those from 1 % and from 5 % of the
picture alone. So arrays over classes are looked at three times over: bool (I, 3 C), see `Pool.thresholds`.
"""

from collections.abc import Iterator
from itertools import product
from random import Random
from typing import NamedTuple

import numpy as np

from mimic_tasks.planning.base import (
    Indices,
    PlannedDoc,
    Planner,
    Stock,
    in_random_order,
    sample,
    shuffled,
    span,
)
from mimic_tasks.planning.controls import Controls, Range
from mimic_tasks.planning.tree import ChoiceTree, Prefix
from mimic_tasks.pool import VISIBLE_PARTS, Mask
from mimic_tasks.task_spec import spec_of

_THEMED_TRIES = 30
_THEME_CLASSES, _MOST_THEME_CLASSES = 4, 10
_CANDIDATES = 64
_EXHAUSTIVE_PAIRS = 4000


class OddOnePlanner(Planner):
    """Starts from one image of the minority and one of the majority, and fills up.

    First tries themes: the majority image shows all that the minority image shows but the answer, and the
    fill shows nothing else, which finds docs fast where many pictures show nearly the same classes. Small
    data runs out of themes and has docs at three images only: there every pair of first images is tried.

    A picture without annotations has nothing that could be odd or common, and is in no doc.

    What the answer is a kind of may be in any number of images. Any other class that may be in one must
    surely be in more than half of them, at each threshold.
    """

    kind = "oddone"
    searches = 3

    def __init__(self, stock: Stock, controls: Controls) -> None:
        super().__init__(stock, controls)
        self._index = _ThemeIndex(stock, controls.confusable or Range(0, 0))

    def tree(self) -> ChoiceTree:
        return ChoiceTree(
            [
                lambda p: list(self.controls.sizes(self.kind)),
                lambda p: [s for s in range(1, (p[0] - 1) // 2 + 1) if self._minority_allowed(s)],
                lambda p: [c for c in self.askable() if len(self.stock.showing(c))],
            ]
        )

    def attempt(self, leaf: Prefix, rng: Random) -> PlannedDoc | None:
        n, spread, answer = leaf
        for start in self._starts(n, answer, rng):
            doc = self._fill([start.odd, start.usual], answer, start.minority, start.majority, n, spread, rng)
            if doc is not None:
                return doc
        return None

    def _minority_allowed(self, spread: int) -> bool:
        requested = self.controls.minority
        return requested is None or requested.low <= spread <= requested.high

    def _starts(self, n: int, answer: int, rng: Random) -> Iterator["_Start"]:
        """Pairs of first images with the images that may join them."""
        minority = self.stock.showing(answer)
        self.searches = 3
        if not len(minority):
            return
        for _ in range(_THEMED_TRIES):
            start = self._index.start(sample(rng, minority, 1)[0], answer, rng)
            if start is not None:
                yield start
        if n > spec_of(self.kind).minimum_images or len(minority) * len(self.pool.usable) > _EXHAUSTIVE_PAIRS:
            return
        self.searches = 1  # all pairs are tried: failing once is failing for good
        present = self.pool.present
        majority = self.stock.where(np.asarray(~present[:, answer] & present.any(axis=1)))
        pairs = list(product(minority.tolist(), majority.tolist()))
        rng.shuffle(pairs)
        for odd, usual in pairs:
            if self._promising([odd], np.array([usual]), answer, n).all():
                yield _Start(odd, usual, minority, majority)

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
        minority = minority[self._promising(images, minority, answer, n)]
        if len(minority) < spread - 1 or len(majority) < n - spread - 1:
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
            for last in in_random_order(rng, fits):
                doc = self._doc([*images, last], answer, spread, rng)
                if doc is not None:
                    return doc
            return None

    def _fitting(self, images: list[int], answer: int, majority: Indices, n: int) -> Indices:
        """The majority images that can join and still leave every class in none or in more than half."""
        need = n // 2 + 1
        left = n - len(images)
        rivals = np.tile(self._rivals(answer), len(VISIBLE_PARTS))
        at = self.pool.thresholds
        visible = at.present[images].any(axis=0)
        counts = at.sure[images].sum(axis=0)
        must = rivals & visible & (counts < need) & (counts + left <= need)
        late = rivals & ~visible & (left < need)
        fits = at.sure[np.ix_(majority, must)].all(axis=1)
        fits &= ~at.present[np.ix_(majority, late)].any(axis=1)
        fits &= self._promising(images, majority, answer, n)
        return np.setdiff1d(majority[fits], images)

    def _promising(self, images: list[int], more: Indices, answer: int, n: int) -> Mask:
        """bool (M,): with the image, as many classes as `--confusable` requires can be in n - 1 of n images.

        For the last image: they are.
        """
        requested = self.controls.confusable
        if requested is None:
            return np.ones(len(more), dtype=bool)
        seen = len(images) + 1
        boxed = self.pool.boxed[images].sum(axis=0) + self.pool.boxed[more]
        able = ((boxed > 0) & (boxed >= seen - 1) & self._rivals(answer)).sum(axis=1)
        if seen < n:
            return np.asarray(able >= requested.low)
        exact = (boxed == n - 1).sum(axis=1)
        return np.asarray((requested.low <= exact) & (exact <= requested.high))

    def _doc(self, images: list[int], answer: int, spread: int, rng: Random) -> PlannedDoc | None:
        """The doc of these images if it is right and new."""
        if not self._fits(images, answer):
            return None
        doc = PlannedDoc(
            kind=self.kind,
            images=shuffled(rng, list(images)),
            targets=(answer,),
            gt=self.names([answer])[0],
            spread=spread,
        )
        return doc if self.stock.is_new(doc) else None

    def _fits(self, images: list[int], answer: int) -> bool:
        """Every other class that is, or may be, in an image is surely in more than half of them."""
        at = self.pool.thresholds
        boxed = at.boxed[images].sum(axis=0)
        sure = at.sure[images].sum(axis=0)
        seldom = at.present[images].any(axis=0) & (2 * sure <= len(images))
        seldom |= (boxed > 0) & (2 * boxed <= len(images))
        return not (seldom & np.tile(self._rivals(answer), len(VISIBLE_PARTS))).any()

    def _rivals(self, answer: int) -> Mask:
        """bool (C,): the classes that are neither the answer nor what it is a kind of."""
        rivals: Mask = ~self.pool.ancestors[answer]
        rivals[answer] = False
        return rivals

    def shortage(self) -> str:
        sizes = span(list(self.controls.sizes(self.kind)))
        minority = self.controls.minority or "a minority"
        confusable = self.controls.confusable
        in_all_but_one = f" (and --confusable {confusable} of them in all but one)" if confusable else ""
        return (
            f"asked: {sizes} images with one class in {minority} of them and every "
            f"other class in more than half, at any size{in_all_but_one}; too few images show nearly "
            "the same classes"
        )


class _Start(NamedTuple):
    """The first image of the minority and of the majority, and those that may join either."""

    odd: int
    usual: int
    minority: Indices
    majority: Indices


class _ThemeIndex:
    """The images by the exact set of classes they have boxes of, as bits, for sets of a few classes.

    Images that may show more than their boxes say are left out.

    Args:
        stock: the images.
        confusable: how many classes of a theme are to be in all images but one.
    """

    def __init__(self, stock: Stock, confusable: Range) -> None:
        self._stock = stock
        self._countable = stock.pool.countable
        self._present = stock.pool.present
        visible = stock.pool.boxed
        certain = (stock.pool.sure == stock.pool.present).all(axis=1)
        most = min(max(_THEME_CLASSES, confusable.high), _MOST_THEME_CLASSES)
        few = np.flatnonzero(stock.pool.usable & certain & (visible.sum(axis=1) <= most + 1))
        packed = np.packbits(visible[few], axis=1, bitorder="little")
        self._bits = {
            int(i): int.from_bytes(row.tobytes(), "little") for i, row in zip(few, packed, strict=True)
        }
        self._images: dict[int, list[int]] = {}
        self._by_class: dict[int, list[int]] = {}
        self._themes: list[int] = []
        for image, bits in self._bits.items():
            self._images.setdefault(bits, []).append(image)
            if max(1, confusable.low) <= bits.bit_count() <= most:
                self._themes.append(image)
                for c in np.flatnonzero(visible[image]).tolist():
                    self._by_class.setdefault(c, []).append(image)

    def start(self, odd: int, answer: int, rng: Random) -> _Start | None:
        """A majority image that shows all of `odd` but the answer, and the images that show no more."""
        if odd not in self._bits:
            return None
        mark = 1 << answer
        rest = self._bits[odd] & ~mark
        themes = self._by_class.get((rest & -rest).bit_length() - 1, []) if rest else self._themes
        for _ in range(_THEMED_TRIES if themes else 0):
            usual = themes[rng.randrange(len(themes))]
            theme = self._bits[usual]
            if self._present[usual, answer] or theme & rest != rest:
                continue
            if self._stock.free[usual]:
                return _Start(odd, usual, self._joining(theme, mark, rng), self._joining(theme, 0, rng))
        return None

    def _joining(self, theme: int, mark: int, rng: Random) -> Indices:
        """Some of the free images that show nothing but classes of the theme, and the marked one if any."""
        answer = mark.bit_length() - 1
        joined: list[int] = []
        subset = theme
        while subset or mark:
            images = self._images.get(subset | mark, [])
            images = images if len(images) <= _CANDIDATES else rng.sample(images, _CANDIDATES)
            joined += images
            if not subset:
                break
            subset = (subset - 1) & theme
        joining = np.array(joined, dtype=np.int64)
        fit = self._stock.free[joining]
        return joining[fit & (self._countable[joining, answer] > 0) if mark else fit]
