"""What the decoder learns besides its answers, and how much each answer weighs."""

import functools
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from finetune.reference import train_reference
from finetune.reference.collate import IGNORED, Collator
from finetune.reference.lessons import MAX_IMAGES, LessonPlan, Lessons
from finetune.reference.options import ReferenceOptions
from finetune.reference.seeing import NOTHING
from finetune.reference.sight import Sight
from finetune.reference.tallies import Tallies, tallies, tallies_loss
from finetune.reference.trainer import MaskedTrainer
from mimic_tasks.pool import Pool
from mimic_tasks.source_files import SourceFiles, read_pool
from model_adapters import families
from model_adapters.engine import Engine
from model_adapters.families.base import ImageFeatures
from model_adapters.interventions.none.kernel import NoIntervention
from model_adapters.loading import embedded_checkpoint, load_family


@pytest.fixture(scope="module")
def pool(scenes: Path) -> Pool:
    return read_pool(SourceFiles((scenes / "annotations/instances_scenes.json",), (scenes / "images",)))


def test_a_class_is_tallied_once_an_image() -> None:
    images = [[3, 3, NOTHING, 7], [7, IGNORED, 3], [5, 3]]
    made = tallies([torch.tensor(image) for image in images])
    assert [tally.tolist() for tally in made] == [[1, 1, IGNORED, 1], [2, IGNORED, 2], [1, 3]]


@pytest.mark.parametrize("name", ["internvl", "llava_onevision", "qwen2_5_vl", "qwen2_vl"])
def test_a_batchs_tallies_are_what_the_boxes_say(name: str, pool: Pool, scenes: Path) -> None:
    path = str(embedded_checkpoint(name))
    model, family = load_family(families.FAMILIES.get(name), path, dtype="float32", device="cpu", peft=None)
    sight = Sight(model, family, [image.path for image in pool.source.images])
    lessons = Lessons(pool, LessonPlan(60, 0, 80, 12, batch=6, describe=0.5))
    data = json.loads((scenes / "annotations/instances_scenes.json").read_text())
    files = {image["id"]: image["file_name"] for image in data["images"]}
    shown: dict[str, set[int]] = {file: set() for file in files.values()}
    for entry in data["annotations"]:
        shown[files[entry["image_id"]]].add(entry["category_id"])
    sizes = set()
    for number in range(8):
        batch = Collator(family, sight, Tallies(pool, sight))([lessons[number]])
        features = iter(batch["features"])
        for row, layout, one in zip(batch["tallies"], batch["layouts"], lessons[number], strict=True):
            sizes.add(len(one.images))
            inside = torch.zeros(layout.length, dtype=torch.bool)
            so_far = Counter[int]()
            for image, picture in zip(layout.images, one.images, strict=True):
                tokens = row[image.indices()]
                assert len(tokens) == len(next(features))
                inside[image.indices()] = True
                so_far.update(shown[picture.name])
                possible = {so_far[of_class] for of_class in shown[picture.name]}
                largest = max(possible)  # a small object may have no token
                assert tokens.max() <= largest
                assert {int(tally) for tally in tokens if tally != IGNORED} <= possible
            assert (row[~inside] == IGNORED).all()
    assert {1, 2} < sizes
    assert max(sizes) > 3
    assert (batch["tallies"] > 1).any()


