"""1-D average pooling of the vision tokens between projector and decoder (METHODS 2).

An image of several spans is pooled span by span: no window reaches over what cuts it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d

from model_adapters.layout import ImageTokens, Layout, Span, image_tokens
from model_adapters.relevance.places import TokenPlaces, joined, pooled


def pool_sequence(tokens: Tensor, factor: int) -> Tensor:
    """The mean of each window of `factor` neighbouring tokens; the last window may hold fewer.

    Args:
        tokens: (P, D), P >= 1; half precision is summed in float32.
        factor: window and stride.

    Returns:
        (ceil(P / factor), D), in the dtype of `tokens`.
    """
    exact = tokens.to(torch.promote_types(tokens.dtype, torch.float32))
    pooled = avg_pool1d(exact.T[None], min(factor, len(tokens)), ceil_mode=True)
    return pooled[0].T.to(tokens.dtype)


def pool_image(tokens: Tensor, image: Span | ImageTokens, factor: int, *, closing: int = 0) -> list[Tensor]:
    """What is left of each span of an image.

    Args:
        tokens: (P, D), P the image's length.
        image: its spans.
        factor: see `pool_sequence`; 1: nothing is pooled.
        closing: tokens at the image's end that stay.
    """
    pieces = list(torch.split(tokens, [span.length for span in image.spans]))
    if factor > 1:
        rest = pieces[-1][len(pieces[-1]) - closing :]
        pieces[-1] = pieces[-1][: len(pieces[-1]) - closing]
        pieces = [pool_sequence(piece, factor) for piece in pieces]
        pieces[-1] = torch.cat((pieces[-1], rest))
    return pieces


def pool_places(
    places: TokenPlaces, image: Span | ImageTokens, factor: int, *, closing: int = 0
) -> TokenPlaces:
    """The places of an image's tokens after `pool_image`, whose arguments these are."""
    pieces, start = [], 0
    for span in image.spans:
        inside = (places.token >= start) & (places.token < start + span.length)
        piece = TokenPlaces(span.length, places.parts[inside], places.token[inside] - start)
        start += span.length
        pieces.append(pooled(piece, factor, closing=closing if span is image.spans[-1] else 0))
    return joined(pieces)


class Shortened(NamedTuple):
    """A batch whose images have fewer placeholders.

    Attributes:
        ids: int (B, N), padded on the left.
        attention: int (B, N), 1 = a token, 0 = padding.
        layouts: B layouts of length N.
    """

    ids: Tensor
    attention: Tensor
    layouts: tuple[Layout, ...]


def shorten(
    ids: Tensor, layouts: Sequence[Layout], lengths: Sequence[Sequence[int]], *, pad: int
) -> Shortened:
    """Give each image fewer placeholders; the text stays as it is, and rows are padded on the left.

    Args:
        ids: int (B, N); all tokens of an image are the same placeholder.
        layouts: B layouts of length N.
        lengths: for each row, how many placeholders each span of its images keeps: at least 1.
        pad: the padding token.
    """
    rows = []
    for row, layout, counts in zip(ids, layouts, lengths, strict=True):
        keep = layout.is_token(torch.device("cpu"))
        for span, length in zip(layout.spans, counts, strict=True):
            keep[span.start + length : span.end] = False
        rows.append(row[keep.to(row.device)])
    longest = max(len(row) for row in rows)
    out = ids.new_full((len(rows), longest), pad)
    attention = torch.zeros_like(out)
    shorter = []
    for b, (row, layout, counts) in enumerate(zip(rows, layouts, lengths, strict=True)):
        padding = longest - len(row)
        out[b, padding:], attention[b, padding:] = row, 1
        moved, images, left = padding - layout.padding, [], iter(counts)
        for image in layout.images:
            spans = []
            for span, length in zip(image.spans, left, strict=False):
                spans.append(Span(span.start + moved, span.start + moved + length))
                moved -= span.length - length
            images.append(image_tokens(spans))
        shorter.append(Layout(longest, padding, tuple(images)))
    return Shortened(out, attention, tuple(shorter))
