"""The attention of some rows of a doc over its images, drawn (METHODS 8)."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from mimic_eval.records import UserError
from model_adapters.diagnostics.groups import TEXTS
from model_adapters.diagnostics.observing import Watched
from model_adapters.relevance.places import TokenPlaces

SIDE = 240
"""Pixels of the longer side of a drawn image."""

_GAP, _TITLE = 8, 18
_ROWS = {"answer": ("last", "answer"), "question": ("question",), "last": ("last",)}
_COLOURS = np.array([(0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164)], dtype=float)
"""From little to much: matplotlib's inferno at five points."""

Floats = npt.NDArray[np.float64]


def rows_of(text: str, images: int) -> list[int]:
    """The groups of rows (`groups.row_groups`) of ``answer``, ``question``, ``last`` or ``image:2``.

    Raises:
        UserError: none of these, or an image that the doc does not have.
    """
    if text in _ROWS:
        names = [*TEXTS, *[""] * images, "answer"]
        return [names.index(name) for name in _ROWS[text]]
    name, _, number = text.partition(":")
    if name != "image" or not number.isdecimal() or not 1 <= int(number) <= images:
        raise UserError(f"--map_rows must be {', '.join(_ROWS)} or image:1 to image:{images}, got '{text}'")
    return [len(TEXTS) + int(number) - 1]


def attention_of(seen: Watched, rows: Sequence[int], layers: frozenset[int]) -> list[Floats]:
    """For each image (P,): attention of a row to each token, mean over rows, heads and layers.

    Args:
        seen: a doc, with sums for each token.
        rows: groups of rows.
        layers: of the decoder.
    """
    sums = seen.sums
    if sums.tokens is None:
        raise ValueError("`seen` has no sums for each token")
    count = max(1, int(sums.rows[list(rows)].sum()))
    mean = sums.tokens[sorted(layers)][:, list(rows)].sum(dim=1).mean(dim=0) / count
    return [mean[image.indices()].numpy() for image in seen.layout.images]


def drawn(
    images: Sequence[Image.Image], attention: Mapping[str, Sequence[Floats]], places: Sequence[TokenPlaces]
) -> Image.Image:
    """One row of images for each run, with one scale of colours for all.

    Args:
        images: of the doc.
        attention: name of the run -> for each image (P,).
        places: of each image's tokens.
    """
    sizes = [_size(image) for image in images]
    width = sum(size[0] for size in sizes) + _GAP * (len(sizes) + 1)
    height = max(size[1] for size in sizes) + _TITLE + _GAP
    sheet = Image.new("RGB", (width, height * len(attention) + _GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    fields = {
        name: [heat(values, place, size) for values, place, size in zip(row, places, sizes, strict=True)]
        for name, row in attention.items()
    }
    top = max((float(field.max()) for row in fields.values() for field in row), default=0.0) or 1.0
    for number, (name, row) in enumerate(fields.items()):
        y, x = number * height + _GAP, _GAP
        to_images = sum(float(values.sum()) for values in attention[name])
        text = f"mask={name}: {to_images:.1%} of the attention is on images; brightest = {top:.2g} a token"
        draw.text((_GAP, y), text, fill="black", font=font)
        for image, field, size in zip(images, row, sizes, strict=True):
            sheet.paste(_over(image.resize(size), field / top), (x, y + _TITLE))
            x += size[0] + _GAP
    return sheet


def heat(values: Floats, places: TokenPlaces, size: tuple[int, int]) -> Floats:
    """(height, width): the attention of the token at each pixel; of several there, their sum.

    Args:
        values: (P,), of each token; one with several parts shares it among them.
        places: of the tokens.
        size: width and height in pixels.
    """
    width, height = size
    field = np.zeros((height, width))
    parts = places.parts.numpy() * np.array([width, height, width, height])
    tokens = places.token.numpy()
    counts = np.bincount(tokens, minlength=places.length)
    for (x0, y0, x1, y1), token in zip(np.rint(parts).astype(int), tokens, strict=True):
        field[y0:y1, x0:x1] += values[token] / counts[token]
    return field


def _size(image: Image.Image) -> tuple[int, int]:
    scale = SIDE / max(image.size)
    return max(1, round(image.width * scale)), max(1, round(image.height * scale))


def _over(image: Image.Image, share: Floats) -> Image.Image:
    """A grey image with colours over it: dark where there is no attention."""
    at = np.sqrt(np.clip(share, 0, 1)) * (len(_COLOURS) - 1)
    low = np.minimum(at.astype(int), len(_COLOURS) - 2)
    part = (at - low)[:, :, None]
    colours = _COLOURS[low] * (1 - part) + _COLOURS[low + 1] * part
    grey = np.asarray(image.convert("L").convert("RGB"), dtype=float)
    return Image.fromarray(np.rint(0.4 * grey + 0.6 * colours).astype(np.uint8))
