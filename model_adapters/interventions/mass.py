"""How much of a row's attention a group of keys takes, without an N x N matrix.

The log-sum-exp of a row's scores comes beside its attention from one call: on a GPU in half precision from
torch's `varlen_attn` (`model_adapters.varlen`), which `attend` takes there too, so that both agree bit for
bit. On a CPU torch has no public function that returns it, and the kernel that `scaled_dot_product_attention`
itself runs is called. Elsewhere it is written out. Half precision is accumulated in float32: the
log-sum-exps, the scores and all sums over groups of keys.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend

from model_adapters import varlen
from model_adapters.attention import attend
from model_adapters.base_mask import BaseMask, Seen, ordinary_prefill
from model_adapters.layout import Layout

_SCORES_AT_ONCE = 2**18
_ROWS_AT_ONCE = 512


class Attended(NamedTuple):
    """Attention, and the log of what its softmax divides by.

    Attributes:
        out: (..., N, D) in the inputs' dtype.
        lse: (..., N) log-sum-exp of the scaled scores, float32 or wider.
    """

    out: Tensor
    lse: Tensor


class Scores(NamedTuple):
    """Scaled scores of some rows over some keys.

    Attributes:
        rows: which of the given rows.
        scores: (H, R, S), float32 or wider; -inf where the row does not see the key.
    """

    rows: slice
    scores: Tensor


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """float32, or float64 for float64."""
    return torch.promote_types(dtype, torch.float32)


def ordinary_with_lse(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layouts: tuple[Layout, ...],
    base: BaseMask | None,
    *,
    scale: float,
) -> Attended:
    """`ordinary_prefill`, bit for bit, and the log-sum-exp of each row.

    Args:
        query: (B, H, N, D).
        key: (B, KV, N, D).
        value: (B, KV, N, D).
        layouts: B layouts.
        base: the base model's mask; None if it is plain causal.
        scale: factor on the scores.

    Returns:
        (B, H, N, D), zero at padding, and (B, H, N), zero at padding.
    """
    if base is not None:
        out = ordinary_prefill(query, key, value, layouts, base, scale=scale)
        lse = torch.zeros(query.shape[:3], dtype=accumulator(query.dtype), device=query.device)
        for b, layout in enumerate(layouts):
            tokens = torch.arange(layout.padding, layout.end, device=query.device)
            doc = (query[b, :, layout.tokens], key[b, :, layout.tokens])
            for chunk in scores_in_chunks(*doc, tokens, tokens, scale=scale, seen=base.seen(b)):
                lse[b, :, tokens[chunk.rows]] = chunk.scores.logsumexp(dim=-1)
        return Attended(out, lse)
    if not any(layout.padding or layout.right_padding for layout in layouts):
        return attend_with_lse(query, key, value, scale=scale, causal=True)
    out = torch.zeros_like(query)
    lse = torch.zeros(query.shape[:3], dtype=accumulator(query.dtype), device=query.device)
    for b, layout in enumerate(layouts):
        row = [x[b : b + 1, :, layout.tokens] for x in (query, key, value)]
        part = attend_with_lse(*row, scale=scale, causal=True)
        out[b : b + 1, :, layout.tokens], lse[b : b + 1, :, layout.tokens] = part
    return Attended(out, lse)


def scores_in_chunks(
    query: Tensor, key: Tensor, rows: Tensor, key_tokens: Tensor, *, scale: float, seen: Seen | None = None
) -> Iterator[Scores]:
    """Scores of R rows over S keys of one doc, some rows at a time: memory grows with S, not with R x S.

    Args:
        query: (H, R, D).
        key: (KV, S, D), H a multiple of KV.
        rows: int (R), the tokens of the queries.
        key_tokens: int (S), the tokens of the keys.
        scale: factor on the scores.
        seen: which row may attend to which key; None if causal.
    """
    wide = accumulator(query.dtype)
    turned = key.to(wide).transpose(1, 2)
    step = min(max(1, _SCORES_AT_ONCE // max(1, len(key_tokens))), _ROWS_AT_ONCE)
    for first in range(0, len(rows), step):
        chunk = slice(first, min(first + step, len(rows)))
        scores = by_group(query[:, chunk].to(wide), turned) * scale
        hidden = key_tokens > rows[chunk, None] if seen is None else ~seen(rows[chunk], key_tokens)
        yield Scores(chunk, scores.masked_fill_(hidden, float("-inf")))


def by_group(left: Tensor, right: Tensor) -> Tensor:
    """Matrix product of (H, R, X) and (KV, X, Y), each group of H / KV heads with its KV head: (H, R, Y)."""
    heads, rows, inner = left.shape
    kv_heads = right.shape[0]
    product = left.reshape(kv_heads, heads // kv_heads * rows, inner) @ right
    return product.reshape(heads, rows, right.shape[2])


def attend_with_lse(query: Tensor, key: Tensor, value: Tensor, *, scale: float, causal: bool) -> Attended:
    """`attend`, bit for bit where it is causal, and the log-sum-exp of each row.

    Gradients flow through both; no kernel of torch gives that of the log-sum-exp.

    Args:
        query: (B, H, T, D).
        key: (B, KV, S, D), H a multiple of KV; S = T if causal.
        value: (B, KV, S, D).
        scale: factor on the scores.
        causal: query t sees keys 0..t; else all.

    Returns:
        (B, H, T, D) and (B, H, T).
    """
    if torch.is_grad_enabled() and any(x.requires_grad for x in (query, key, value)):
        return Attended(*_WithGradients.apply(query, key, value, scale, causal))
    return _attend_with_lse(query, key, value, scale=scale, causal=causal)


def _attend_with_lse(query: Tensor, key: Tensor, value: Tensor, *, scale: float, causal: bool) -> Attended:
    """`attend_with_lse` without gradients."""
    if query.device.type == "cpu" and _runs_flash(query, key, value, scale=scale, causal=causal):
        flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        return Attended(*flash(query, key, value, 0.0, causal, scale=scale))
    if varlen.works(query.device, query.dtype, query.shape[1], key.shape[1], query.shape[3]):
        return Attended(*varlen.attend_batch(query, key, value, scale=scale, causal=causal))
    out = attend(query, key, value, scale=scale, causal=causal)
    return Attended(out, written_out_lse(query, key, scale=scale, causal=causal))


class _WithGradients(torch.autograd.Function):
    """`attend_with_lse`. Its backward pass computes the weights again, some rows at a time."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, scale: float, causal: bool
    ) -> tuple[Tensor, Tensor]:
        out, lse = _attend_with_lse(query, key, value, scale=scale, causal=causal)
        ctx.save_for_backward(query, key, value, out, lse)
        ctx.scale, ctx.causal = scale, causal
        return out, lse

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, out_gradient: Tensor, lse_gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, out, lse = ctx.saved_tensors
        wide = accumulator(query.dtype)
        gradients = [torch.zeros(x.shape, dtype=wide, device=x.device) for x in (query, key, value)]
        keys = torch.arange(key.shape[2], device=key.device)
        rows = torch.arange(query.shape[2], device=key.device) + (0 if ctx.causal else key.shape[2])
        for b in range(len(query)):
            of_query, of_key, of_value = (gradient[b] for gradient in gradients)
            wide_key, turned_value = key[b].to(wide), value[b].to(wide).transpose(1, 2)
            for chunk in scores_in_chunks(query[b], key[b], rows, keys, scale=ctx.scale):
                part = chunk.rows
                weights = (chunk.scores - lse[b, :, part, None]).exp_()
                upstream = out_gradient[b, :, part].to(wide)
                own = lse_gradient[b, :, part] - (upstream * out[b, :, part]).sum(dim=-1)
                of_scores = weights * (by_group(upstream, turned_value) + own[..., None]) * ctx.scale
                of_query[:, part] = by_group(of_scores, wide_key)
                of_key += _over_rows(of_scores, query[b, :, part].to(wide), len(of_key))
                of_value += _over_rows(weights, upstream, len(of_value))
        typed = [gradient.to(x.dtype) for gradient, x in zip(gradients, (query, key, value), strict=True)]
        return (*typed, None, None)


