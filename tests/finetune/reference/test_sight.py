"""Training with visual tokens made once, and a vision tower that is trained further."""

import json
import shutil
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from finetune.reference import train_reference
from finetune.reference.collate import IGNORED, Collator
from finetune.reference.lessons import LessonPlan, Lessons
from finetune.reference.options import ReferenceOptions, shape
from finetune.reference.questions import Questions
from finetune.reference.seeing import MOST, View, counting_loss, deepen, token_edges, token_numbers
from finetune.reference.sight import Sight
from finetune.reference.training import _perceived
from mimic_eval.records import UserError
from mimic_tasks.pool import Pool
from mimic_tasks.source_files import SourceFiles, read_pool
from model_adapters import families
from model_adapters.engine import Engine
from model_adapters.families.base import ImageFeatures
from model_adapters.interventions.none.kernel import NoIntervention
from model_adapters.loading import embedded_checkpoint, load_family, resolve_checkpoint
from model_adapters.relevance.places import grid, joined, nowhere


@pytest.fixture(scope="module")
def pool(scenes: Path) -> Pool:
    return read_pool(SourceFiles((scenes / "annotations/instances_scenes.json",), (scenes / "images",)))


@pytest.fixture(scope="module")
def lessons(pool: Pool) -> Lessons:
    plan = LessonPlan(100, 0, 80, 12, batch=6, common=3, oddone=3, positions=True)
    return Lessons(pool, plan)


@pytest.mark.parametrize("name", ["internvl", "llava_onevision", "qwen2_5_vl", "qwen2_vl"])
def test_a_batch_with_tokens_made_before_is_the_batch_of_the_processor(
    name: str, pool: Pool, lessons: Lessons
) -> None:
    path = str(embedded_checkpoint(name))
    model, family = load_family(families.FAMILIES.get(name), path, dtype="float32", device="cpu", peft=None)
    sight = Sight(model, family, [image.path for image in pool.source.images])
    engine = Engine(NoIntervention(), frozenset())
    sizes = set()
    for number in (0, 5, 60, 61):
        sizes.add(len(lessons[number][0].images))
        usual, made = Collator(family)([lessons[number]]), Collator(family, sight)([lessons[number]])
        layouts, features = made.pop("layouts"), made.pop("features")
        assert usual.pop("layouts") == layouts
        assert usual.keys() - made.keys() == {"pixel_values"}
        for key, value in made.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(usual[key])), key
        made["mm_encoder_outputs"] = {"image": family.encoder_outputs(list(map(ImageFeatures, features)))}
        with torch.no_grad(), engine.running(model, layouts):
            losses = [model(**inputs, use_cache=False).loss for inputs in (usual, made)]
        assert float(losses[0]) == pytest.approx(float(losses[1]), rel=1e-5)
    assert {1, 2} < sizes


def test_tokens_do_not_depend_on_what_was_seen_before(pool: Pool) -> None:
    path = str(embedded_checkpoint("llava_onevision"))
    family_class = families.FAMILIES.get("llava_onevision")
    model, family = load_family(family_class, path, dtype="float32", device="cpu", peft=None)
    pictures = [image.path for image in pool.source.images]
    first, other = Sight(model, family, pictures), Sight(model, family, pictures)
    one, two = pictures[-1], pictures[3]
    want = [first._features(one, alone=False), first._features(two, alone=False)]
    got = [other._features(two, alone=False), other._features(one, alone=False)][::-1]
    assert all(torch.equal(a, b) for a, b in zip(want, got, strict=True))
    assert len(first._features(one, alone=True)) > len(want[0])  # it has tiles


def test_edges_are_those_of_the_smallest_box_over_a_token() -> None:
    places = joined([grid(2, 2), nowhere(1)])
    boxes = torch.tensor([[0.0, 0.0, 1.0, 0.5], [0.5, 0.1, 0.9, 0.4]], dtype=torch.float64)
    edges = token_edges(places, boxes)
    assert edges[0].tolist() == pytest.approx([0.25, 0.25, 0.75, 0.25])
    assert edges[1].tolist() == pytest.approx([0.25, 0.15, 0.15, 0.15])
    assert edges[2:].isnan().all()


