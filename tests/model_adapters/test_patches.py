"""Qwen2-VL's patches are embedded by a matrix product that is the convolution."""

from pathlib import Path

import pytest
import torch
from transformers import Qwen2VLForConditionalGeneration

from model_adapters.families.qwen2_vl import Qwen2VL
from model_adapters.loading import load_family
from model_adapters.patches import PatchProjection
from model_adapters.tiny import make_tiny_qwen2_vl


def test_patches_are_embedded_as_the_convolution_does(tmp_path: Path) -> None:
    make_tiny_qwen2_vl(tmp_path, seed=0)
    model, _ = load_family(Qwen2VL, str(tmp_path), dtype=torch.float64, device="cpu", peft=None)
    plain = Qwen2VLForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float64)
    ours, theirs = (own.model.visual.patch_embed for own in (model, plain))
    assert isinstance(ours.proj, PatchProjection)
    patches = torch.randn(7, ours.proj.weight[0].numel(), dtype=torch.float64)
    torch.testing.assert_close(ours(patches), theirs(patches), rtol=0, atol=1e-12)
    assert model.state_dict().keys() == plain.state_dict().keys()
    with pytest.raises(ValueError, match="a patch is"):
        ours.proj(torch.zeros(1, 3, 2, 28, 28, dtype=torch.float64))
