"""Block masking as a matrix (METHODS 3): the oracle of `kernel`."""

import torch
from torch import Tensor

from model_adapters.interventions.reference import causal_mask
from model_adapters.layout import Layout


def block_mask(layout: Layout, *, prefix: bool = False) -> Tensor:
    """bool (N, N), True = may attend (METHODS 3): images see their own image only; text is untouched.

    Args:
        layout: the sequence.
        prefix: images also see the text before the first image.
    """
    mask = causal_mask(layout)
    if len(layout.images) < 2:
        return mask
    for image in layout.images:
        seen = torch.zeros(layout.length, dtype=torch.bool)
        seen[image.indices()] = True
        if prefix:
            seen[layout.text_prefix.start : layout.text_prefix.end] = True
        mask[image.indices()] &= seen
    return mask
