"""The docs of the parity table: their tokens and places, known without our code."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MASKS = (
    "none", "block", "ar", "ar_masking_empty_rows", "mask_only", "unmask_only", "var", "dab", "sofa",
    "knockout",
)  # fmt: skip
BESIDE = ("delimiters", "focus", "orders")
"""Masks that leave attention as it is: of layers' outputs, and of several passes."""
OPENING = ("ar", "ar_masking_empty_rows", "unmask_only")
WITH_SINKS = (*OPENING, "mask_only", "var")
SIGMA = 0.4
EDGES = "image>other+image>prefix+question>image[2]+answer>image[1]"
"""Of `sofa` and of `knockout`."""
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Span = tuple[int, int]
"""Start and end."""
Rectangle = tuple[float, float, float, float]
"""x0, y0, x1, y1, from 0 to 1 in a picture."""


@dataclass(frozen=True)
class Doc:
    """A doc of several pictures, with at most one box in each.

    Attributes:
        images: its pictures.
        boxes: of each picture, what it is grounded in; None: nothing.
        text: the question.
    """

    images: tuple[Image.Image, ...]
    boxes: tuple[Rectangle | None, ...]
    text: str


BOXES: tuple[Rectangle | None, ...] = (
    (0.0, 0.0, 0.47, 1.0),
    (0.3, 0.4, 0.9, 0.95),
    None,
    (0.0, 0.0, 1.0, 0.3),
    (0.55, 0.1, 1.0, 0.7),
)


def make_docs(sizes: Sequence[tuple[int, int]], counts: Sequence[int]) -> list[Doc]:
    """Docs of smooth random pictures.

    Args:
        sizes: widths and heights, by turns.
        counts: pictures of each doc.
    """
    rng, docs, made = np.random.default_rng(5), [], 0
    for count in counts:
        images = []
        for _ in range(count):
            coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
            images.append(coarse.resize(sizes[made % len(sizes)], Image.Resampling.BICUBIC))
            made += 1
        boxes = tuple(BOXES[(made + m) % len(BOXES)] for m in range(count))
        docs.append(Doc(tuple(images), boxes, f"What is in the {count} images?{' And why?' * (made % 3)}"))
    return docs


# Where tokens lie


def runs(ids: Sequence[int], token: int) -> list[Span]:
    """The runs of a token, start and end."""
    found: list[Span] = []
    for place, own in enumerate(ids):
        if own == token:
            if found and found[-1][1] == place:
                found[-1] = (found[-1][0], place + 1)
            else:
                found.append((place, place + 1))
    return found


def split_runs(ids: Sequence[int], token: int, images: int, tokens: int) -> list[Span]:
    """Spans of adjacent images of `tokens` tokens each; the only image of a doc has its whole run."""
    found = runs(ids, token)
    if images == 1:
        return found
    return [(start, start + tokens) for first, end in found for start in range(first, end, tokens)]


def cells(rows: int, columns: int, x0: float, y0: float, x1: float, y1: float) -> list[Rectangle | None]:
    """A grid over a part of the picture, row by row."""
    width, height = (x1 - x0) / columns, (y1 - y0) / rows
    return [
        (x0 + c * width, y0 + r * height, x0 + (c + 1) * width, y0 + (r + 1) * height)
        for r in range(rows)
        for c in range(columns)
    ]


def overlap(token: Rectangle | None, box: Rectangle | None) -> bool:
    """Whether a token shows a part of the box (inside of the picture)."""
    if token is None or box is None:
        return False
    width = min(token[2], box[2], 1.0) - max(token[0], box[0], 0.0)
    height = min(token[3], box[3], 1.0) - max(token[1], box[1], 0.0)
    return width > 1e-6 and height > 1e-6


def score_of(image: int, token: int) -> float:
    """A relevance c that differs from token to token."""
    return 1.5 * float(np.sin(1.7 * token + image))


