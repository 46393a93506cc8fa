"""Checkpoints with sinks written into their weights, for tests and benchmarks (METHODS 6).

No tiny or random checkpoint has massive activations. Here one gets them as a trained model has them: an MLP
writes a large value into a few dimensions of the residual stream of some tokens, and it stays there.
"""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from mimic_eval.records import UserError
from model_adapters.engine import decoder_layers
from model_adapters.families import FAMILIES
from model_adapters.families.base import Family
from model_adapters.sinks.inputs import visit_inputs
from model_adapters.sinks.score import visual_tokens

_SHARPNESS = 30.0
_CONSTANT = 4.0
_WIDTH = 512
"""Of a planted checkpoint: the ratio score is at most sqrt(width), and 20 is its default threshold."""


@dataclass(frozen=True)
class PlantedSinks:
    """What was planted.

    Attributes:
        dimensions: with massive activations.
        layer: the first whose input has them.
        magnitude: the middle one over the probe's sinks, in the input of `layer`.
        share: of the probe's visual tokens that have them.
    """

    dimensions: tuple[int, ...]
    layer: int
    magnitude: float
    share: float


@torch.no_grad()
def plant_sinks(
    model: Any,
    family: Family,
    *,
    dimensions: Sequence[int] = (7,),
    layer: int = 1,
    share: float = 0.1,
    times_median: float = 2000.0,
    pictures: Sequence[Image.Image] | None = None,
    seed: int = 0,
) -> PlantedSinks:
    """Write massive activations into the weights of the layer before `layer`, in place.

    Three steps. (1) One channel of the values is made the constant 1 by the bias, which attention leaves as
    it is whatever its weights, and is written into a dimension c. (2) Pictures run through the model, to see
    x where the MLP reads it. (3) A unit of the SwiGLU MLP is given
    gate = K (x[s] - theta x[c]) / rms and up = x[c] / rms; the gate closes below theta, so that only tokens
    with a high x[s] get the activation, and it rises steeply above. s is the dimension that varies most.

    Args:
        model: a decoder with SwiGLU MLPs and a bias on its values (Qwen2), loaded with
            `engine.IMPLEMENTATION`.
        family: the model's.
        dimensions: which get the activation, all with the same value; K of them hold a token's ratio score
            to at most sqrt(D / K).
        layer: the first layer whose input has it, at least 1.
        share: of the probe's visual tokens that get it, above 0 and below 1.
        times_median: the activation over the median magnitude of x.
        pictures: the probe's, of the kind that the model will see, or None for `probe_pictures`.
        seed: of the probe's pictures.

    Raises:
        ValueError: an argument out of range.
        UserError: a decoder of another kind.
    """
    layers = decoder_layers(model)
    width = int(model.config.get_text_config().hidden_size)
    wanted = tuple(sorted(set(dimensions)))
    if not 1 <= layer < len(layers):
        raise ValueError(f"`layer` must be within 1-{len(layers) - 1}, got {layer}")
    if not wanted or not 0 <= wanted[0] <= wanted[-1] < width:
        raise ValueError(f"`dimensions` must be within 0-{width - 1}, got {list(dimensions)}")
    if not 0 < share < 1:
        raise ValueError(f"`share` must be above 0 and below 1, got {share}")
    block: Any = layers[layer - 1]
    if getattr(block.self_attn.v_proj, "bias", None) is None or not hasattr(block.mlp, "gate_proj"):
        raise UserError(f"{family.name}: sinks need a decoder with SwiGLU MLPs and a bias on its values")
    free = [d for d in range(width) if d not in wanted]
    constant = free[0]
    shown_pictures = list(pictures or probe_pictures(seed))
    before, _ = _probe(model, family, block, shown_pictures)
    attention = block.self_attn
    attention.v_proj.weight[0] = 0
    attention.v_proj.bias[0] = 1
    attention.o_proj.weight[constant] = 0
    attention.o_proj.weight[constant, 0] = _CONSTANT * float(before.square().mean().sqrt()) + float(
        before[:, constant].abs().max()
    )
    states, visual = _probe(model, family, block, shown_pictures)
    visual_states = states[visual]
    choices = [d for d in free if d != constant]
    chosen = choices[int(visual_states[:, choices].std(dim=0).argmax())]
    theta = float((visual_states[:, chosen] / visual_states[:, constant]).quantile(1 - share))
    rms = visual_states.square().mean(dim=-1).sqrt()
    excess = (visual_states[:, chosen] - theta * visual_states[:, constant]) / rms
    steep = _SHARPNESS / float(excess.std())
    fired = excess > 0
    unit = steep * excess[fired] * (visual_states[:, constant] / rms)[fired]
    magnitude = times_median * float(states.abs().median())
    scale = block.post_attention_layernorm.weight
    mlp = block.mlp
    for projection in (mlp.gate_proj, mlp.up_proj):
        projection.weight[0] = 0
    mlp.gate_proj.weight[0, chosen] = steep / scale[chosen]
    mlp.gate_proj.weight[0, constant] = -steep * theta / scale[constant]
    mlp.up_proj.weight[0, constant] = 1 / scale[constant]
    mlp.down_proj.weight[:, 0] = 0
    mlp.down_proj.weight[list(wanted), 0] = magnitude / float(unit.median())
    return PlantedSinks(wanted, layer, magnitude, float(fired.float().mean()))


