"""Delimiter scaling position by position (METHODS 5): the oracle of `kernel`."""

from collections.abc import Iterable

from torch import Tensor


def scaled_states(hidden: Tensor, positions: Iterable[int], scale: float, *, images: int) -> Tensor:
    """The hidden states (N, D) of a doc after a chosen layer.

    Args:
        hidden: what the layer gave.
        positions: of the delimiters.
        scale: the factor.
        images: of the doc.
    """
    out = hidden.clone()
    if images >= 2:
        for position in positions:
            out[position] = scale * hidden[position]
    return out
