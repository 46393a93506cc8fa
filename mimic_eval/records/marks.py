"""Marks in a text that stand for images, as ``<image>`` in MuirBench's questions (METHODS 15)."""

import re
from collections.abc import Sequence
from typing import NamedTuple

IMAGE_MARK = "<image>"
MARK_RULES = ("remove", "interleave", "text")
"""What a model makes of marks: nothing; the places of the images; text that it reads."""


class Interleaved(NamedTuple):
    """A text with its images at its marks.

    Attributes:
        parts: texts, and None for each image, in order; no text is empty.
        marks: of the text.
        extra_marks: marks beyond the number of images; they are removed.
        first: images beyond the number of marks; they come first.
    """

    parts: tuple[str | None, ...]
    marks: int
    extra_marks: int
    first: int


def interleaved(text: str, images: int, tokens: Sequence[str] = (IMAGE_MARK,)) -> Interleaved:
    """A text with its images at its marks; the images keep their order.

    With more images than marks the first images come first, so that the marks have the last ones. With more
    marks than images the last marks are removed.

    Args:
        text: with marks.
        images: how many there are.
        tokens: what counts as a mark.
    """
    pieces = _pattern(tokens).split(text)
    marks = len(pieces) - 1
    first = max(images - marks, 0)
    placed = images - first
    parts: list[str | None] = [None] * first
    for piece in pieces[:placed]:
        parts += [piece, None]
    rest = pieces[placed:]
    parts.append("".join(rest))
    filled = tuple(part for part in parts if part is None or part)
    return Interleaved(filled, marks, marks - placed, first)


def count_marks(text: str, tokens: Sequence[str] = (IMAGE_MARK,)) -> int:
    """How many marks a text has."""
    return len(_pattern(tokens).findall(text))


def without_marks(text: str, tokens: Sequence[str] = (IMAGE_MARK,)) -> str:
    """The text without its marks; a line that holds nothing else goes with them."""
    pattern = _pattern(tokens)
    lines = []
    for line in text.split("\n"):
        rest = pattern.sub("", line)
        if rest.strip() or rest == line:
            lines.append(rest)
    return "\n".join(lines)


def _pattern(tokens: Sequence[str]) -> re.Pattern[str]:
    longest_first = sorted(set(tokens), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
