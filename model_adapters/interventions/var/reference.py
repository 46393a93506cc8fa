"""Visual attention redistribution as matrices (METHODS 5): the oracle of `kernel`."""

import torch
from torch import Tensor

from model_adapters.layout import Layout


def redistributed_weights(
    alpha: Tensor,
    layout: Layout,
    sinks: Tensor,
    text_sinks: Tensor,
    *,
    p: float = 0.6,
    rho: float = 0.5,
    min_visual_share: float = 0.2,
    rows: str = "after_last",
    heads: str = "selected",
) -> Tensor:
    """alpha' of `var` (METHODS 5): (H, N, N).

    Args:
        alpha: (H, N, N), the base model's.
        layout: of length N; generated tokens are text after the images.
        sinks: bool (N), of visual tokens.
        text_sinks: bool (N), of text tokens.
        p: the share that sinks keep.
        rho: the largest share of visual attention on sinks.
        min_visual_share: the least share of attention on visual tokens.
        rows: ``after_last`` or ``after_first``.
        heads: ``selected`` or ``all``.
    """
    edited = alpha.clone()
    if not layout.images or not bool(sinks.any()):
        return edited
    visual = layout.image_numbers() >= 0
    others = visual & ~sinks
    first = layout.images[0 if rows == "after_first" else -1].end
    for i in range(first, layout.end):
        row = alpha[:, i]
        on_images, on_sinks, on_others = (row[:, group].sum(dim=1) for group in (visual, sinks, others))
        chosen = (on_sinks / (on_images + 1e-6) <= rho) & (on_images >= min_visual_share)
        chosen = (chosen | (heads == "all")) & (on_others >= 1e-6) & ~visual[i]
        freed = (1 - p) * (on_sinks + row[:, text_sinks].sum(dim=1))
        after = row.clone()
        after[:, sinks | text_sinks] *= p
        after[:, others] += (freed / on_others)[:, None] * row[:, others]
        edited[:, i] = torch.where(chosen[:, None], after, row)
    return edited
