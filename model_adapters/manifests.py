"""The models' entry point for lmms-eval (`lmms_eval.models`)."""

from typing import Any

from model_adapters.families import lmms_models


def manifests() -> list[Any]:
    """One manifest for each model; the classes are made only when a run asks for one."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return [
        ModelManifest(model_id=name, chat_class_path=f"model_adapters.models.{name}")
        for name in lmms_models()
    ]
