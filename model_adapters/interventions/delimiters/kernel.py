"""Delimiter scaling: in the prompt, hidden states of delimiters are multiplied (METHODS 5)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from model_adapters.interventions.base import LayerView
from model_adapters.interventions.none.kernel import NoIntervention
from model_adapters.interventions.options import DELIMITERS


class DelimiterScaling(NoIntervention):
    """After each changed layer the delimiters' hidden states of the prompt are multiplied by `scale`.

    Docs of fewer than two images are left as they are. The factors of several layers add up in the residual
    stream: what one layer scaled goes through the next and is scaled again.

    Args:
        scale: the factor; 1 is `mask=none` bit for bit.
    """

    name = "delimiters"
    needs = frozenset({DELIMITERS})
    recorded = True

    def __init__(self, *, scale: float = 8.0) -> None:
        self.scale = scale

    def settings(self) -> dict[str, Any]:
        """`scale`."""
        return {"scale": self.scale}

    def describe(self, counts: Mapping[str, Any]) -> list[str]:
        """See `Intervention.describe`."""
        return [
            f"mask=delimiters multiplied {counts['edited_rows']:,} hidden states of delimiters (of a token "
            f"and layer) by {self.scale:g}"
        ]

    def after_layer(self, hidden: Tensor, view: LayerView) -> Tensor:
        """See `Intervention.after_layer`.

        Raises:
            ValueError: the view has no delimiters.
        """
        if view.delimiters is None:
            raise ValueError("mask=delimiters needs `LayerView.delimiters`, got None")
        several = torch.tensor([len(layout.images) > 1 and self.scale != 1 for layout in view.layouts])
        scaled = view.delimiters.to(hidden.device) & several.to(hidden.device)[:, None]
        if view.record is not None:
            view.record.count("edited_rows", scaled.sum(dim=1))
        return torch.where(scaled[:, :, None], hidden * self.scale, hidden)
