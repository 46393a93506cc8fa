"""The models' entry point for lmms-eval (`lmms_eval.models`)."""

from typing import Any

OUR_MODELS = {
    "internvl2_mask": "model_adapters.models.Internvl2Mask",
    "llava_ov_mask": "model_adapters.models.LlavaOvMask",
    "qwen2_vl_mask": "model_adapters.models.Qwen2VLMask",
}
"""Model names for ``--model``, and the class of each."""


def manifests() -> list[Any]:
    """One manifest for each model; the classes are imported only when a run asks for one."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return [ModelManifest(model_id=name, chat_class_path=path) for name, path in OUR_MODELS.items()]
