"""What each picture can be used for: METHODS 2's rules of visibility as matrices over images and classes."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mimic_eval.records import Box, UserError, nearest
from mimic_tasks.profiles import Profile, make_profile
from mimic_tasks.sources import Source
from mimic_tasks.sources.merging import lacking_classes

VISIBLE_PARTS = (None, 100, 20)
"""Odd-One's thresholds: every annotation, boxes from 1/100 and from 1/20 of the picture (METHODS 2)."""

Mask = npt.NDArray[np.bool_]


class Thresholds(NamedTuple):
    """`Pool.boxed`, `sure` and `present` at each of `VISIBLE_PARTS`, side by side: bool (I, 3 C)."""

    boxed: Mask
    sure: Mask
    present: Mask


@dataclass(frozen=True)
class Pool:
    """I images x C classes of a source, and which images and classes may be drawn.

    Where the source says that a Dog is an Animal, a box of one implies the other: Animal is *implied*
    by a Dog box, Dog is *possible* where there is an Animal box. Both hide the class in that image: it can
    neither be counted there nor be taken for absent. A class that the annotation file of a picture does not
    have is possible there too.

    Attributes:
        source: the annotations.
        usable: bool (I,), False for a picture whose file is missing, broken or unfit.
        askable: bool (C,), the classes that may be targets.
        profile: what Counting and Listing leave out of it.
    """

    source: Source
    usable: Mask
    askable: Mask
    profile: Profile = field(default_factory=lambda: Profile("all"))

    @cached_property
    def small(self) -> Mask:
        """bool (A,): the annotation's box covers less than 5 % of its picture."""
        return ~self._covers(20)

    @cached_property
    def annotated(self) -> npt.NDArray[np.int32]:
        """int (I, C): boxes of the class in the image, small and crowd ones too."""
        return self._count(np.ones(len(self.source.image_index), dtype=bool))

    @cached_property
    def countable(self) -> npt.NDArray[np.int32]:
        """int (I, C): instances of the class if every box of it is large, none a crowd, and none hides it."""
        good = self._count(~self.small & ~self.source.crowd)
        seen = good == self.annotated
        if self._uncertain:
            seen &= ~self._implied & ~self.possible
        return np.where(seen, good, 0).astype(np.int32)

    @cached_property
    def boxed(self) -> Mask:
        """bool (I, C): the class has a box in the image, in any form."""
        return self.annotated > 0

    @cached_property
    def sure(self) -> Mask:
        """bool (I, C): the class is in the image: boxed or implied."""
        return self.boxed | self._implied if self._uncertain else self.boxed

    @cached_property
    def present(self) -> Mask:
        """bool (I, C): the class is or may be in the image: boxed, implied or possible."""
        return self.sure | self.possible if self._uncertain else self.boxed

    @cached_property
    def thresholds(self) -> Thresholds:
        """What is in each image when boxes below 0, 1 and 5 % of the picture are not looked at."""
        boxed = [self.boxed, *(self._count(self._covers(part)) > 0 for part in VISIBLE_PARTS if part)]
        side_by_side = np.concatenate(boxed, axis=1)
        if not self._uncertain:
            return Thresholds(side_by_side, side_by_side, side_by_side)
        sure = [mask | self._related(mask, self.ancestors) for mask in boxed]
        present = [
            also | self._related(mask, self.ancestors.T) | self._unlabelled
            for mask, also in zip(boxed, sure, strict=True)
        ]
        return Thresholds(side_by_side, np.concatenate(sure, axis=1), np.concatenate(present, axis=1))

    @cached_property
    def ancestors(self) -> Mask:
        """bool (C, C): the class of the row is a kind of the class of the column."""
        classes = self.source.classes
        position = {name: c for c, name in enumerate(classes)}
        matrix = np.zeros((len(classes), len(classes)), dtype=bool)
        for name, above in self.source.ancestors.items():
            if name not in position:  # a class without any picture
                continue
            matrix[position[name], [position[a] for a in above if a in position and a != name]] = True
        return matrix

    @cached_property
    def possible(self) -> Mask:
        """bool (I, C): the image has a box of what the class is a kind of, or its file lacks the class."""
        return self._related(self.boxed, self.ancestors.T) | self._unlabelled

    @cached_property
    def category_members(self) -> dict[str, tuple[int, ...]]:
        """The classes of each super-category that a question may name; two or more each, none named like it.

        A category of one class, or one that a class is named after, would give its answer away. Not so a
        class that all of them are kinds of: Animal is not among the animals to be listed.
        """
        folded = [name.casefold() for name in self.source.classes]
        members: dict[str, list[int]] = {}
        for c, category in enumerate(self.source.categories):
            members.setdefault(category, []).append(c)
        named = {name: [c for c, n in enumerate(folded) if n == name.casefold()] for name in members}
        return {
            name: tuple(cs)
            for name, cs in members.items()
            if name and len(cs) > 1 and self.ancestors[np.ix_(cs, named[name])].all()
        }

    def boxes(self, image: int, targets: frozenset[int]) -> list[Box]:
        """Every annotated box of an image, those of the target classes flagged."""
        low, high = np.searchsorted(self._sorted_images, [image, image + 1])
        boxes = []
        for a in self._order[low:high]:
            x, y, w, h = (float(v) for v in self.source.boxes[a])
            c = int(self.source.class_index[a])
            boxes.append(
                Box(
                    {
                        "class": self.source.classes[c],
                        "x": x,
                        "y": y,
                        "width": w,
                        "height": h,
                        "target": c in targets,
                        "small": bool(self.small[a]),
                        "crowd": bool(self.source.crowd[a]),
                    }
                )
            )
        return boxes

    def without(self, images: list[int]) -> "Pool":
        """The pool less some images."""
        usable = self.usable.copy()
        usable[images] = False
        return replace(self, usable=usable)

    @cached_property
    def _unlabelled(self) -> Mask:
        """bool (I, C), or (1, 1) if none: the image's annotation file does not have the class."""
        lacking = lacking_classes(self.source)
        if not any(names for _, names in lacking):
            return np.zeros((1, 1), dtype=bool)
        rows = [[name in names for name in self.source.classes] for _, names in lacking]
        return np.repeat(np.array(rows), [images for images, _ in lacking], axis=0)

    @cached_property
    def _uncertain(self) -> bool:
        """A class may be in an image without a box of it."""
        return bool(self.ancestors.any() or self._unlabelled.any())

    @cached_property
    def _implied(self) -> Mask:
        return self._related(self.boxed, self.ancestors)

    @staticmethod
    def _related(boxed: Mask, relation: Mask) -> Mask:
        """bool (I, C): the image has a box of a class in whose row of the relation (C, C) the class is."""
        matrix = np.zeros_like(boxed)
        for c, others in enumerate(relation):
            if others.any():
                matrix[np.ix_(boxed[:, c], others)] = True
        return matrix

    def _covers(self, part: int) -> Mask:
        """bool (A,): the annotation's box covers 1/part of its picture or more."""
        area = np.array([im.width * im.height for im in self.source.images], dtype=np.float64)
        covered = self.source.boxes[:, 2] * self.source.boxes[:, 3]
        return np.asarray(covered >= area[self.source.image_index] / part)

    @cached_property
    def _order(self) -> npt.NDArray[np.int64]:
        return np.argsort(self.source.image_index, kind="stable")

    @cached_property
    def _sorted_images(self) -> npt.NDArray[np.int64]:
        return self.source.image_index[self._order]

    def _count(self, chosen: Mask) -> npt.NDArray[np.int32]:
        shape = (len(self.source.images), len(self.source.classes))
        flat = self.source.image_index[chosen] * shape[1] + self.source.class_index[chosen]
        return np.bincount(flat, minlength=shape[0] * shape[1]).reshape(shape).astype(np.int32)


def make_pool(source: Source, *, classes: list[str] | None = None, profile: str = "all") -> Pool:
    """The pool of a source.

    Args:
        source: annotations.
        classes: the only classes that may be targets, whatever the profile says of them; all if None.
        profile: one of `profiles.PROFILES`.

    Raises:
        UserError: an unknown class name or profile, or a source without images or annotations.
    """
    if not source.images or not len(source.image_index):
        raise UserError(f"{source.name} holds no annotated image")
    askable = np.ones(len(source.classes), dtype=bool)
    if classes is not None:
        askable[:] = False
        for given in classes:
            name = source.aliases.get(given, given)
            if name not in source.classes:
                raise UserError(nearest("class", given, source.classes))
            askable[source.classes.index(name)] = True
    left_out = make_profile(profile, classes=source.classes, categories=source.categories)
    if classes is not None:
        left_out = replace(left_out, uncounted=())
    return Pool(source, np.ones(len(source.images), dtype=bool), askable, left_out)
