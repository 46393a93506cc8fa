"""What each picture can be used for: METHODS 2's rules of visibility as matrices over images and classes."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mimic_eval.records import Box, UserError, nearest
from mimic_tasks.sources import Source

SMALL_SHARE = 0.05
"""An object whose box covers less than this share of the picture is not asked about (METHODS 2)."""

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Pool:
    """I images x C classes of a source, and which images and classes may be drawn.

    Attributes:
        source: the annotations.
        usable: bool (I,), False for a picture whose file is missing, broken or unfit.
        askable: bool (C,), the classes that may be targets.
    """

    source: Source
    usable: Mask
    askable: Mask

    @cached_property
    def small(self) -> Mask:
        """bool (A,): the annotation's box covers less than 5 % of its picture."""
        area = np.array([im.width * im.height for im in self.source.images], dtype=np.float64)
        covered = self.source.boxes[:, 2] * self.source.boxes[:, 3]
        return covered < SMALL_SHARE * area[self.source.image_index]

    @cached_property
    def annotated(self) -> npt.NDArray[np.int32]:
        """int (I, C): annotations of the class in the image, small and crowd ones too."""
        return self._count(np.ones(len(self.source.image_index), dtype=bool))

    @cached_property
    def countable(self) -> npt.NDArray[np.int32]:
        """int (I, C): instances of the class if every annotation of it is large and none a crowd, else 0."""
        good = self._count(~self.small & ~self.source.crowd)
        return np.where(good == self.annotated, good, 0).astype(np.int32)

    @cached_property
    def present(self) -> Mask:
        """bool (I, C): the class is annotated in the image in any form."""
        return self.annotated > 0

    @cached_property
    def category_members(self) -> dict[str, tuple[int, ...]]:
        """The classes of each super-category that can be asked about: two or more, none named like it.

        A category of one class, or one that a class is named after, would give its answer away.
        """
        members: dict[str, list[int]] = {}
        for c, category in enumerate(self.source.categories):
            members.setdefault(category, []).append(c)
        names = {name.casefold() for name in self.source.classes}
        return {
            name: tuple(cs)
            for name, cs in members.items()
            if name and len(cs) > 1 and name.casefold() not in names
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
    def _order(self) -> npt.NDArray[np.int64]:
        return np.argsort(self.source.image_index, kind="stable")

    @cached_property
    def _sorted_images(self) -> npt.NDArray[np.int64]:
        return self.source.image_index[self._order]

    def _count(self, chosen: Mask) -> npt.NDArray[np.int32]:
        shape = (len(self.source.images), len(self.source.classes))
        flat = self.source.image_index[chosen] * shape[1] + self.source.class_index[chosen]
        return np.bincount(flat, minlength=shape[0] * shape[1]).reshape(shape).astype(np.int32)


def make_pool(source: Source, *, classes: list[str] | None = None) -> Pool:
    """The pool of a source.

    Args:
        source: annotations.
        classes: the only classes that may be targets; all if None.

    Raises:
        UserError: an unknown class name, or a source without images or annotations.
    """
    if not source.images or not len(source.image_index):
        raise UserError(f"{source.name} holds no annotated image")
    askable = np.ones(len(source.classes), dtype=bool)
    if classes is not None:
        askable[:] = False
        for name in classes:
            if name not in source.classes:
                raise UserError(nearest("class", name, source.classes))
            askable[source.classes.index(name)] = True
    return Pool(source, np.ones(len(source.images), dtype=bool), askable)
