"""Checkpoints with sinks written into their weights, for tests and benchmarks (METHODS 6).

No tiny or random checkpoint has massive activations. Here one gets them as a trained model has them: an MLP
writes a large value into a few dimensions of the residual stream of some tokens, and it stays there.
"""

import math
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from mimic_eval.records import UserError
from model_adapters.engine import decoder_layers
from model_adapters.families import FAMILIES
from model_adapters.families.base import Family, PreparedBatch
from model_adapters.sinks.inputs import visit_inputs
from model_adapters.sinks.score import visual_tokens

_SHARPNESS = 15.0
"""The gate at the middle one of the tokens above theta."""
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
    sizes: Sequence[int] = (),
    among: Tensor | None = None,
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
        sizes: pictures of each prompt of the probe, or () for one prompt: how many tokens get the activation
            depends on what comes before them.
        among: bool (visual tokens of the probe,), the tokens that the sinks are to be among, or None.
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
    batches = _probe_batches(family, pictures or probe_pictures(seed), sizes)
    before, _ = _probe(model, family, block, batches)
    attention = block.self_attn
    attention.v_proj.weight[0] = 0
    attention.v_proj.bias[0] = 1
    attention.o_proj.weight[constant] = 0
    attention.o_proj.weight[constant, 0] = _CONSTANT * float(before.square().mean().sqrt()) + float(
        before[:, constant].abs().max()
    )
    states, visual = _probe(model, family, block, batches)
    visual_states = states[visual]
    choices = [d for d in free if d != constant]
    direction = torch.zeros(width)
    if among is None:
        direction[choices[int(visual_states[:, choices].std(dim=0).argmax())]] = 1
    else:
        direction[choices] = _discriminant(states[:, choices], visual, among)
    along = visual_states @ direction
    theta = float((along / visual_states[:, constant]).quantile(1 - share))
    rms = visual_states.square().mean(dim=-1).sqrt()
    excess = (along - theta * visual_states[:, constant]) / rms
    fired = excess > 0
    steep = _SHARPNESS / float(excess[fired].median())
    unit = steep * excess[fired] * (visual_states[:, constant] / rms)[fired]
    magnitude = times_median * float(states.abs().median())
    scale = block.post_attention_layernorm.weight
    mlp = block.mlp
    for projection in (mlp.gate_proj, mlp.up_proj):
        projection.weight[0] = 0
    mlp.gate_proj.weight[0] = steep * (direction / scale)
    mlp.gate_proj.weight[0, constant] = -steep * theta / scale[constant]
    mlp.up_proj.weight[0, constant] = 1 / scale[constant]
    mlp.down_proj.weight[:, 0] = 0
    mlp.down_proj.weight[list(wanted), 0] = magnitude / float(unit.median())
    return PlantedSinks(wanted, layer, magnitude, float(fired.float().mean()))


