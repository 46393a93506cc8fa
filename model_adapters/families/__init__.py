"""Model families: what differs between them, and nothing of interventions."""

from model_adapters.families.base import Family, PreparedBatch
from model_adapters.families.llava_onevision import LlavaOnevision

__all__ = ["Family", "LlavaOnevision", "PreparedBatch"]
