"""Many attentions of different lengths in one call, where a device has torch's kernel for it.

No GPU was at hand when this was written. A device gets the kernel only if a trial on it, at the model's own
heads, width and dtype, agrees with attention written out; else torch's `scaled_dot_product_attention` does.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

import torch
from torch import Tensor

from model_adapters.attention import attend_to_end

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
    from torch.nn.attention.varlen import varlen_attn

    out = varlen_attn(
        query,
        key,
        value,
        _ends(tuple(queries), query.device),
        _ends(tuple(keys), query.device),
        max(queries),
        max(keys),
        scale=scale,
        window_size=(-1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return torch.as_tensor(out)


@lru_cache(maxsize=4)
def _ends(lengths: tuple[int, ...], device: torch.device) -> Tensor:
    """int32 (n + 1): where each sequence starts and ends. Each layer of a batch asks again."""
    with torch.inference_mode(False):  # a training that comes later may keep them for its backward pass
        return torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)


@lru_cache(maxsize=16)
def works(device: torch.device, dtype: torch.dtype, heads: int, kv_heads: int, width: int) -> bool:
    """Whether `attend_packed` runs on a device and gives what attention is, tried once.

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
    """The trial of `works`: three short sequences against attention sequence by sequence in float32."""
    draw = torch.Generator().manual_seed(0)
    shapes = [(sum(_TRIAL_QUERIES), heads), (sum(_TRIAL_KEYS), kv_heads), (sum(_TRIAL_KEYS), kv_heads)]
    query, key, value = (torch.randn(*own, width, generator=draw).to(device, dtype) for own in shapes)
    scale = width**-0.5
    try:
        found = attend_packed(query, key, value, _TRIAL_QUERIES, _TRIAL_KEYS, scale=scale).float()
    except (RuntimeError, TypeError, ValueError, ImportError):  # what builds of torch without a kernel say
        return False
    want, row, seen = [], 0, 0
    for queries, keys in zip(_TRIAL_QUERIES, _TRIAL_KEYS, strict=True):
        own = (query[row : row + queries], key[seen : seen + keys], value[seen : seen + keys])
        q, k, v = (x.float().transpose(0, 1)[None] for x in own)
        want.append(attend_to_end(q, k, v, scale=scale)[0].transpose(0, 1))
        row, seen = row + queries, seen + keys
    return bool((found - torch.cat(want)).abs().max() <= _LARGEST_ERROR)
