"""The lmms-eval models by name: one class for each family."""

from model_adapters.adapter import MaskedModel
from model_adapters.families import Internvl, Llava, LlavaOnevision, Qwen2VL


class LlavaOvMask(MaskedModel):
    """`llava_ov_mask`: LLaVA-OneVision and LLaVA-Interleave."""

    family_class = LlavaOnevision
    other_families = (Llava,)


class Internvl2Mask(MaskedModel):
    """`internvl2_mask`: InternVL, native or in InternVL2's original layout."""

    family_class = Internvl


class Qwen2VLMask(MaskedModel):
    """`qwen2_vl_mask`: Qwen2-VL."""

    family_class = Qwen2VL