@torch.no_grad()
def draw_attention(
    model: Any,
    family: Family,
    planted: PlantedSinks,
    *,
    share: float = 0.3,
    pictures: Sequence[Image.Image] | None = None,
    sizes: Sequence[int] = (),
    seed: int = 0,
) -> None:
    """Let the layers from `planted.layer` on attend to planted sinks, whose values become small, in place.

    In each head, the channel that RoPE rotates least becomes one of sinks: their keys are large there through
    the massive activation, and every query has the same value, which a bias gives. It is chosen such that
    sinks get the odds `share` / (1 - `share`) in the probe's (geometric) mean row if their activations are
    alike, and less if some are small or negative.

    Args:
        model: as `plant_sinks` left it; RoPE in halves (Qwen2).
        family: the model's.
        planted: what `plant_sinks` returned.
        share: of attention that the sinks get, above 0 and below 1.
        pictures: the probe's, as in `plant_sinks`.
        sizes: as in `plant_sinks`.
        seed: of the probe's pictures.

    Raises:
        ValueError: a share out of range.
    """
    if not 0 < share < 1:
        raise ValueError(f"`share` must be above 0 and below 1, got {share}")
    dimensions = list(planted.dimensions)
    batches = _probe_batches(family, pictures or probe_pictures(seed), sizes)
    for layer, block in enumerate(decoder_layers(model)):
        if layer < planted.layer:
            continue
        attention: Any = block.self_attn
        size = attention.head_dim
        keys, queries = attention.k_proj, attention.q_proj
        rows = torch.arange(size // 2 - 1, keys.weight.shape[0], size)
        per_query = torch.arange(size // 2 - 1, queries.weight.shape[0], size)
        for projection, chosen in ((keys, rows), (queries, per_query)):
            projection.weight[chosen] = 0
            projection.bias[chosen] = 0
        attention.v_proj.weight[:, dimensions] = 0
        heights, masses = [], []
        for batch in batches:
            normed, positions = _attention_input(model, family, batch, block)
            sinks = normed[0][:, dimensions].norm(dim=-1) > 0.7 * normed[0].norm(dim=-1)
            heights.append(normed[0][sinks][:, dimensions[0]])
            masses.append(_other_mass(attention, normed, positions, sinks))
        rest, counts = (torch.cat(parts) for parts in zip(*masses, strict=True))
        height = torch.cat(heights).median()
        keys.weight[rows, dimensions[0]] = size**0.5 / height
        queries.bias[per_query] = (rest - counts.log()[:, None]).mean(dim=0) + math.log(share / (1 - share))


def _attention_input(model: Any, family: Family, batch: PreparedBatch, block: Any) -> tuple[Tensor, Any]:
    """What a layer's attention reads, (1, N, D), and its cosines and sines."""
    seen: list[tuple[Tensor, Any]] = []
    handle = block.self_attn.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(
            (kwargs["hidden_states"].clone(), kwargs["position_embeddings"])
        ),
        with_kwargs=True,
    )
    try:
        visit_inputs(model, family, batch, lambda layer, hidden: None)
    finally:
        handle.remove()
    return seen[0]


def _other_mass(attention: Any, normed: Tensor, positions: Any, sinks: Tensor) -> tuple[Tensor, Tensor]:
    """Of the rows behind two sinks or more: log sum exp of all other logits (R, H), and their sinks (R,)."""
    from transformers.models.qwen2.modeling_qwen2 import apply_rotary_pos_emb, repeat_kv

    shape = (*normed.shape[:2], -1, attention.head_dim)
    query, key = (map_(normed).view(shape).transpose(1, 2) for map_ in (attention.q_proj, attention.k_proj))
    query, key = apply_rotary_pos_emb(query, key, *positions)
    logits = (query @ repeat_kv(key, attention.num_key_value_groups).mT)[0] * attention.scaling
    hidden = torch.ones(logits.shape[1:], dtype=torch.bool).triu(1) | sinks
    before = sinks.cumsum(dim=0)
    rows = (before >= 2) & ~sinks
    return logits.masked_fill(hidden, -torch.inf).logsumexp(dim=-1).T[rows], before[rows].float()


def _discriminant(states: Tensor, visual: Tensor, among: Tensor) -> Tensor:
    """The unit vector (D,) that tells some visual tokens from all other rows of `states` (N, D)."""
    chosen = torch.zeros(len(states), dtype=torch.bool)
    chosen[visual.nonzero().squeeze(1)[among]] = True
    groups = [states[chosen], states[~chosen]]
    within = (torch.cov(groups[0].T) + torch.cov(groups[1].T)) / 2
    within += 0.05 * within.diagonal().mean() * torch.eye(states.shape[1])
    direction = torch.linalg.solve(within, groups[0].mean(dim=0) - groups[1].mean(dim=0))
    return torch.nn.functional.normalize(direction, dim=0)


def probe_pictures(seed: int, *, count: int = 4, size: int = 64) -> list[Image.Image]:
    """Smooth pictures of random colours, so that tokens of a picture differ."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, 256, (count, 8, 8, 3), dtype=torch.uint8, generator=rng).numpy()
    return [Image.fromarray(one).resize((size, size), Image.Resampling.BICUBIC) for one in coarse]


def _probe_batches(
    family: Family, pictures: Sequence[Image.Image], sizes: Sequence[int]
) -> list[PreparedBatch]:
    batches, rest = [], iter(pictures)
    for size in sizes or (len(pictures),):
        shown = list(islice(rest, size))
        content = [{"type": "image"} for _ in shown] + [{"type": "text", "text": "How many in the images?"}]
        batches.append(family.prepare([shown], [family.prompt([{"role": "user", "content": content}])]))
    return batches


def _probe(model: Any, family: Family, block: Any, batches: list[PreparedBatch]) -> tuple[Tensor, Tensor]:
    """What the MLP of a layer reads before its norm, float32 (N, D), and which rows are visual, bool (N,)."""
    seen: list[Tensor] = []
    handle = block.post_attention_layernorm.register_forward_pre_hook(
        lambda module, args: seen.append(args[0][0].float().clone())
    )
    try:
        for batch in batches:
            visit_inputs(model, family, batch, lambda layer, hidden: None)
    finally:
        handle.remove()
    visual = [visual_tokens(batch.layouts, device=model.device)[0] for batch in batches]
    return torch.cat(seen), torch.cat(visual)


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
