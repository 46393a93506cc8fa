"""The base model's attention weights of some rows, which interventions edit and observers read in chunks."""

import torch
from torch import Tensor

from model_adapters.base_mask import BaseMask, cached
from model_adapters.interventions.base import LayerView
from model_adapters.interventions.mass import accumulator, by_group
from model_adapters.layout import Layout


def ordinary_weights(
    query: Tensor,
    key: Tensor,
    view: LayerView,
    doc: int,
    rows: Tensor,
    *,
    scale: float,
    blocked: Tensor | None = None,
) -> Tensor:
    """`Intervention.weights` of the base model: by its mask alone; arguments as there.

    Args:
        blocked: bool (R, N), keys that a row does not see either; never all of them.
    """
    layout = view.layouts[doc]
    end = layout.end if view.base is not None else int(rows.max()) + 1  # no row sees a key behind it
    seen = seen_keys(view, doc, rows)[:, layout.padding : end]
    if blocked is not None:
        seen = seen & ~blocked[:, layout.padding : end]
    wide = accumulator(query.dtype)
    scores = by_group(query.to(wide), key[:, layout.padding : end].to(wide).transpose(1, 2)).mul_(scale)
    weights = scores.masked_fill_(~seen, float("-inf")).softmax(dim=-1)
    return torch.nn.functional.pad(weights, (layout.padding, layout.length - end))


def seen_keys(view: LayerView, doc: int, rows: Tensor) -> Tensor:
    """Which keys of a doc's prompt some rows see by the base model's mask.

    Args:
        view: the layer.
        doc: row of the batch.
        rows: int (R), tokens of the doc that are no padding.

    Returns:
        bool (R, N), False at padding.
    """
    layout, seen = view.layouts[doc], view.seen(doc)
    tokens = torch.arange(layout.padding, layout.end, device=rows.device)
    visible = tokens <= rows[:, None] if seen is None else seen(rows, tokens)
    return torch.nn.functional.pad(visible, (layout.padding, layout.right_padding))


def ordinary_generated_weights(
    query: Tensor, key: Tensor, view: LayerView, doc: int, *, scale: float
) -> Tensor:
    """`Intervention.generated_weights` of the base model: by its mask alone; arguments as there."""
    wide = accumulator(query.dtype)
    scores = by_group(query.to(wide), key.to(wide).transpose(1, 2))[:, 0].mul_(scale)
    seen = cached(key[None].expand(len(view.layouts), -1, -1, -1), view.layouts, view.base)[doc]
    return scores.masked_fill_(~seen, float("-inf")).softmax(dim=-1)


def cached_weights(
    query: Tensor, key: Tensor, layouts: tuple[Layout, ...], base: BaseMask | None, *, scale: float
) -> tuple[Tensor, Tensor]:
    """Attention weights of a generated token of each doc over its cache, by the base model's mask.

    Args:
        query: (B, H, 1, D).
        key: (B, KV, S, D), the cache.
        layouts: B layouts, of the prompt.
        base: of this forward call; None if it is plain causal.
        scale: factor on the scores.

    Returns:
        (B, H, S), float32 or wider, and bool (B, S), the keys that are seen.
    """
    wide = accumulator(query.dtype)
    docs, heads, _, width = query.shape
    grouped = query.to(wide).reshape(docs, key.shape[1], -1, width)
    scores = ((grouped @ key.to(wide).transpose(2, 3)) * scale).reshape(docs, heads, -1)
    seen = cached(key, layouts, base)
    return scores.masked_fill_(~seen[:, None], float("-inf")).softmax(dim=-1), seen
