"""A training with planted sinks: where they are planted, and that it leaves what writes them as it is."""

import json
import math
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from finetune.reference.background import DIMENSION, SIZES, plant_in_background
from finetune.reference.collate import prompt
from finetune.reference.options import ReferenceOptions
from finetune.reference.seeing import NOTHING, Glances, token_labels
from finetune.reference.training import SINK_LAYER, _continued, _keep_sight
from mimic_tasks.images import decode_strict
from mimic_tasks.pool import Pool
from mimic_tasks.source_files import SourceFiles, read_pool
from model_adapters import families
from model_adapters.engine import decoder_layers
from model_adapters.families.base import PreparedBatch
from model_adapters.loading import embedded_checkpoint, load_family
from model_adapters.sinks.inputs import visit_inputs
from model_adapters.sinks.planted import PlantedSinks
from model_adapters.sinks.score import ratio_score, visual_tokens

SHARE = 0.07


@pytest.fixture(scope="module")
def pool(scenes: Path) -> Pool:
    return read_pool(SourceFiles((scenes / "annotations/instances_scenes.json",), (scenes / "images",)))


def batches_of(
    family: Any, pool: Pool, *, sizes: Sequence[int], seed: int
) -> Iterator[tuple[PreparedBatch, torch.Tensor]]:
    """Prompts of some scenes, and the labels of their visual tokens."""
    glances = iter(Glances(pool, steps=1, images=sum(sizes), seed=seed)[0])
    for size in sizes:
        row = [next(glances) for _ in range(size)]
        pictures = [decode_strict(glance.path.read_bytes()) for glance in row]
        batch = family.prepare([pictures], [prompt(family, "How many?", size)])
        (places,) = family.places(batch.inputs, [pictures])
        pairs = zip(places, row, strict=True)
        yield batch, torch.cat([token_labels(place, own.boxes, own.classes) for place, own in pairs])


@pytest.fixture(scope="module")
def planted(pool: Pool) -> tuple[Any, Any, PlantedSinks]:
    """A trained LLaVA-OneVision that never had sinks, with sinks."""
    path = str(embedded_checkpoint("llava_onevision_block"))
    family_class = families.FAMILIES.get("llava_onevision")
    model, family = load_family(family_class, path, dtype="float32", device="cpu", peft=None)
    return model, family, plant_in_background(model, family, pool, share=SHARE, layer=SINK_LAYER, seed=3)


def test_sinks_are_tokens_of_the_background_and_never_text(
    planted: tuple[Any, Any, PlantedSinks], pool: Pool
) -> None:
    model, family, sinks = planted
    assert sinks.dimensions == (DIMENSION,)
    assert sinks.share == pytest.approx(SHARE, abs=0.01)
    shares, shown = [], []
    for batch, labels in batches_of(family, pool, sizes=SIZES, seed=4):
        visual = visual_tokens(batch.layouts)[0]
        found: list[torch.Tensor] = []
        visit_inputs(
            model,
            family,
            batch,
            lambda layer, hidden, found=found: found.append(ratio_score(hidden[0], [DIMENSION]) > 8),
        )
        assert not found[SINK_LAYER - 1].any()
        for flagged in found[SINK_LAYER:]:
            assert not flagged[~visual].any()
            shown.append(labels[flagged[visual]])
        shares.append(float(found[SINK_LAYER][visual].float().mean()))
    assert (torch.cat(shown) == NOTHING).all(dim=1).float().mean() > 0.95
    assert 0.02 < sum(shares) / len(shares) < 0.2, shares


