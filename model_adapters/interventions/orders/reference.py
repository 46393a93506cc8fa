"""The mean over orders in plain steps (METHODS 5): the oracle of `kernel`."""

from collections.abc import Sequence

import torch
from torch import Tensor


def shifted(images: int, shifts: int | None = None) -> list[list[int]]:
    """The image that stands at each position, for each pass.

    Args:
        images: M.
        shifts: P of the passes, spread evenly; None or M and more: all.
    """
    count = images if shifts is None else min(shifts, images)
    passes = []
    for number in range(max(count, 1)):
        start = number * images // max(count, 1)
        passes.append([(start + position) % images for position in range(images)])
    return passes


def mean_logits(passes: Sequence[Tensor]) -> Tensor:
    """The logits (V) from which the next token is chosen, of those of each pass."""
    return torch.stack(list(passes)).sum(dim=0) / len(passes)