def test_expected_objects_are_compared_with_the_true_number() -> None:
    sure = torch.full((3, 3), -20.0)
    labels = torch.tensor([2, 2, IGNORED])
    sure[[0, 1, 2], [2, 2, 1]] = 20.0
    assert float(counting_loss(sure, labels, [3])) == pytest.approx(0)  # a token of no place does not count
    sure[1] = torch.tensor([20.0, -20.0, -20.0])
    assert float(counting_loss(sure, labels, [3])) == pytest.approx(0.75)  # one of two: 1 - beta / 2
    assert float(counting_loss(sure, labels, [1, 2])) == pytest.approx(0.375)


def test_the_number_of_a_class_is_at_each_middle_of_its_objects() -> None:
    labels = torch.tensor([[2, 2], [2, 0], [0, 2], [3, 3], [5, 5], [IGNORED, IGNORED]])
    classes = torch.tensor([2, 2, 2, 3, *[5] * (MOST + 1)])  # the third 2 shares a token with another object
    assert token_numbers(labels, classes).tolist() == [3, IGNORED, 3, 1, IGNORED, IGNORED]
    assert token_numbers(labels[:0], classes[:0]).tolist() == []


def test_new_layers_of_a_vision_tower_pass_their_input_on_and_learn(tmp_path: Path) -> None:
    family_class = families.FAMILIES.get("llava_onevision")
    path = str(embedded_checkpoint("llava_onevision"))
    model, _ = load_family(family_class, path, dtype="float32", device="cpu", peft=None)
    layers = model.config.vision_config.num_hidden_layers
    pixels = torch.randn(2, 3, 72, 72, generator=torch.Generator().manual_seed(0))
    before = model.model.vision_tower(pixels).last_hidden_state
    deepen(model, layers + 2)
    after = model.model.vision_tower(pixels).last_hidden_state
    assert torch.equal(before, after)
    after.sum().backward()
    writes = model.get_submodule(f"model.vision_tower.encoder.layers.{layers + 1}.mlp.fc2").weight
    assert bool(writes.grad.any())
    model.save_pretrained(tmp_path)
    reread = type(model).from_pretrained(tmp_path, dtype="float32")
    assert reread.config.vision_config.num_hidden_layers == layers + 2
    assert torch.equal(reread.model.vision_tower(pixels).last_hidden_state, before)
    deepen(model, layers)  # never fewer
    assert model.config.vision_config.num_hidden_layers == layers + 2


def test_calm_views_are_nearly_an_evaluations() -> None:
    rng = Random(0)
    views = [View.drawn(rng, calm=True) for _ in range(200)]
    assert not any(view.mirrored for view in views)
    assert max(abs(x) for view in views for x in (view.left, view.top, view.side - 1)) <= 0.07


