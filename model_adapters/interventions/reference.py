"""Readable definitions of the interventions as materialised matrices: the oracles of the fast paths."""

import torch
from torch import Tensor

from model_adapters.layout import Layout


def causal_mask(layout: Layout) -> Tensor:
    """bool (N, N), True = may attend: each token sees itself and what is before it, padding apart."""
    n = layout.length
    rows = torch.arange(n)
    mask = rows[None, :] <= rows[:, None]
    mask[:, : layout.padding] = False
    mask[: layout.padding] = False
    return mask


def block_mask(layout: Layout, *, prefix: bool = False) -> Tensor:
    """bool (N, N), True = may attend (METHODS 3): images see their own image only; text is untouched.

    Args:
        layout: the sequence.
        prefix: images also see the text before the first image.
    """
    mask = causal_mask(layout)
    if len(layout.images) < 2:
        return mask
    for span in layout.images:
        own = torch.zeros(layout.length, dtype=torch.bool)
        own[span.start : span.end] = True
        if prefix:
            own[layout.text_prefix.start : layout.text_prefix.end] = True
        mask[span.start : span.end] &= own
    return mask


def masked_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, *, scale: float) -> Tensor:
    """Softmax attention written out.

    Args:
        query: (H, N, D).
        key: (KV, N, D).
        value: (KV, N, D).
        mask: bool (N, N), True = may attend; a row without any key gives zeros.
        scale: factor on the scores.

    Returns:
        (H, N, D).
    """
    groups = query.shape[0] // key.shape[0]
    key, value = key.repeat_interleave(groups, 0), value.repeat_interleave(groups, 0)
    scores = (query @ key.transpose(1, 2)) * scale
    weights = torch.softmax(scores.masked_fill(~mask, float("-inf")), dim=-1)
    return torch.nan_to_num(weights) @ value
