"""`mask=none`: the base model."""

from typing import Any

from torch import Tensor

from model_adapters.attention import causal_prefill
from model_adapters.layout import Layout


class NoIntervention:
    """Ordinary causal attention."""

    name = "none"

    def prefill(
        self, query: Tensor, key: Tensor, value: Tensor, layouts: tuple[Layout, ...], *, scale: float
    ) -> Tensor:
        """See `Intervention.prefill`."""
        return causal_prefill(query, key, value, layouts, scale=scale)

    def settings(self) -> dict[str, Any]:
        """None."""
        return {}