def _over_rows(left: Tensor, right: Tensor, kv_heads: int) -> Tensor:
    """(KV, S, D): products of left (H, R, S) and right (H, R, D), summed over rows and each group's heads."""
    return left.reshape(kv_heads, -1, left.shape[2]).transpose(1, 2) @ right.reshape(
        kv_heads, -1, right.shape[2]
    )


def _runs_flash(query: Tensor, key: Tensor, value: Tensor, *, scale: float, causal: bool) -> bool:
    """Whether `scaled_dot_product_attention` would choose its fused kernel."""
    grouped = query.shape[1] != key.shape[1]
    choice = torch._fused_sdp_choice(query, key, value, None, 0.0, causal, scale=scale, enable_gqa=grouped)
    return bool(choice == SDPBackend.FLASH_ATTENTION.value)


def written_out_lse(query: Tensor, key: Tensor, *, scale: float, causal: bool = True) -> Tensor:
    """(B, H, T) log-sum-exp of scores, where no kernel gives it: slow, in chunks of rows.

    Args:
        query: (B, H, T, D).
        key: (B, KV, S, D).
        scale: factor on the scores.
        causal: query t sees keys 0..t; else all.
    """
    keys = torch.arange(key.shape[2], device=query.device)
    rows = torch.arange(query.shape[2], device=query.device) + (0 if causal else key.shape[2])
    docs = []
    for doc_query, doc_key in zip(query, key, strict=True):
        chunks = scores_in_chunks(doc_query, doc_key, rows, keys, scale=scale)
        docs.append(torch.cat([chunk.scores.logsumexp(-1) for chunk in chunks], dim=1))
    return torch.stack(docs)
