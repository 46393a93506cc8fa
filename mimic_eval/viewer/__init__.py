"""How the pictures of a doc are displayed: thumbnail, boxes, alternative text.

`mimic show` and the leaderboard site share it: the records here, the macros of ``viewer.html.j2`` and the
rules of ``viewer.css``, both in `TEMPLATES`.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

TEMPLATES = Path(__file__).parent

THUMBNAIL = 320
"""The longer side of a thumbnail, in pixels."""


class DocPicture(Protocol):
    """A picture of a doc."""

    @property
    def sha256(self) -> str:
        """Of its bytes."""

    @property
    def image_id(self) -> str:
        """Its id in the source."""

    @property
    def boxes(self) -> Sequence[Mapping[str, Any]]:
        """Every annotated box, as in METHODS 13."""

    @property
    def decode(self) -> Callable[[], Any]:
        """Gives the picture as PIL's RGB image; raises ValueError with the reason if it is broken."""


class Thumbnail(NamedTuple):
    """A picture made small: the size of the original in pixels, and the small one as a JPEG."""

    width: int
    height: int
    jpeg: bytes


@dataclass(frozen=True)
class BoxView:
    """A box in pixels of the original picture, its class, and whether it is a target, small or a crowd."""

    label: str
    x: float
    y: float
    width: float
    height: float
    target: bool
    small: bool
    crowd: bool


@dataclass(frozen=True)
class PictureView:
    """A picture on a page.

    Attributes:
        image_id: its id in the source.
        alt: alternative text: position in the doc, id and annotated objects.
        source: a file below the site, or ``#id`` of an SVG image on the same page; None if it is broken.
        reason: why it cannot be displayed, or None.
        width, height: of the original, in pixels.
        boxes: every annotated box.
    """

    image_id: str
    alt: str
    source: str | None
    reason: str | None
    width: int
    height: int
    boxes: tuple[BoxView, ...]


def make_thumbnail(decode: Callable[[], Any]) -> Thumbnail | str:
    """The picture's thumbnail, or the reason why it cannot be decoded.

    Args:
        decode: as in `DocPicture`.
    """
    try:
        image = decode()
    except ValueError as error:
        return str(error)
    width, height = image.size
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    image.info.clear()  # a comment of the source would be written into the JPEG
    out = io.BytesIO()
    image.save(out, "JPEG", quality=82)
    return Thumbnail(width, height, out.getvalue())


def view_picture(
    picture: DocPicture, *, position: int, n: int, source: str, size: tuple[int, int] | str
) -> PictureView:
    """What a page displays of a picture.

    Args:
        picture: the picture.
        position: in its doc, from 1.
        n: images of the doc.
        source: as in `PictureView`.
        size: of the original in pixels, or the reason why it cannot be decoded.
    """
    boxes = tuple(map(_box, picture.boxes))
    counts: dict[str, int] = {}
    for box in boxes:
        name = f"{box.label}{' (target)' if box.target else ''}"
        counts[name] = counts.get(name, 0) + 1
    objects = ", ".join(f"{count} {name}" for name, count in counts.items()) or "no annotated object"
    alt = f"Image {position} of {n}, id {picture.image_id}: {objects}"
    if isinstance(size, str):
        return PictureView(picture.image_id, alt, None, size, 0, 0, boxes)
    return PictureView(picture.image_id, alt, source, None, *size, boxes)


def _box(box: Mapping[str, Any]) -> BoxView:
    x, y, width, height = (round(float(box[name]), 1) for name in ("x", "y", "width", "height"))
    target, small, crowd = (bool(box[name]) for name in ("target", "small", "crowd"))
    return BoxView(str(box["class"]), x, y, width, height, target, small, crowd)
