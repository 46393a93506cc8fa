"""Many attentions of different lengths in one call, where a device has torch's kernel for it.

No GPU was at hand when this was written. A device gets the kernel only if a trial on it, at the model's own
heads, width and dtype, agrees with attention written out; else torch's `scaled_dot_product_attention` does.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

import torch
from torch import Tensor

_TRIAL_QUERIES, _TRIAL_KEYS = (3, 5, 2), (7, 5, 2)
_LARGEST_ERROR = 0.03
"""Of half precision on values of about 1: bfloat16 has steps of 0.008 there."""


def attend_packed(
    query: Tensor, key: Tensor, value: Tensor, queries: Sequence[int], keys: Sequence[int], *, scale: float
) -> Tensor:
    """The last queries of causal attention in each of several sequences, packed one behind the other.

    Args:
        query: (sum of T, H, D).
        key: (sum of S, KV, D), H a multiple of KV.
        value: (sum of S, KV, D).
        queries: T of each sequence.
        keys: S of each sequence, S >= T: query t sees keys 0..S - T + t.
        scale: factor on the scores.

    Returns:
        (sum of T, H, D).
    """
    return _kernel(query, key, value, tuple(queries), tuple(keys), scale=scale, causal=True)[0]


def attend_batch(
    query: Tensor, key: Tensor, value: Tensor, *, scale: float, causal: bool
) -> tuple[Tensor, Tensor]:
    """Attention of a batch whose rows have one length, and the log-sum-exp of each row's scores.

    Args:
        query: (B, H, T, D).
        key: (B, KV, S, D), H a multiple of KV; S = T if causal.
        value: (B, KV, S, D).
        scale: factor on the scores.
        causal: query t sees keys 0..t; else all.

    Returns:
        (B, H, T, D) and float32 (B, H, T).
    """
    rows, heads, queries = query.shape[:3]
    flat, flat_keys, flat_values = (x.transpose(1, 2).flatten(0, 1) for x in (query, key, value))
    counts, key_counts = (queries,) * rows, (key.shape[2],) * rows
    out, lse = _kernel(flat, flat_keys, flat_values, counts, key_counts, scale=scale, causal=causal)
    shaped = out.reshape(rows, queries, heads, out.shape[2]).transpose(1, 2)
    return shaped, lse.reshape(heads, rows, queries).transpose(0, 1)


def _kernel(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    queries: tuple[int, ...],
    keys: tuple[int, ...],
    *,
    scale: float,
    causal: bool,
) -> tuple[Tensor, Tensor]:
    """torch's: (sum of T, H, D), and float32 (H, sum of T), the log-sum-exps, which it always computes."""
    from torch.nn.attention.varlen import AuxRequest, varlen_attn

    out, lse = varlen_attn(
        query,
        key,
        value,
        _ends(queries, query.device),
        _ends(keys, query.device),
        max(queries),
        max(keys),
        return_aux=AuxRequest(lse=True),
        scale=scale,
        window_size=(-1, 0) if causal else (-1, -1),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return out, lse


@lru_cache(maxsize=4)
def _ends(lengths: tuple[int, ...], device: torch.device) -> Tensor:
    """int32 (n + 1): where each sequence starts and ends. Each layer of a batch asks again."""
    with torch.inference_mode(False):  # a training that comes later may keep them for its backward pass
        return torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)


@lru_cache(maxsize=16)
def works(device: torch.device, dtype: torch.dtype, heads: int, kv_heads: int, width: int) -> bool:
    """Whether the kernel runs on a device and gives what attention is, tried once.

    Args:
        device: a CPU has no such kernel.
        dtype: half precision, else there is none either.
        heads: H.
        kv_heads: KV.
        width: D.
    """
    if device.type != "cuda" or dtype not in (torch.bfloat16, torch.float16):
        return False
    return agrees(device, dtype, heads, kv_heads, width)


@torch.inference_mode()
def agrees(device: torch.device, dtype: torch.dtype, heads: int, kv_heads: int, width: int) -> bool:
    """The trial of `works`: three short sequences against attention written out in float32."""
    draw = torch.Generator().manual_seed(0)
    shapes = [(sum(_TRIAL_QUERIES), heads), (sum(_TRIAL_KEYS), kv_heads), (sum(_TRIAL_KEYS), kv_heads)]
    query, key, value = (torch.randn(*size, width, generator=draw).to(device, dtype) for size in shapes)
    scale = width**-0.5
    try:
        out, lse = _kernel(query, key, value, _TRIAL_QUERIES, _TRIAL_KEYS, scale=scale, causal=True)
    except (RuntimeError, TypeError, ValueError, ImportError):  # what builds of torch without a kernel say
        return False
    pairs = ((query, _TRIAL_QUERIES), (key, _TRIAL_KEYS), (value, _TRIAL_KEYS))
    parts = [torch.split(x, list(counts)) for x, counts in pairs]
    wanted, logs = [], []
    for q, k, v in zip(*parts, strict=True):
        q, k, v = (x.float().transpose(0, 1) for x in (q, k, v))
        k, v = (x.repeat_interleave(heads // kv_heads, dim=0) for x in (k, v))
        scores = q @ k.transpose(1, 2) * scale
        behind = torch.ones_like(scores, dtype=torch.bool).triu(scores.shape[2] - scores.shape[1] + 1)
        scores = scores.masked_fill(behind, float("-inf"))
        wanted.append((scores.softmax(dim=-1) @ v).transpose(0, 1))
        logs.append(scores.logsumexp(dim=-1))
    errors = (out.float() - torch.cat(wanted), lse.float() - torch.cat(logs, dim=1))
    return all(bool(error.abs().max() <= _LARGEST_ERROR) for error in errors)
