"""The models' entry point for lmms-eval (`lmms_eval.models`)."""

from typing import Any


def manifests() -> list[Any]:
    """One manifest for each model; the classes are imported only when a run asks for one."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return [ModelManifest(model_id="llava_ov_mask", chat_class_path="model_adapters.adapter.LlavaOvMask")]
