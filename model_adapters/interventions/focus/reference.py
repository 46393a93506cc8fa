"""FOCUS in plain steps (METHODS 5): the oracle of `kernel`."""

from collections.abc import Sequence

import torch
from torch import Tensor


def replaced_images(images: int) -> list[set[int]]:
    """Which images each pass replaces by noise, from 0: pass 0 all of them, pass k all but the k-th.

    Args:
        images: M; fewer than 2 are one pass that replaces nothing.
    """
    if images < 2:
        return [set()]
    every = set(range(images))
    return [every] + [every - {kept} for kept in range(images)]


def focus_logits(passes: Sequence[Tensor], lam: float, cut: float | None = None) -> Tensor:
    """The logits (V) from which the next token is chosen.

    Args:
        passes: the logits (V) of each pass, in the order of `replaced_images`.
        lam: how much of pass 0 is taken off.
        cut: the least share of the largest probability, or None.
    """
    if len(passes) == 1:
        return passes[0]
    noise, *kept = passes
    mean = torch.zeros_like(noise)
    for logits in kept:
        mean = mean + logits / len(kept)
    chosen = mean - lam * noise
    if cut is not None:
        probability = torch.softmax(mean.double(), dim=0)
        chosen[probability < cut * probability.max()] = float("-inf")
    return chosen