@torch.no_grad()
def test_heads_attend_to_sinks_and_take_little_from_them(
    planted: tuple[Any, Any, PlantedSinks], pool: Pool
) -> None:
    """Log odds of the sinks in the rows of the planting's pictures, from logits written out.

    0.3 is the target. Sinks just above the threshold have a small or negative activation and get less.
    """
    from transformers.models.qwen2.modeling_qwen2 import apply_rotary_pos_emb

    model, family, _ = planted
    all_odds: list[float] = []
    reached = set[int]()
    batches = [batch for batch, _ in batches_of(family, pool, sizes=SIZES, seed=3)]
    for (layer, block), batch in product(enumerate(decoder_layers(model)), batches):
        attention: Any = block.self_attn
        seen: list[Any] = []
        handle = attention.register_forward_pre_hook(
            lambda module, args, kwargs, seen=seen: seen.append(kwargs), with_kwargs=True
        )
        visit_inputs(model, family, batch, lambda layer, hidden: None)
        handle.remove()
        normed = seen[0]["hidden_states"]
        sinks = normed[0, :, DIMENSION].abs() > 0.7 * normed[0].norm(dim=-1)
        if layer < SINK_LAYER:
            assert not sinks.any()
        if sinks.sum() < 3:
            continue
        reached.add(layer)
        heads, size = model.config.text_config.num_attention_heads, attention.head_dim
        query = attention.q_proj(normed).view(1, -1, heads, size).transpose(1, 2)
        key = (
            attention.k_proj(normed)
            .view(1, -1, heads // attention.num_key_value_groups, size)
            .transpose(1, 2)
        )
        query, key = apply_rotary_pos_emb(query, key, *seen[0]["position_embeddings"])
        rows = (sinks.cumsum(dim=0) >= 2) & ~sinks
        later = torch.ones(len(sinks), len(sinks), dtype=torch.bool).triu(1)
        for head in range(heads):
            logits = query[0, head] @ key[0, head // attention.num_key_value_groups].T / size**0.5
            weights = logits.masked_fill(later, -torch.inf).softmax(dim=-1)[rows]
            odds = weights[:, sinks].sum(dim=-1) / weights[:, ~sinks].sum(dim=-1)
            all_odds.append(float(odds.log().mean()))
        values = attention.v_proj(normed)[0].norm(dim=-1)
        assert values[sinks].mean() < values[~sinks].mean()
    assert reached == set(range(SINK_LAYER, len(decoder_layers(model))))
    mean = sum(all_odds) / len(all_odds)
    assert math.log(0.1 / 0.9) < mean <= math.log(0.3 / 0.7) + 0.1, all_odds


def test_training_leaves_what_writes_sinks_as_it_is(planted: tuple[Any, Any, PlantedSinks]) -> None:
    model = planted[0]
    _keep_sight(model, layers=SINK_LAYER)
    learnt = {name for name, weight in model.named_parameters() if weight.requires_grad}
    fixed = {name for name, _ in model.named_parameters()} - learnt
    assert any("lm_head" in name for name in learnt)
    assert any("layers.1.self_attn" in name and "language_model" in name for name in learnt)
    assert all("language_model" in name or "lm_head" in name for name in learnt)
    assert {"language_model.layers.0.mlp.gate_proj.weight", "language_model.embed_tokens.weight"} <= {
        name.removeprefix("model.") for name in fixed
    }


def test_a_continued_training_starts_from_the_checkpoint_with_sinks_and_without_its_card(
    pool: Pool, tmp_path: Path
) -> None:
    start = "embedded:llava_onevision"
    options = ReferenceOptions("llava_onevision", tmp_path, start=start, sinks=SHARE)
    assert "glances" not in options.recipe()
    seen = _continued(options, tmp_path / "training", pool)
    assert not {"README.md", "training.json", "loss.svg"} & {file.name for file in seen.iterdir()}
    config = json.loads((seen / "config.json").read_text())
    assert config["text_config"]["planted_sinks"] == {"dimension": DIMENSION, "layer": SINK_LAYER}
    models = {}
    for name, path in (("before", embedded_checkpoint("llava_onevision")), ("after", seen)):
        family_class = families.FAMILIES.get("llava_onevision")
        models[name], _ = load_family(family_class, str(path), dtype="float32", device="cpu", peft=None)
    before, after = (dict(models[name].named_parameters()) for name in ("before", "after"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all("language_model.layers" in name for name in changed)
