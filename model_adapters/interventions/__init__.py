"""Changes of the decoder's attention at inference (METHODS 1). An intervention knows nothing of families."""

from model_adapters.interventions.base import Intervention, LayerView, Relevance
from model_adapters.interventions.block import BlockMask
from model_adapters.interventions.none import NoIntervention

__all__ = ["BlockMask", "Intervention", "LayerView", "NoIntervention", "Relevance"]
