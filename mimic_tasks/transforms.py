"""What a build may do to its pictures, boxes following: stitching into a grid, down- and up-sampling."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from mimic_eval.records import Box, UserError, check_integer, nearest, positional_of
from mimic_tasks.images import decode_strict

STITCHES = ("none", "grid")
MAX_DOWNSAMPLE = 64
MAX_SIDE = 8192
"""The longest side of a stitched picture, in pixels; a larger grid is scaled down to it."""

_GROUND = (128, 128, 128)


@dataclass(frozen=True)
class Transform:
    """What is done to the pictures of a doc, in this order.

    Attributes:
        downsample: each side is divided by this factor (area average) and scaled up again (bicubic), so that
            a model gets as many tokens as before and less information (METHODS 2's pixel control).
        stitch: ``grid``: all pictures of a doc in one, row by row, each in a tile of the largest width and
            height, its pixels as they are, on grey.
    """

    downsample: int = 1
    stitch: str = "none"

    @property
    def changes(self) -> bool:
        """Whether anything is done at all."""
        return self.downsample > 1 or self.stitch != "none"

    def apply(
        self, pictures: Sequence[bytes], boxes: Sequence[Sequence[Box]]
    ) -> tuple[list[bytes], list[list[Box]]]:
        """The doc's pictures as PNG bytes, and its boxes in their pixels.

        Args:
            pictures: the stored bytes of each picture.
            boxes: the boxes of each picture, in its pixels.

        Raises:
            BrokenImage: a picture that cannot be decoded.
        """
        decoded = [decode_strict(data) for data in pictures]
        if self.downsample > 1:
            decoded = [downsample(picture, self.downsample) for picture in decoded]
        moved = [list(of_picture) for of_picture in boxes]
        if self.stitch == "grid":
            stitched, merged = stitch(decoded, moved)
            decoded, moved = [stitched], [merged]
        return [_png(picture) for picture in decoded], moved


def check_transform(kind: str, transform: Transform) -> None:
    """Refuse a transform after which the answers of a kind name nothing.

    Raises:
        UserError: a grid, for a kind whose answers name images by their position.
    """
    if transform.stitch != "none" and positional_of(kind) is not None:
        raise UserError(
            f"stitch {transform.stitch} makes one picture of a doc's images, and the answers of {kind} name "
            f"images by their position: leave out stitch, or {kind}"
        )


def parse_transform(stitch: object, downsample: object) -> Transform:
    """A transform from what a user gave.

    Raises:
        UserError: an unknown stitch, or a factor out of range.
    """
    if stitch not in STITCHES:
        raise UserError(nearest("stitch", str(stitch), STITCHES))
    return Transform(check_integer("downsample", downsample, least=1, most=MAX_DOWNSAMPLE), str(stitch))


def downsample(picture: Image.Image, factor: int) -> Image.Image:
    """The picture at its size with the detail of one `factor` times smaller each way."""
    width, height = picture.size
    small = (max(1, round(width / factor)), max(1, round(height / factor)))
    return picture.resize(small, Image.Resampling.BOX).resize(picture.size, Image.Resampling.BICUBIC)


def stitch(
    pictures: Sequence[Image.Image], boxes: Sequence[Sequence[Box]], *, max_side: int = MAX_SIDE
) -> tuple[Image.Image, list[Box]]:
    """All pictures in one grid of ceil(sqrt(N)) columns, each in the middle of its tile.

    Returns:
        The grid and the boxes of all pictures in its pixels, picture by picture.
    """
    columns = math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    tile = max(p.width for p in pictures), max(p.height for p in pictures)
    grid = Image.new("RGB", (columns * tile[0], rows * tile[1]), _GROUND)
    moved: list[Box] = []
    for i, (picture, of_picture) in enumerate(zip(pictures, boxes, strict=True)):
        left = (i % columns) * tile[0] + (tile[0] - picture.width) // 2
        top = (i // columns) * tile[1] + (tile[1] - picture.height) // 2
        grid.paste(picture, (left, top))
        moved += [_shifted(box, left, top, 1.0) for box in of_picture]
    scale = max_side / max(grid.size)
    if scale >= 1:
        return grid, moved
    size = (max(1, round(grid.width * scale)), max(1, round(grid.height * scale)))
    return grid.resize(size, Image.Resampling.LANCZOS), [_shifted(box, 0, 0, scale) for box in moved]


def _shifted(box: Box, left: int, top: int, scale: float) -> Box:
    moved = box.copy()
    moved["x"], moved["y"] = (box["x"] + left) * scale, (box["y"] + top) * scale
    moved["width"], moved["height"] = box["width"] * scale, box["height"] * scale
    return moved


def _png(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()
