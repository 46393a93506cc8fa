"""Attention of some queries to several groups of keys, each with a weight, merged by their log-sum-exps.

Every group is one attention call. With the log-sum-exp lse_g of the scores and the output o_g of each group,
and a factor w_g on its exponentials, softmax attention over all of them is
sum_g w_g exp(lse_g) o_g / sum_g w_g exp(lse_g). So a weight for each pair of segments (METHODS 5: block,
knockout, SoFA) needs no mask over the sequence.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from model_adapters.attention import attend
from model_adapters.interventions.mass import Attended, accumulator, attend_with_lse


class Keys(NamedTuple):
    """A group of keys that all queries of a segment see in the same way.

    Attributes:
        key: (B, KV, S, D).
        value: (B, KV, S, D).
        causal: query t sees keys 0..t only (then S = T); else all.
        bias: added to the scores: 0, log w, or -inf for a group that is not seen.
    """

    key: Tensor
    value: Tensor
    causal: bool = False
    bias: float = 0.0


def attend_segments(query: Tensor, groups: Sequence[Keys], *, scale: float) -> Tensor:
    """Softmax attention of a segment of queries over groups of keys.

    Args:
        query: (B, H, T, D).
        groups: at least one that is seen by every query.
        scale: factor on the scores.

    Returns:
        (B, H, T, D). One group is bit for bit `attend`, whatever its bias.

    Raises:
        ValueError: no group is seen.
    """
    seen = [group for group in groups if group.bias != -math.inf and group.key.shape[2]]
    if not seen:
        raise ValueError("a segment of queries must see at least one group of keys")
    if len(seen) == 1:
        return attend(query, seen[0].key, seen[0].value, scale=scale, causal=seen[0].causal)
    parts = [
        attend_with_lse(query, group.key, group.value, scale=scale, causal=group.causal) for group in seen
    ]
    return merge(parts, [group.bias for group in seen]).to(query.dtype)


def merge(parts: Sequence[Attended], biases: Sequence[float]) -> Tensor:
    """The outputs of several groups of keys as one attention.

    Args:
        parts: each (B, H, T, D) and (B, H, T).
        biases: of each group.

    Returns:
        (B, H, T, D), float32 or wider.
    """
    return merge_with_lse(parts, biases).out


def merge_with_lse(parts: Sequence[Attended], biases: Sequence[float]) -> Attended:
    """As `merge`, and the log of what its softmax divides by.

    Args:
        parts: each (..., T, D) and (..., T); a lse of -inf is a row that sees nothing of the group.
        biases: of each group.

    Returns:
        (..., T, D) and (..., T), float32 or wider.
    """
    logs = torch.stack([part.lse + bias for part, bias in zip(parts, biases, strict=True)])
    shares = logs.softmax(dim=0)
    wide = accumulator(parts[0].out.dtype)
    total = shares[0, ..., None] * parts[0].out.to(wide)
    for share, part in zip(shares[1:], parts[1:], strict=True):
        total = total.addcmul(share[..., None].expand_as(part.out), part.out.to(wide))
    return Attended(total, logs.logsumexp(dim=0))
