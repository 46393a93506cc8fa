"""Qwen2.5-VL: Qwen2-VL with another vision tower."""

from typing import Any

from model_adapters.families.qwen2_vl import Qwen2VL


class Qwen2p5VL(Qwen2VL):
    """Images, tokens and positions are Qwen2-VL's."""

    model_type = "qwen2_5_vl"
    name = "Qwen2.5-VL"
    tiny = "model_adapters.tiny.qwen2_5_vl:make_tiny_qwen2_5_vl"

    @staticmethod
    def model_class() -> Any:
        """See `Family.model_class`."""
        from transformers import Qwen2_5_VLForConditionalGeneration

        return Qwen2_5_VLForConditionalGeneration
