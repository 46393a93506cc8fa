"""RoPE whose frequencies follow the prompt's length (dynamic NTK, longrope), for each row by itself.

transformers goes by the longest row of a batch and, with dynamic NTK, by the longest prompt so far: answers
would depend on the other docs. InternVL2's InternLM2 changes its frequencies beyond 32768 tokens, its Phi3
beyond 4096.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

_FOLLOWING = ("dynamic", "longrope")


def steady_rope(model: nn.Module) -> None:
    """Make the frequencies of each row depend on that row alone; other kinds of RoPE stay as they are.

    Args:
        model: changed in place.
    """
    for module in model.modules():
        if getattr(module, "rope_type", None) in _FOLLOWING:
            module.forward = _row_by_row(module, module.forward)


def _row_by_row(
    module: nn.Module, forward: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    def rows(x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        cosines, sines = [], []
        for row in torch.split(position_ids, 1):
            if module.rope_type == "dynamic":  # forget the rows before
                module.inv_freq = module.original_inv_freq
                module.max_seq_len_cached = module.original_max_seq_len
            cosine, sine = forward(x, row)
            cosines.append(cosine)
            sines.append(sine)
        return torch.cat(cosines), torch.cat(sines)

    return rows