@dataclass(frozen=True)
class FamilyCase:
    """What the oracle knows of a family.

    Attributes:
        name: `model_type`.
        sizes: widths and heights of its pictures.
        spans: from a row's ids, the image token and the number of images: the spans of each image.
        places: from a picture and the number of its tokens: a rectangle for each token.
        score: the score of its sinks.
        tau: its threshold; None: no sinks are planted, and the most extreme tokens in two dimensions are
            taken for some.
        model: the lmms-eval model; None: the one that is named after the family.
        make: writes the checkpoint; None: ``make_tiny_<name>``.
        processor: reads the oracle's; None: transformers' `AutoProcessor`.
        prompt: of a doc; None: by the checkpoint's template.
        latents: its tokens have no places: all of each picture is grounded.
        delimiters: from the spans of each image: the tokens that mark where it starts and ends; None if the
            family has none.
    """

    name: str
    sizes: tuple[tuple[int, int], ...]
    spans: Callable[[Sequence[int], int, int], list[list[tuple[int, int]]]]
    places: Callable[[Image.Image, int], list[Rectangle | None]]
    score: str = "z"
    tau: float | None = None
    model: str | None = None
    make: Callable[..., None] | None = None
    processor: Callable[[Path], Any] | None = None
    prompt: Callable[["Doc"], str] | None = None
    latents: bool = False
    delimiters: Callable[[Sequence[Sequence[Span]]], list[int]] | None = None

    @property
    def docs(self) -> list[Doc]:
        """Eight, of unequal numbers of images."""
        made = make_docs(self.sizes, (2, 4, 1, 3, 2, 3, 1, 2))
        if not self.latents:
            return made
        return [replace(doc, boxes=((0.0, 0.0, 1.0, 1.0),) * len(doc.images)) for doc in made]


def closing(spans: Sequence[Sequence[Span]]) -> list[int]:
    """The last token of each image, a newline."""
    return [parts[-1][1] - 1 for parts in spans]


def around(spans: Sequence[Sequence[Span]]) -> list[int]:
    """The tokens before and after each image."""
    return [token for parts in spans for token in (parts[0][0] - 1, parts[-1][1])]


def _llava_places(image: Image.Image, tokens: int) -> list[Rectangle | None]:
    """6 x 6 tokens over the picture padded to a square, and a newline; a picture alone is never a target."""
    if tokens != 37:
        return [None] * tokens
    width, height = image.size
    side = max(width, height)
    left, top = (side - width) // 2, (side - height) // 2
    whole = (-left / width, -top / height, (side - left) / width, (side - top) / height)
    return [*cells(6, 6, *whole), None]


QWEN_GRIDS = {(80, 50): (3, 5), (60, 200): (7, 2), (64, 64): (4, 4), (40, 120): (8, 2)}
INTERNVL_TILES = {(80, 50): (1, 2), (60, 200): (3, 1), (64, 64): (1, 1), (100, 100): (2, 2)}


def _qwen_places(image: Image.Image, tokens: int) -> list[Rectangle | None]:
    rows, columns = QWEN_GRIDS[image.size]
    return cells(rows, columns, 0, 0, 1, 1)


def _internvl_places(image: Image.Image, tokens: int) -> list[Rectangle | None]:
    rows, columns = INTERNVL_TILES[image.size]
    found: list[Rectangle | None] = []
    for r in range(rows):
        for c in range(columns):
            found += cells(2, 2, c / columns, r / rows, (c + 1) / columns, (r + 1) / rows)
    return found if rows * columns == 1 else found + cells(2, 2, 0, 0, 1, 1)


FAMILIES = {
    case.name: case
    for case in (
        FamilyCase(
            "llava_onevision",
            ((80, 50), (60, 97), (64, 64)),
            lambda ids, token, images: [[own] for own in split_runs(ids, token, images, 37)],
            _llava_places,
            "ratio",
            5.0,
            delimiters=closing,
        ),
        FamilyCase(
            "qwen2_vl",
            tuple(QWEN_GRIDS),
            lambda ids, token, images: [[own] for own in runs(ids, token)],
            _qwen_places,
            "z",
            0.5,
            delimiters=around,
        ),
        FamilyCase(
            "internvl",
            tuple(INTERNVL_TILES),
            lambda ids, token, images: [[own] for own in runs(ids, token)],
            _internvl_places,
            "ratio",
            5.0,
            delimiters=around,
        ),
    )
}


def layers_of(mask: str, depth: int) -> frozenset[int]:
    """The layers that METHODS gives a mask unless the user says so."""
    if mask in ("none", "focus", "orders"):
        return frozenset()
    if mask == "delimiters":
        return frozenset(range(min(4, depth)))
    if mask == "var":
        return frozenset(range(2, depth - 1))
    if mask == "sofa":
        return frozenset(range(0, depth, 2))
    return frozenset(range(depth // 2 if mask == "block" else 0, depth))
