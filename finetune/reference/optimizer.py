"""Muon for the matrices of hidden layers and AdamW for the rest, as one optimizer."""

from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Muon

MUON_RATE = 2.5
"""Muon's learning rate, as a multiple of AdamW's."""


class MuonAdamW(torch.optim.Optimizer):
    """torch's two optimizers side by side (Jordan et al. 2024; the scale of steps of Liu et al. 2025).

    Args:
        model: whose parameters that need a gradient are learnt.
        learning_rate: of AdamW, at its peak; Muon's is `MUON_RATE` times as large.
        weight_decay: of matrices; vectors have none.
    """

    def __init__(self, model: nn.Module, *, learning_rate: float, weight_decay: float = 0.05) -> None:
        hidden = _hidden_matrices(model)
        chosen = {id(weight) for weight in hidden}
        others = [p for p in model.parameters() if p.requires_grad and id(p) not in chosen]
        self._parts: tuple[torch.optim.Optimizer, ...] = (
            Muon(
                hidden,
                lr=MUON_RATE * learning_rate,
                weight_decay=weight_decay,
                adjust_lr_fn="match_rms_adamw",
            ),
            AdamW(
                [
                    {
                        "params": [parameter for parameter in others if parameter.ndim > 1],
                        "weight_decay": weight_decay,
                    },
                    {
                        "params": [parameter for parameter in others if parameter.ndim <= 1],
                        "weight_decay": 0.0,
                    },
                ],
                lr=learning_rate,
                betas=(0.9, 0.98),
            ),
        )
        super().__init__([group for part in self._parts for group in part.param_groups], {})
        self._join()

    def _join(self) -> None:
        """Share the parts' groups, so that a scheduler reaches them."""
        self.param_groups = [group for part in self._parts for group in part.param_groups]

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step of both."""
        if closure is not None:
            raise ValueError("no closure is called")
        for part in self._parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """Those of both."""
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """What `state_dict` gave."""
        for part, state in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._join()


def _hidden_matrices(model: nn.Module) -> list[torch.Tensor]:
    """The weights of linear maps between hidden states; the output embeddings are none."""
    maps = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not name.endswith("lm_head")
    ]
    return [module.weight for module in maps if module.weight.requires_grad]
