"""What transformers does otherwise than we need: Qwen2-VL's patch embedding, a package for SmolVLM2's videos.

Qwen2-VL's patch embedding is a matrix product, and torch's convolution is slower at it.
"""

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import linear


class PatchProjection(nn.Module):
    """A convolution whose inputs are single patches of its kernel's size: one inner product a channel.

    The parameters are the convolution's own, in their shapes and under their names, so that checkpoints are
    loaded and written as before. Equal but for the order of summation.

    Args:
        convolution: with a kernel as large as its stride, no padding, no dilation, one group.
    """

    def __init__(self, convolution: nn.Conv3d) -> None:
        super().__init__()
        self.weight = convolution.weight
        self.bias = convolution.bias
        self._patch = tuple(convolution.kernel_size)

    def forward(self, patches: Tensor) -> Tensor:
        """(P, channels, *kernel) to (P, D, 1, 1, 1)."""
        if tuple(patches.shape[2:]) != self._patch:
            raise ValueError(f"a patch is {self._patch}, got {tuple(patches.shape[2:])}")
        return linear(patches.flatten(1), self.weight.flatten(1), self.bias)[..., None, None, None]


def project_patches(model: Any) -> None:
    """Put `PatchProjection` where Qwen2-VL embeds patches; other models have no such place.

    A convolution that accelerate moves inputs to (`device_map`) stays.

    Args:
        model: changed in place.
    """
    for name, module in list(model.named_modules()):
        if (
            name.endswith("patch_embed.proj")
            and type(module) is nn.Conv3d
            and not hasattr(module, "_hf_hook")
        ):
            model.set_submodule(name, PatchProjection(module))


def allow_smolvlm() -> None:
    """Let transformers make SmolVLM2's processor without num2words, which it needs for videos only."""
    from transformers.models.smolvlm import processing_smolvlm

    if processing_smolvlm.num2words is None:
        processing_smolvlm.num2words = _no_videos


def _no_videos(number: int) -> str:
    raise NotImplementedError("videos need the package num2words")
