"""Layouts from the spans of each image, as families find them in the processor's output."""

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor

from model_adapters.layout import Layout, Span, image_tokens, padding_of


def layouts_of(inputs: Any, rows: Iterable[Iterable[Sequence[Span]]]) -> tuple[Layout, ...]:
    """The layouts of a batch.

    Args:
        inputs: the processor's output, padded on either side.
        rows: the spans of each image of each row.
    """
    length = int(inputs["input_ids"].shape[1])
    layouts = []
    for mask, images in zip(inputs["attention_mask"], rows, strict=True):
        left, right = padding_of(mask)
        layouts.append(Layout(length, left, tuple(image_tokens(spans) for spans in images), right))
    return tuple(layouts)


def cut_layouts(inputs: Any, lengths: Sequence[Sequence[int]], *, token: int) -> tuple[Layout, ...]:
    """The layouts of a batch whose images are one span each, with maybe nothing between them.

    Args:
        inputs: the processor's output, padded on either side.
        lengths: tokens of each image of each row.
        token: the placeholder.

    Raises:
        ValueError: the image tokens do not add up.
    """
    rows = zip(inputs["input_ids"], lengths, strict=True)
    return layouts_of(inputs, [_cut(row, token, piece) for row, piece in rows])


def _cut(row: Tensor, token: int, lengths: Sequence[int]) -> list[list[Span]]:
    positions = (row == token).nonzero().flatten().tolist()
    if len(positions) != sum(lengths):
        raise ValueError(
            f"{len(lengths)} images should fill {sum(lengths)} tokens of the prompt, "
            f"the processor made {len(positions)}"
        )
    spans, first = [], 0
    for m, length in enumerate(lengths):
        piece = positions[first : first + length]
        if piece[-1] - piece[0] != length - 1:
            raise ValueError(f"the tokens of image {m + 1} are interrupted by other tokens")
        spans.append([Span(piece[0], piece[-1] + 1)])
        first += length
    return spans
