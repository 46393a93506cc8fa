"""Attention over parts of a sequence, without an N x N mask. Shapes: B rows, H heads, KV heads, D wide."""

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from model_adapters import varlen
from model_adapters.layout import Layout, tokens_of

_ROWS_AT_ONCE = 256


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    scale: float,
    causal: bool = False,
    mask: Tensor | None = None,
) -> Tensor:
    """Softmax attention with grouped heads.

    Args:
        query: (B, H, T, D).
        key: (B, KV, S, D), H a multiple of KV.
        value: (B, KV, S, D).
        scale: factor on the scores.
        causal: query t sees keys 0..t (T = S).
        mask: bool, broadcast to (B, H, T, S), True = may attend.

    Returns:
        (B, H, T, D).
    """
    groups = query.shape[1] // key.shape[1]
    if causal and varlen.works(query.device, query.dtype, query.shape[1], key.shape[1], query.shape[3]):
        return varlen.attend_batch(query, key, value, scale=scale, causal=True)[0]
    if groups == 1 or causal:
        if groups > 1 and query.is_cuda and query.dtype == torch.float32:
            # No fused CUDA kernel groups heads in float32, and the fallback builds a T x S matrix.
            key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
            groups = 1
        return scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=causal, scale=scale, enable_gqa=groups > 1
        )
    # The query heads of a group become further rows of their KV head, so that keys are never copied.
    rows = query.shape[2]
    packed = query.reshape(query.shape[0], key.shape[1], groups * rows, query.shape[3])
    if mask is not None and rows > 1:
        mask = mask.repeat(*(1,) * (mask.dim() - 2), groups, 1)
    out = scaled_dot_product_attention(packed, key, value, attn_mask=mask, scale=scale)
    return out.reshape(query.shape)


def attend_to_end(query: Tensor, key: Tensor, value: Tensor, *, scale: float) -> Tensor:
    """The last T rows of causal attention over S keys: query t sees keys 0..S - T + t.

    Masks are made for a few hundred rows at a time, so memory grows with S and not with T x S.

    Args:
        query: (B, H, T, D), the last T tokens.
        key: (B, KV, S, D), S >= T.
        value: (B, KV, S, D).
        scale: factor on the scores.

    Returns:
        (B, H, T, D).
    """
    rows, keys = query.shape[2], key.shape[2]
    if rows == keys:
        return attend(query, key, value, scale=scale, causal=True)
    if rows == 1:
        return attend(query, key, value, scale=scale)
    parts = []
    for first in range(0, rows, _ROWS_AT_ONCE):
        last = min(first + _ROWS_AT_ONCE, rows)
        seen = keys - rows + last
        ends = torch.arange(keys - rows + first, seen, device=query.device)
        mask = torch.arange(seen, device=query.device)[None, :] <= ends[:, None]
        parts.append(
            attend(query[:, :, first:last], key[:, :, :seen], value[:, :, :seen], scale=scale, mask=mask)
        )
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


def causal_prefill(
    query: Tensor, key: Tensor, value: Tensor, layouts: tuple[Layout, ...], *, scale: float
) -> Tensor:
    """Ordinary causal attention of a padded batch, each row over its tokens without the padding.

    Args:
        query: (B, H, N, D).
        key: (B, KV, N, D).
        value: (B, KV, N, D).
        layouts: B layouts.
        scale: factor on the scores.

    Returns:
        (B, H, N, D), zero at padding.
    """
    if not any(layout.padding or layout.right_padding for layout in layouts):
        return attend(query, key, value, scale=scale, causal=True)
    out = torch.zeros_like(query)
    for b, layout in enumerate(layouts):
        row = [x[b : b + 1, :, layout.tokens] for x in (query, key, value)]
        out[b : b + 1, :, layout.tokens] = attend(*row, scale=scale, causal=True)
    return out


def decode_step(
    query: Tensor, key: Tensor, value: Tensor, layouts: tuple[Layout, ...], *, scale: float
) -> Tensor:
    """One generated token of each row over all its keys but the padding.

    Args:
        query: (B, H, 1, D).
        key: (B, KV, S, D), the cache.
        value: (B, KV, S, D).
        layouts: B layouts, of the prefill.
        scale: factor on the scores.

    Returns:
        (B, H, 1, D).
    """
    mask = None
    if any(layout.padding or layout.right_padding for layout in layouts):
        generated = key.shape[2] - layouts[0].length
        mask = torch.nn.functional.pad(tokens_of(layouts, query.device), (0, generated), value=True)[
            :, None, None, :
        ]
    return attend(query, key, value, scale=scale, mask=mask)
