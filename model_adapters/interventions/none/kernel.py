"""`mask=none`: the base model."""

from torch import Tensor

from model_adapters.base_mask import ordinary_prefill
from model_adapters.interventions.base import Intervention, LayerView


class NoIntervention(Intervention):
    """The base model's attention."""

    name = "none"

    def prefill(self, query: Tensor, key: Tensor, value: Tensor, view: LayerView, *, scale: float) -> Tensor:
        """See `Intervention.prefill`."""
        return ordinary_prefill(query, key, value, view.layouts, view.base, scale=scale)
