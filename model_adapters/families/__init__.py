"""Model families: what differs between them, and nothing of interventions."""

from model_adapters.families.base import Family, PreparedBatch
from model_adapters.families.internvl import Internvl
from model_adapters.families.llava import Llava
from model_adapters.families.llava_onevision import LlavaOnevision
from model_adapters.families.qwen2_vl import Qwen2VL

__all__ = ["Family", "Internvl", "Llava", "LlavaOnevision", "PreparedBatch", "Qwen2VL"]
