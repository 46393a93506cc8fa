"""1-D average pooling of the vision tokens between projector and decoder (METHODS 2)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d

from model_adapters.layout import Layout, Span


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
    """Give each image fewer placeholders; the text stays as it is, and the padding is made anew.

    Args:
        ids: int (B, N); all tokens of an image's span are the same placeholder.
        layouts: B layouts of length N.
        lengths: for each row, how many placeholders each image keeps: at least 1, at most its span.
        pad: the padding token.
    """
    kept = []
    for row, layout, own in zip(ids, layouts, lengths, strict=True):
        keep = layout.is_token(torch.device("cpu"))
        for span, length in zip(layout.images, own, strict=True):
            keep[span.start + length : span.end] = False
        kept.append(row[keep.to(row.device)])
    longest = max(len(row) for row in kept)
    out = ids.new_full((len(kept), longest), pad)
    attention = torch.zeros_like(out)
    shorter = []
    for b, (row, layout, own) in enumerate(zip(kept, layouts, lengths, strict=True)):
        padding = longest - len(row)
        out[b, padding:], attention[b, padding:] = row, 1
        moved, spans = padding - layout.padding, []
        for span, length in zip(layout.images, own, strict=True):
            spans.append(Span(span.start + moved, span.start + moved + length))
            moved -= span.length - length
        shorter.append(Layout(longest, padding, tuple(spans)))
    return Shortened(out, attention, tuple(shorter))
