"""Dynamic attention balancing as matrices (METHODS 5): the oracle of `kernel`."""

import torch
from torch import Tensor

from model_adapters.layout import Layout


def balanced_weights(
    alpha: Tensor, layout: Layout, seen: Tensor, *, strength: float = 0.5, min_visual_share: float = 0.2
) -> Tensor:
    """alpha' of `dab` (METHODS 5): (H, N, N).

    Args:
        alpha: (H, N, N), the base model's.
        layout: of length N; generated tokens are text after the images.
        seen: bool (N, N), True = the base model lets the row attend to the key.
        strength: `mask=dab`'s alpha.
        min_visual_share: the share of attention on images that a row must exceed.
    """
    edited = alpha.clone()
    if not layout.images:
        return edited
    for i in range(layout.images[-1].end, layout.end):
        images = [image.indices()[seen[i, image.indices()]] for image in layout.images]
        images = [tokens for tokens in images if len(tokens)]
        if len(images) < 2:
            continue
        r = torch.stack([alpha[:, i, tokens].sum(dim=1) for tokens in images], dim=1)  # (H, images)
        chosen = r.sum(dim=1) > min_visual_share
        for k, tokens in enumerate(images):
            gain = strength * (r.mean(dim=1) - r[:, k]) / len(tokens)
            edited[:, i, tokens] += torch.where(chosen, gain, 0.0)[:, None]
    return edited
