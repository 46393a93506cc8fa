"""The lmms-eval models by name: one class for each family."""

from model_adapters.adapter import MaskedModel
from model_adapters.families import LlavaOnevision


class LlavaOvMask(MaskedModel):
    """`llava_ov_mask`: LLaVA-OneVision with optional block masking."""

    family_class = LlavaOnevision
