"""`mask=none`: the base model."""

from torch import Tensor

from model_adapters.attention import causal_prefill
from model_adapters.interventions.base import Intervention, LayerView


class NoIntervention(Intervention):
    """Ordinary causal attention."""

    name = "none"

    def prefill(self, query: Tensor, key: Tensor, value: Tensor, view: LayerView, *, scale: float) -> Tensor:
        """See `Intervention.prefill`."""
        return causal_prefill(query, key, value, view.layouts, scale=scale)
