"""The one form every annotation source is read into."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mimic_eval.records import UserError


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


def merge(sources: Sequence[Source]) -> Source:
    """Several sources as one: classes are matched by name, pictures are put one after the other.

    Where two sources use the same image id, all ids become texts like ``2/17``: picture 17 of the second.
    Where one has numbers and another texts (COCO and OpenImages), all become texts.
    What one source says of the kinds of classes holds for all.

    Raises:
        UserError: two sources give the same class different super-categories.
    """
    first = sources[0]
    if len(sources) == 1:
        return first
    sources = _with_distinct_ids(sources)
    categories: dict[str, str] = {}
    for source in sources:
        for name, category in zip(source.classes, source.categories, strict=True):
            if categories.setdefault(name, category) != category:
                raise UserError(
                    f"class '{name}' is a '{categories[name]}' in {first.name} and a '{category}' in "
                    f"{source.name}: build them apart, or make the annotation files agree"
                )
    classes = tuple(categories)
    position = {name: i for i, name in enumerate(classes)}
    offsets = np.cumsum([0, *(len(source.images) for source in sources)])
    notes: dict[str, int] = {}
    ancestors: dict[str, frozenset[str]] = {}
    for source in sources:
        for reason, count in source.notes:
            notes[reason] = notes.get(reason, 0) + count
        for name, above in source.ancestors.items():
            ancestors[name] = ancestors.get(name, frozenset()) | above
    return replace(
        first,
        name="+".join(dict.fromkeys(source.name for source in sources)),
        images=tuple(image for source in sources for image in source.images),
        classes=classes,
        categories=tuple(categories.values()),
        image_index=np.concatenate([s.image_index + o for s, o in zip(sources, offsets[:-1], strict=True)]),
        class_index=np.concatenate(
            [np.array([position[c] for c in s.classes], dtype=np.int64)[s.class_index] for s in sources]
        ),
        boxes=np.concatenate([s.boxes for s in sources]),
        crowd=np.concatenate([s.crowd for s in sources]),
        files=tuple(file for source in sources for file in source.files),
        notes=tuple(notes.items()),
        ancestors=ancestors,
    )


def _with_distinct_ids(sources: Sequence[Source]) -> Sequence[Source]:
    """The sources with ids of one type, all different."""
    ids = [image.image_id for source in sources for image in source.images]
    mixed = len({type(image_id) for image_id in ids}) > 1
    clash = len({str(image_id) for image_id in ids}) < len(ids)
    if not mixed and not clash:
        return sources
    return [
        replace(
            source,
            images=tuple(
                replace(image, image_id=f"{number}/{image.image_id}" if clash else str(image.image_id))
                for image in source.images
            ),
        )
        for number, source in enumerate(sources, 1)
    ]