def test_positions_are_asked_and_answered_from_the_boxes(pool: Pool) -> None:
    ask, rng = Questions(pool), Random(3)
    kinds = Counter[str]()
    for start in range(0, 60, 3):
        images = list(range(start, start + 3))
        for turn in ask.positions(images, rng):
            kinds[turn.about[0]] += 1
            has = [turn.about[1] in {box["class"] for box in pool.boxes(i, frozenset())} for i in images]
            if turn.about[0] == "pqa":
                assert turn.answer == ", ".join("yes" if there else "no" for there in has)
            else:
                assert sum(has) == 1
                assert turn.answer == str(has.index(True) + 1)
    assert kinds["pqa"] == 20
    assert kinds["retrieval"] > 5
    assert ask.positions([0], rng) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": 3}, "--layers must be an integer within 4-100, got 3"),
        ({"grid": -1}, "--grid"),
        ({"more_glances": 5}, "--more-glances train the vision tower of --perception further: name it"),
        ({"perception": "embedded:internvl"}, "--perception embedded:internvl is of type 'internvl'"),
    ],
)
def test_mistakes_in_the_new_options_are_said_in_one_line(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        ReferenceOptions(**{"family": "llava_onevision", "out": tmp_path / "x", **changes})


def test_older_recipes_are_those_of_before_and_a_grid_is_tokens_a_side(tmp_path: Path) -> None:
    recipe = ReferenceOptions("llava_onevision", tmp_path / "x").recipe()
    assert not {"grid", "layers", "intermediate", "edges", "perception", "positions"} & recipe.keys()
    assert shape("llava_onevision", 7)["image_size"] == 84
    assert shape("internvl", 6) == {"image_size": 96, "patch_size": 8, "max_tiles": 1}
    assert shape("qwen2_vl", 6)["max_tokens"] == 36
    assert shape("qwen2_vl", 0)["max_tokens"] == 25


def test_a_new_decoder_stands_on_what_a_checkpoint_sees(pool: Pool, tmp_path: Path) -> None:
    options = ReferenceOptions(
        "llava_onevision", tmp_path, perception="embedded:llava_onevision_sinks", intermediate=96, layers=4
    )
    assert "glances" not in options.recipe()
    before, after = weights("embedded:llava_onevision_sinks"), weights(_perceived(options, tmp_path, pool))
    config = json.loads((tmp_path / "seen/config.json").read_text())["text_config"]
    assert (config["num_hidden_layers"], config["intermediate_size"]) == (4, 96)
    assert len(config["layer_types"]) == 4
    assert "planted_sinks" not in config
    same = {name for name, x in after.items() if name in before and torch.equal(x, before[name])}
    below = {name for name in after if "vision_tower" in name or "projector" in name}
    assert below | {"model.language_model.embed_tokens.weight", "model.image_newline"} <= same
    assert not any("language_model.layers" in name and "_proj.weight" in name for name in same)
    assert torch.equal(after["lm_head.weight"], after["model.language_model.embed_tokens.weight"])


def test_a_deeper_vision_tower_keeps_its_layers_below_another_decoder(pool: Pool, tmp_path: Path) -> None:
    tower, start = tmp_path / "tower", "embedded:llava_onevision_sinks"
    shutil.copytree(embedded_checkpoint("llava_onevision_sinks"), tower)
    family_class = families.FAMILIES.get("llava_onevision")
    model, _ = load_family(family_class, str(tower), dtype="float16", device="cpu", peft=None)
    layers = model.config.vision_config.num_hidden_layers
    deepen(model, layers + 1)
    new = f"model.vision_tower.encoder.layers.{layers}.mlp.fc2"
    with torch.no_grad():
        model.get_submodule(new).weight.fill_(0.5)
    model.save_pretrained(tower)
    options = ReferenceOptions("llava_onevision", tmp_path / "x", start=start, perception=str(tower))
    made = weights(_perceived(options, tmp_path / "x", pool))
    assert bool((made[f"{new}.weight"] == 0.5).all())


def test_a_decoder_goes_on_above_another_vision_tower_without_its_sinks(pool: Pool, tmp_path: Path) -> None:
    start, other = "embedded:llava_onevision_sinks", tmp_path / "other"
    shutil.copytree(embedded_checkpoint("llava_onevision_sinks"), other)
    family_class = families.FAMILIES.get("llava_onevision")
    model, _ = load_family(family_class, str(other), dtype="float16", device="cpu", peft=None)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.add_(1 if "projector" in name or "embed_tokens" in name else 0)
    model.save_pretrained(other)
    options = ReferenceOptions("llava_onevision", tmp_path / "x", start=start, perception=str(other))
    before, after = weights(start), weights(_perceived(options, tmp_path / "x", pool))
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    writer = "model.language_model.layers.0.mlp.down_proj.weight"
    assert changed == {writer} | {name for name in before if "projector" in name}
    assert not after[writer][7, 0]
    assert before[writer][7, 0]
    assert "planted_sinks" not in json.loads((tmp_path / "x/seen/config.json").read_text())["text_config"]


def weights(checkpoint: str | Path) -> dict[str, torch.Tensor]:
    """A checkpoint's parameters in single precision."""
    path = resolve_checkpoint(str(checkpoint), default="")
    family_class = families.FAMILIES.get("llava_onevision")
    model, _ = load_family(family_class, path, dtype="float32", device="cpu", peft=None)
    return dict(model.named_parameters())


def test_a_training_on_another_checkpoints_perception_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    options = ReferenceOptions(
        "llava_onevision",
        tmp_path / "x",
        steps=4,
        scenes=100,
        docs=20,
        images=6,
        save_every=2,
        exam_docs=2,
        perception="embedded:llava_onevision",
        more_glances=2,
        edges=True,
        numbers=True,
        vision_layers=5,
        positions=True,
    )
    scores = train_reference(options)
    first = (options.out / "model.safetensors").read_bytes()
    for name in ("README.md", "training.json", "mimic_eval.json", "model.safetensors"):
        (options.out / name).unlink()
    shutil.rmtree(options.out / "training/checkpoint-4")
    assert train_reference(options) == pytest.approx(scores)
    assert (options.out / "model.safetensors").read_bytes() == first
