"""Attention written out as matrices, which the readable definitions of the interventions share."""

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
    mask[layout.end :] = False
    mask[:, layout.end :] = False
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


def causal_weights(query: Tensor, key: Tensor, layout: Layout, *, scale: float) -> Tensor:
    """alpha of causal attention: (H, N, N), zero in padding's rows.

    Args:
        query: (H, N, D).
        key: (KV, N, D).
        layout: of length N.
        scale: factor on the scores.
    """
    key = key.repeat_interleave(query.shape[0] // key.shape[0], 0)
    scores = (query @ key.transpose(1, 2)) * scale
    scores = scores.masked_fill(~causal_mask(layout).to(query.device), float("-inf"))
    return torch.nan_to_num(torch.softmax(scores, dim=-1))


def weighted(weights: Tensor, value: Tensor) -> Tensor:
    """(H, N, D) from weights (H, N, N) and value (KV, N, D)."""
    return weights @ value.repeat_interleave(weights.shape[0] // value.shape[0], 0)


def weights_by_factors(query: Tensor, key: Tensor, factors: Tensor, *, scale: float) -> Tensor:
    """Softmax weights (H, N, N) with a factor on each exp(score) (METHODS 5); zero in rows without any.

    Args:
        query: (H, N, D).
        key: (KV, N, D).
        factors: (N, N) or (H, N, N), 1 = seen, 0 = not seen.
        scale: factor on the scores.
    """
    key = key.repeat_interleave(query.shape[0] // key.shape[0], 0)
    scores = (query @ key.transpose(1, 2)) * scale
    raised = (scores - scores.amax(dim=-1, keepdim=True)).exp() * factors
    total = raised.sum(dim=-1, keepdim=True)
    return raised / torch.where(total > 0, total, 1.0)
