"""Qwen3-VL: Qwen2-VL whose tower gives the decoder's first layers feature maps of their own (DeepStack)."""

from typing import Any

from model_adapters.families.qwen2_vl import Qwen2VL


class Qwen3VL(Qwen2VL):
    """Images and tokens are Qwen2-VL's; positions are, but for their order in the heads."""

    model_type = "qwen3_vl"
    name = "Qwen3-VL"
    tiny = "model_adapters.tiny.qwen3_vl:make_tiny_qwen3_vl"
    former_names = ("nested",)

    @staticmethod
    def model_class() -> Any:
        """See `Family.model_class`."""
        from transformers import Qwen3VLForConditionalGeneration

        return Qwen3VLForConditionalGeneration
