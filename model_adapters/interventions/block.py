"""Block masking: an image's tokens see their own image only (METHODS 3)."""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from model_adapters.attention import attend, attend_to_end
from model_adapters.interventions.base import Intervention, LayerView
from model_adapters.layout import Layout, Span


class BlockMask(Intervention):
    """In a masked layer, a vision query of image m attends to keys of image m at or before itself.

    Text rows keep full causal attention. A sequence with one image is not masked. The mask is never made:
    images are M small causal blocks, batched where their lengths and distances agree, and each run of text
    attends to the keys up to its end.

    Args:
        prefix: let images see the text before the first image too (the release masks it: False).
    """

    name = "block"
    default_layers = "second_half"

    def __init__(self, *, prefix: bool = False) -> None:
        self.prefix = prefix

    def settings(self) -> dict[str, Any]:
        """`prefix`."""
        return {"prefix": self.prefix}

    def prefill(self, query: Tensor, key: Tensor, value: Tensor, view: LayerView, *, scale: float) -> Tensor:
        """See `Intervention.prefill`."""
        out = torch.zeros_like(query)
        for b, layout in enumerate(view.layouts):
            row = slice(b, b + 1)
            self._row(out[row], query[row], key[row], value[row], layout, scale=scale)
        return out

    def _row(
        self, out: Tensor, query: Tensor, key: Tensor, value: Tensor, layout: Layout, *, scale: float
    ) -> None:
        """Write one row's attention to `out`; all (1, heads, N, D)."""
        runs = layout.text
        if len(layout.images) < 2:
            runs = (Span(layout.padding, layout.length),)
        else:
            prefix = layout.text_prefix if self.prefix else Span(layout.padding, layout.padding)
            for first, count, step in _equal_blocks(layout.images):
                blocks = [_blocks(x, first, count, step) for x in (query, key, value)]
                seen = [x[:, :, prefix.start : prefix.end].expand(count, -1, -1, -1) for x in (key, value)]
                target = _blocks(out, first, count, step)
                if prefix.length:
                    joined = [torch.cat(pair, dim=2) for pair in zip(seen, blocks[1:], strict=True)]
                    target.copy_(attend_to_end(blocks[0], *joined, scale=scale))
                else:
                    target.copy_(attend(*blocks, scale=scale, causal=True))
        for run in runs:
            seen_keys = slice(layout.padding, run.end)
            out[:, :, run.start : run.end] = attend_to_end(
                query[:, :, run.start : run.end], key[:, :, seen_keys], value[:, :, seen_keys], scale=scale
            )


def _equal_blocks(images: tuple[Span, ...]) -> Iterator[tuple[Span, int, int]]:
    """(first span, how many, distance between starts) of neighbouring images that one call can serve."""
    for _, group in groupby(images, key=lambda span: span.length):
        spans = list(group)
        while spans:
            step = spans[1].start - spans[0].start if len(spans) > 1 else spans[0].length
            count = 1
            while count < len(spans) and spans[count].start - spans[count - 1].start == step:
                count += 1
            yield spans[0], count, step
            spans = spans[count:]


def _blocks(x: Tensor, first: Span, count: int, step: int) -> Tensor:
    """A view (count, heads, length, D) of (1, heads, N, D): `count` spans, `step` tokens apart."""
    end = first.start + (count - 1) * step + first.length
    return x[0, :, first.start : end].unfold(1, first.length, step).permute(1, 0, 3, 2)
