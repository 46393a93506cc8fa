"""The one form every annotation source is read into."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class ImageRecord:
    """One picture: its id in the source, where its file lies, and its size in pixels."""

    image_id: int | str
    path: Path
    width: int
    height: int


@dataclass(frozen=True)
class Source:
    """Pictures with annotated objects, as flat arrays over A annotations.

    Attributes:
        name: what results made with it are labelled with.
        images: the pictures; annotations refer to them by position.
        classes: class names; annotations refer to them by position.
        categories: the super-category of each class, verbatim from the source.
        image_index: int (A,), position in `images`.
        class_index: int (A,), position in `classes`.
        boxes: float (A, 4), x, y, width, height in pixels, inside the picture.
        crowd: bool (A,), a crowd region rather than one object.
        files: (path, SHA-256) of each file the annotations were read from.
        notes: how many records were changed or left out, by reason.
        ancestors: the classes that a class is a kind of, by name, those that the file lacks too; a class
            without an entry is a kind of none.
        aliases: other names of classes in the files, and what the class is called here.
        warnings: what the user should look at, one line each.
        labelled: of each annotation file in turn, how many of the pictures it has and which classes, by a
            name of `classes` or `aliases`: others may be in its pictures without a box. Empty: one file.
    """

    name: str
    images: tuple[ImageRecord, ...]
    classes: tuple[str, ...]
    categories: tuple[str, ...]
    image_index: npt.NDArray[np.int64]
    class_index: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float64]
    crowd: npt.NDArray[np.bool_]
    files: tuple[tuple[str, str], ...]
    notes: tuple[tuple[str, int], ...] = ()
    ancestors: Mapping[str, frozenset[str]] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    labelled: tuple[tuple[int, frozenset[str]], ...] = ()
