"""Model families: what differs between them, and nothing of interventions."""

from model_adapters.families.registry import FAMILIES, lmms_models, model_names

__all__ = ["FAMILIES", "lmms_models", "model_names"]
