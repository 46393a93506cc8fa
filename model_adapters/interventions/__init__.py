"""Changes of the decoder's attention at inference (METHODS 1). An intervention knows nothing of families."""

from model_adapters.interventions.base import Intervention, LayerView, Relevance
from model_adapters.interventions.block import BlockMask
from model_adapters.interventions.none import NoIntervention
from model_adapters.interventions.record import EditRecord, summarize_edits
from model_adapters.interventions.remasking import AttentionRemasking, MaskOnly, UnmaskOnly

__all__ = [
    "AttentionRemasking",
    "BlockMask",
    "EditRecord",
    "Intervention",
    "LayerView",
    "MaskOnly",
    "NoIntervention",
    "Relevance",
    "UnmaskOnly",
    "summarize_edits",
]
