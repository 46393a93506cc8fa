"""What can be seen of a model and its processor by running them on small pictures: whose tokens are whose."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from PIL import Image
from torch import Tensor

SIZES = ((224, 160), (160, 224), (420, 140))
"""(width, height) of the pictures."""


def pictures(count: int, *, seed: int = 0) -> list[Image.Image]:
    """Pictures of noise, RGB, of the `SIZES` in turn.

    Args:
        count: how many.
        seed: of the noise.
    """
    import numpy as np

    draw = np.random.default_rng(seed)
    made = []
    for i in range(count):
        width, height = SIZES[i % len(SIZES)]
        made.append(Image.fromarray(draw.integers(0, 256, (height, width, 3), dtype=np.uint8)))
    return made


def painted(
    picture: Image.Image, box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
) -> Image.Image:
    """A copy with other noise in a part.

    Args:
        picture: RGB.
        box: left, upper, right, lower edge in 0-1; all of it unless given.
    """
    import numpy as np

    left, upper, right, lower = (
        round(edge * side) for edge, side in zip(box, (*picture.size, *picture.size), strict=True)
    )
    shape = (max(1, lower - upper), max(1, right - left), 3)
    noise = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    out = picture.copy()
    out.paste(Image.fromarray(noise), (left, upper))
    return out


class _Reached(Exception):
    """The decoder's first layer was reached; what follows is not needed."""


@contextmanager
def _stop_at(layer: torch.nn.Module) -> Iterator[list[Tensor]]:
    got: list[Tensor] = []

    def hook(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        got.append(hidden.detach().float().cpu().flatten(2))  # some models have several streams
        raise _Reached

    handle = layer.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield got
    finally:
        handle.remove()


@torch.inference_mode()
def first_inputs(model: Any, layer: torch.nn.Module, inputs: Mapping[str, Any]) -> Tensor:
    """float32 (B, N, D) on the CPU: what a decoder's first layer gets for a batch; nothing behind it runs.

    Args:
        model: the model.
        layer: the decoder's first layer.
        inputs: on the model's device.

    Raises:
        LookupError: the layer is not reached.
    """
    with _stop_at(layer) as got:
        try:
            model(**inputs)
        except _Reached:
            return got[0]
    raise LookupError("the model's forward pass does not reach the decoder's first layer")


def changed(before: Tensor, after: Tensor) -> Tensor:
    """bool (B, N): the tokens whose vectors differ by more than rounding.

    Args:
        before: (B, N, D).
        after: (B, N, D).
    """
    scale = before.abs().amax().clamp(min=1e-6)
    return (before - after).abs().amax(dim=-1) > 1e-5 * scale


def strength(before: Tensor, after: Tensor, tokens: Sequence[int]) -> Tensor:
    """float (P,): how far each of some tokens of one row moved.

    Args:
        before: (N, D).
        after: (N, D).
        tokens: P positions.
    """
    index = torch.tensor(list(tokens))
    return torch.as_tensor(torch.linalg.vector_norm(before[index] - after[index], dim=-1))
