"""Base masks that are not plain causal: sliding windows, chunks, images that attend in both directions.

transformers builds each mask from a function of four indices (batch, head, query, key) and gives it to the
registered mask interface (`masking_utils`). Here the function is evaluated for a few hundred rows at a time,
so that no N x N tensor is made. Interventions compose with it: a key must be allowed by both (METHODS 14).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from model_adapters.attention import attend, causal_prefill, decode_step
from model_adapters.layout import Layout, tokens_of

_ROWS_AT_ONCE = 256

Seen = Callable[[Tensor, Tensor], Tensor]
"""From rows int (R) and keys int (S), tokens of one doc, to bool (R, S): True = the row may attend."""


@dataclass(frozen=True, eq=False)
class BaseMask:
    """The base model's mask in one forward call.

    Attributes:
        function: transformers' mask function, of index tensors that broadcast.
        padding: bool (B, at least S + key_offset), True = no padding, by absolute index; or None.
        query_offset: the absolute index of the first query.
        key_offset: the absolute index of the first key; above 0 where a sliding cache dropped keys.
        device: of what the function holds; it is evaluated there.
        ndim: as of a mask that is ready, which transformers asks of one that a model hands to its decoder.
    """

    ndim: ClassVar[int] = 4

    function: Callable[..., Tensor]
    padding: Tensor | None = None
    query_offset: int = 0
    key_offset: int = 0
    device: torch.device | str = "cpu"

    def seen(self, doc: int) -> Seen:
        """Which keys the rows of a doc may attend to.

        Args:
            doc: row of the batch.
        """

        def allowed(rows: Tensor, keys: Tensor) -> Tensor:
            index = torch.tensor([[[[doc]]]], device=self.device)
            queries = rows.to(self.device)[None, None, :, None] + self.query_offset
            absolute = keys.to(self.device) + self.key_offset
            mask = self.function(index, torch.zeros_like(index), queries, absolute[None, None, None, :])
            mask = mask.to(self.device).expand(1, 1, len(rows), len(keys))[0, 0]
            if self.padding is not None:
                mask = mask & self.padding.to(self.device)[doc, absolute]
            return mask.to(keys.device)

        return allowed


def base_mask(
    *,
    mask_function: Callable[..., Tensor],
    kv_length: int,
    q_offset: Any = 0,
    kv_offset: int = 0,
    attention_mask: Tensor | BaseMask | None = None,
    allow_is_causal_skip: bool = True,
    local_size: int | None = None,
    device: torch.device | str = "cpu",
    **others: Any,
) -> BaseMask | None:
    """transformers' mask interface (`AttentionMaskInterface`).

    Returns:
        The mask, or None if it is plain causal: the layouts say where the padding is.
    """
    from transformers.masking_utils import causal_mask_function, prepare_padding_mask

    if isinstance(attention_mask, BaseMask):  # the model made it, and its decoder asks again
        return attention_mask
    within = local_size is None or kv_length + kv_offset <= local_size
    if mask_function is causal_mask_function or (allow_is_causal_skip and within):
        return None
    padding = prepare_padding_mask(attention_mask, kv_length, kv_offset)
    padding = None if padding is None else padding.bool()
    return BaseMask(mask_function, padding, int(q_offset), kv_offset, device)


class Chunk(NamedTuple):
    """Some rows, and the range of keys outside of which they see none.

    Attributes:
        rows: slice of the given rows.
        keys: slice of the given keys.
        mask: bool (rows, keys), True = may attend.
    """

    rows: slice
    keys: slice
    mask: Tensor


def chunks(rows: Tensor, keys: Tensor, seen: Seen, *, at_once: int = _ROWS_AT_ONCE) -> Iterator[Chunk]:
    """Rows in pieces, each with the keys that it needs: a sliding window is never computed in full.

    Args:
        rows: int (R).
        keys: int (S), rising.
        seen: which row may attend to which key.
        at_once: the most rows of a piece.
    """
    for first in range(0, len(rows), at_once):
        piece = slice(first, min(first + at_once, len(rows)))
        mask = seen(rows[piece], keys)
        used = mask.any(dim=0).nonzero()[:, 0]
        span = slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 0)
        yield Chunk(piece, span, mask[:, span])


def attend_seen(
    query: Tensor, key: Tensor, value: Tensor, rows: Tensor, keys: Tensor, seen: Seen, *, scale: float
) -> Tensor:
    """Softmax attention of some rows of one doc over the keys that each may see.

    Args:
        query: (H, R, D).
        key: (KV, S, D), H a multiple of KV.
        value: (KV, S, D).
        rows: int (R), the index of each query.
        keys: int (S), the index of each key, rising.
        seen: which row may attend to which key.
        scale: factor on the scores.

    Returns:
        (H, R, D); a row that sees no key gives zeros.
    """
    out = torch.zeros_like(query)
    for chunk in chunks(rows, keys, seen):
        if not chunk.mask.shape[1]:
            continue
        part = [x[None, :, chunk.keys] for x in (key, value)]
        made = attend(query[None, :, chunk.rows], *part, scale=scale, mask=chunk.mask)[0]
        out[:, chunk.rows] = torch.where(chunk.mask.any(dim=1)[:, None], made, 0)
    return out


def ordinary_prefill(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layouts: tuple[Layout, ...],
    base: BaseMask | None,
    *,
    scale: float,
) -> Tensor:
    """The base model's attention of a prompt: `causal_prefill`, bit for bit, where its mask is plain causal.

    Args:
        query: (B, H, N, D).
        key: (B, KV, N, D).
        value: (B, KV, N, D).
        layouts: B layouts of length N.
        base: of this forward call; None if it is plain causal.
        scale: factor on the scores.

    Returns:
        (B, H, N, D), zero at padding.
    """
    if base is None:
        return causal_prefill(query, key, value, layouts, scale=scale)
    out = torch.zeros_like(query)
    for b, layout in enumerate(layouts):
        tokens = torch.arange(layout.padding, layout.end, device=query.device)
        doc = (query[b, :, layout.tokens], key[b, :, layout.tokens], value[b, :, layout.tokens])
        out[b, :, layout.tokens] = attend_seen(*doc, tokens, tokens, base.seen(b), scale=scale)
    return out


def ordinary_decode(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layouts: tuple[Layout, ...],
    base: BaseMask | None,
    *,
    scale: float,
) -> Tensor:
    """The base model's attention of one generated token: `decode_step` where its mask is plain causal.

    Args:
        query: (B, H, 1, D).
        key: (B, KV, S, D), the cache, which may have dropped its first keys.
        value: (B, KV, S, D).
        layouts: B layouts, of the prompt.
        base: of this forward call; None if it is plain causal.
        scale: factor on the scores.

    Returns:
        (B, H, 1, D).
    """
    if base is None:
        return decode_step(query, key, value, layouts, scale=scale)
    return attend(query, key, value, scale=scale, mask=cached(key, layouts, base)[:, None, None, :])


def cached(key: Tensor, layouts: tuple[Layout, ...], base: BaseMask | None) -> Tensor:
    """bool (B, S): which keys of the cache a generated token sees; True = it sees the key.

    Args:
        key: (B, KV, S, D), the cache.
        layouts: B layouts, of the prompt.
        base: of this forward call; None if it is plain causal.
    """
    keys = torch.arange(key.shape[2], device=key.device)
    dropped = 0 if base is None else base.key_offset
    seen = on_cache(tokens_of(layouts, key.device), len(keys), dropped=dropped, generated=True)
    if base is None:
        return seen
    row = torch.zeros(1, dtype=torch.long, device=key.device)
    return seen & torch.cat([base.seen(b)(row, keys) for b in range(len(layouts))])


def on_cache(prompt: Tensor, keys: int, *, dropped: int, generated: bool) -> Tensor:
    """A fact about the prompt's tokens as one about the keys of a cache.

    Args:
        prompt: bool (B, N).
        keys: S, in the cache.
        dropped: how many of the first keys the cache dropped.
        generated: the fact about generated tokens.

    Returns:
        bool (B, S).
    """
    grown = dropped + keys - prompt.shape[1]
    return torch.nn.functional.pad(prompt, (0, grown), value=generated)[:, dropped:]
