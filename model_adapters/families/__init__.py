"""Model families: what differs between them, and nothing of interventions."""

from model_adapters.families.registry import FAMILIES, family_of, lmms_models, model_names

__all__ = ["FAMILIES", "family_of", "lmms_models", "model_names"]