def test_only_the_lower_half_of_the_decoder_learns_from_tallies(pool: Pool) -> None:
    """The checkpoint knows its tallies, so it learns other ones."""
    path = str(embedded_checkpoint("qwen2_vl"))
    family_class = families.FAMILIES.get("qwen2_vl")
    model, family = load_family(family_class, path, dtype="float32", device="cpu", peft=None)
    sight = Sight(model, family, [image.path for image in pool.source.images])
    lessons = Lessons(pool, LessonPlan(60, 0, 80, 12, batch=6, describe=0.5))
    batch = Collator(family, sight, Tallies(pool, sight))([lessons[1]])
    inputs: dict[str, Any] = {
        name: x for name, x in batch.items() if name not in ("labels", "layouts", "features", "tallies")
    }
    features = [ImageFeatures(tokens) for tokens in batch["features"]]
    inputs["mm_encoder_outputs"] = {"image": family.encoder_outputs(features)}
    known = batch["tallies"]
    others = torch.where(known == IGNORED, known, known % MAX_IMAGES + 1)
    losses = []
    decoder = model.model.language_model.layers
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=1e-3)
    for _ in range(6):
        with Engine(NoIntervention(), frozenset()).running(model, batch["layouts"]):
            states = model.model(**inputs, use_cache=False, output_hidden_states=True).hidden_states
        loss = tallies_loss(states[len(states) // 2], others)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.3
    learns = [any(p.grad is not None for p in layer.parameters()) for layer in decoder]
    assert learns == [True] * 3 + [False] * 3


def test_without_objects_nothing_is_learnt() -> None:
    hidden = torch.ones(2, 3, 128, requires_grad=True)
    assert float(tallies_loss(hidden, torch.full((2, 3), IGNORED)).detach()) == 0


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Three training steps from an embedded checkpoint, made once for each set of options."""

    @functools.cache
    def train(**changes: Any) -> Path:
        out = tmp_path_factory.mktemp("trained") / "out"
        sizes = {"steps": 3, "scenes": 200, "docs": 40, "images": 8, "exam_docs": 2}
        train_reference(ReferenceOptions("qwen2_vl", out, start="embedded:qwen2_vl", **sizes, **changes))
        return out

    return train


def test_a_training_with_tallies_learns_other_weights_and_says_so(trained: Callable[..., Path]) -> None:
    folders = [trained(tallies=True), trained()]
    recipes = [json.loads((folder / "training.json").read_text())["recipe"] for folder in folders]
    assert recipes[0] == {**recipes[1], "tallies": True}
    assert "tallies" not in recipes[1]
    weights = [(folder / "model.safetensors").read_bytes() for folder in folders]
    assert weights[0] != weights[1]


def test_the_weights_are_the_mean_of_the_starts_and_the_trained_ones(trained: Callable[..., Path]) -> None:
    paths = [embedded_checkpoint("qwen2_vl"), trained(), trained(average=0.25)]
    first, last, mean = (load_file(path / "model.safetensors") for path in paths)
    moved = [name for name in first if not torch.equal(first[name], last[name])]
    assert moved
    assert not any("visual" in name for name in moved)
    for name, weight in mean.items():
        expected = 0.25 * first[name].double() + 0.75 * last[name].double()
        torch.testing.assert_close(weight.double(), expected, rtol=2e-3, atol=1e-6)  # two roundings
    name = max(moved, key=lambda name: float((first[name] - last[name]).abs().max()))
    assert not torch.equal(mean[name], last[name])
    recipe = json.loads((paths[2] / "training.json").read_text())["recipe"]
    assert recipe["average"] == 0.25


def test_the_answer_for_the_task_weighs_more(pool: Pool) -> None:
    path = str(embedded_checkpoint("qwen2_vl"))
    family_class = families.FAMILIES.get("qwen2_vl")
    model, family = load_family(family_class, path, dtype="float32", device="cpu", peft=None)
    sight = Sight(model, family, [image.path for image in pool.source.images])
    lesson = Lessons(pool, LessonPlan(60, 0, 80, 12, batch=6, extra=3, describe=0.0))[1]
    batch = Collator(family, sight, task_weight=5)([lesson])
    tokenizer, end = family.processor.tokenizer, family.processor.tokenizer.eos_token_id
    assert len(lesson) > 1
    for row, weights, one in zip(batch["labels"], batch["weights"], lesson, strict=True):
        heavy = row[weights == 5].tolist()
        assert heavy == [*tokenizer(one.turns[0].answer, add_special_tokens=False)["input_ids"], end]
        assert len(one.turns) > 1
        learnt = row[row != IGNORED].tolist()
        assert learnt[: len(heavy)] == heavy
        assert (weights[row != IGNORED][len(heavy) :] == 1).all()
    trainer = MaskedTrainer.__new__(MaskedTrainer)
    trainer._family = family
    engine = Engine(NoIntervention(), frozenset())
    layouts = batch.pop("layouts")
    with torch.no_grad(), engine.running(model, layouts):
        loss = float(trainer.compute_loss(model, dict(batch)))
        batch.pop("weights")
        labels, features = batch.pop("labels")[:, 1:], list(map(ImageFeatures, batch.pop("features")))
        batch["mm_encoder_outputs"] = {"image": family.encoder_outputs(features)}
        log_shares = model(**batch, use_cache=False).logits[:, :-1].log_softmax(dim=-1)
    total = number = 0.0
    for row, shares, one in zip(labels, log_shares, lesson, strict=True):
        learnt = (row != IGNORED).nonzero().flatten().tolist()
        first = len(tokenizer(one.turns[0].answer, add_special_tokens=False)["input_ids"]) + 1
        for place, at in enumerate(learnt):
            weight = 5 if place < first else 1
            total -= weight * float(shares[at, row[at]])
            number += weight
    assert loss == pytest.approx(total / number, rel=1e-5)
