"""The base model's attention weights of some rows, which interventions edit and observers read in chunks."""

import torch
from torch import Tensor

from model_adapters.base_mask import cached
from model_adapters.interventions.base import LayerView
from model_adapters.interventions.mass import accumulator, by_group


def ordinary_weights(
    query: Tensor, key: Tensor, view: LayerView, doc: int, rows: Tensor, *, scale: float
) -> Tensor:
    """Attention weights of some rows of a doc's prompt, by the base model's mask.

    Args:
        query: (H, R, D), of these rows.
        key: (KV, N, D), of the doc, padding included.
        view: the layer.
        doc: row of the batch.
        rows: int (R), tokens of the doc that are no padding.
        scale: factor on the scores.

    Returns:
        (H, R, N), float32 or wider; 0 at keys that the row does not see.
    """
    layout, seen = view.layouts[doc], view.seen(doc)
    end = layout.end if seen is not None else int(rows.max()) + 1  # no row sees a key behind it
    tokens = torch.arange(layout.padding, end, device=query.device)
    wide = accumulator(query.dtype)
    scores = by_group(query.to(wide), key[:, layout.padding : end].to(wide).transpose(1, 2)).mul_(scale)
    hidden = tokens > rows[:, None] if seen is None else ~seen(rows, tokens)
    weights = scores.masked_fill_(hidden, float("-inf")).softmax(dim=-1)
    return torch.nn.functional.pad(weights, (layout.padding, layout.length - end))


def ordinary_generated_weights(
    query: Tensor, key: Tensor, view: LayerView, doc: int, *, scale: float
) -> Tensor:
    """Attention weights of a doc's generated token over its cache, by the base model's mask.

    Args:
        query: (H, 1, D).
        key: (KV, S, D), the doc's cache.
        view: the layer as the prompt left it.
        doc: row of the batch.
        scale: factor on the scores.

    Returns:
        (H, S), float32 or wider; 0 at keys that the token does not see.
    """
    wide = accumulator(query.dtype)
    scores = by_group(query.to(wide), key.to(wide).transpose(1, 2))[:, 0].mul_(scale)
    seen = cached(key[None].expand(len(view.layouts), -1, -1, -1), view.layouts, view.base)[doc]
    return scores.masked_fill_(~seen, float("-inf")).softmax(dim=-1)
