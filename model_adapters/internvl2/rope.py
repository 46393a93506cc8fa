"""RoPE whose frequencies follow the prompt's length (dynamic NTK, longrope), for each row by itself.

transformers goes by the longest row of a batch and, with dynamic NTK, by the longest prompt so far: answers
would depend on the other docs. InternVL2's InternLM2 changes its frequencies beyond 32768 tokens, its Phi3
beyond 4096.
"""

from typing import Any

import torch
from torch import Tensor, nn

_FOLLOWING = ("dynamic", "longrope")


def steady_rope(model: nn.Module) -> None:
    """Make the frequencies of each row depend on that row alone, by hooks; other kinds of RoPE have none.

    Args:
        model: changed in place.
    """
    for module in model.modules():
        if getattr(module, "rope_type", None) in _FOLLOWING:
            module.register_forward_pre_hook(_forget)
            module.register_forward_hook(_row_by_row, with_kwargs=True)


def _forget(module: Any, args: tuple[Any, ...]) -> None:
    """Forget the longest prompt so far."""
    if module.rope_type == "dynamic":
        module.inv_freq = module.original_inv_freq
        module.max_seq_len_cached = module.original_max_seq_len


def _row_by_row(
    module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """The cosines and sines (B, N, D) of a batch, each row's as if it were alone."""
    x, *rest = args
    positions = rest[0] if rest else kwargs["position_ids"]
    if len(positions) == 1:
        return output
    tables = []
    for row in torch.split(positions, 1):
        _forget(module, args)
        tables.append(module.forward(x, row))
    cosines, sines = zip(*tables, strict=True)
    return torch.cat(cosines), torch.cat(sines)