def probe_pictures(seed: int, *, count: int = 4, size: int = 64) -> list[Image.Image]:
    """Smooth pictures of random colours, so that tokens of a picture differ."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, 256, (count, 8, 8, 3), dtype=torch.uint8, generator=rng).numpy()
    return [Image.fromarray(one).resize((size, size), Image.Resampling.BICUBIC) for one in coarse]


def _probe(model: Any, family: Family, block: Any, pictures: list[Image.Image]) -> tuple[Tensor, Tensor]:
    """What the MLP of a layer reads before its norm, float32 (N, D), and which rows are visual, bool (N,)."""
    content = [{"type": "image"} for _ in pictures] + [{"type": "text", "text": "How many in the images?"}]
    batch = family.prepare([pictures], [family.prompt([{"role": "user", "content": content}])])
    seen: list[Tensor] = []
    handle = block.post_attention_layernorm.register_forward_pre_hook(
        lambda module, args: seen.append(args[0][0].float().clone())
    )
    try:
        visit_inputs(model, family, batch, lambda layer, hidden: None)
    finally:
        handle.remove()
    return seen[0], visual_tokens(batch.layouts, device=model.device)[0]


def make_planted_checkpoint(
    family_name: str,
    out: Path,
    *,
    dimensions: Sequence[int] = (7,),
    layer: int = 1,
    share: float = 0.1,
    times_median: float = 2000.0,
    pictures: Sequence[Image.Image] | None = None,
    hidden: int = _WIDTH,
    layers: int = 4,
    seed: int = 0,
) -> PlantedSinks:
    """Write a tiny random checkpoint with sinks, in bfloat16: float16 cannot hold massive activations.

    Args:
        family_name: of `FAMILIES`.
        out: the folder; it must be new or empty.
        dimensions: as in `plant_sinks`,
        layer: as in `plant_sinks`,
        share: as in `plant_sinks`,
        times_median: as in `plant_sinks`,
        pictures: as in `plant_sinks`.
        hidden: width of both towers, a multiple of 32; below 401 no token exceeds a ratio of 20.
        layers: of the decoder.
        seed: of the weights and of the probe.

    Raises:
        UserError: an unknown family, or a folder that is not empty.
    """
    from model_adapters.loading import load_family

    family_class = FAMILIES.get(family_name)
    family_class.make_tiny(out, seed=seed, hidden=hidden, layers=layers)
    model, family = load_family(family_class, str(out), dtype=torch.float32, device="cpu", peft=None)
    planted = plant_sinks(
        model,
        family,
        dimensions=dimensions,
        layer=layer,
        share=share,
        times_median=times_median,
        pictures=pictures,
        seed=seed,
    )
    with tempfile.TemporaryDirectory(dir=out) as fresh:  # the open file is not written over
        model.bfloat16().save_pretrained(fresh)
        for file in Path(fresh).iterdir():
            shutil.move(file, out / file.name)
    return planted
