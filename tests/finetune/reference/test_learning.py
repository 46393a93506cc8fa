"""finetune: lessons that agree with the boxes, prompts that are an evaluation's, the mask of the engine."""

import json
import signal
import time
from collections import Counter
from dataclasses import fields
from inspect import signature
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from finetune.checkpoints import last_checkpoint
from finetune.reference import ReferenceOptions, train_reference
from finetune.reference.collate import IGNORED, Collator, prompt
from finetune.reference.lessons import CURRICULUM, MAX_IMAGES, Conversation, LessonPlan, Lessons
from finetune.reference.options import FAMILIES as REFERENCE_FAMILIES
from finetune.reference.questions import Questions, corpus, vocabulary
from finetune.reference.seeing import GlanceCollator, Glances, Seeing, token_labels
from mimic_eval.cli import train
from mimic_eval.records import UserError
from mimic_tasks.lmms_hooks import doc_to_messages
from mimic_tasks.locate import EMBEDDED
from mimic_tasks.pool import Pool
from mimic_tasks.prompts import framed
from mimic_tasks.source_files import SourceFiles, read_pool
from mimic_tasks.stored_docs import read_docs, task_files
from model_adapters import families
from model_adapters.doc_prompt import take_images
from model_adapters.engine import Engine
from model_adapters.interventions.block.kernel import BlockMask
from model_adapters.interventions.none.kernel import NoIntervention
from model_adapters.loading import load_family
from model_adapters.relevance.places import grid, joined, nowhere
from tests.conftest import Commands

FAMILIES = {
    "internvl": (families.FAMILIES.get("internvl"), {"image_size": 32, "patch_size": 8, "max_tiles": 1}),
    "llava_onevision": (
        families.FAMILIES.get("llava_onevision"),
        {"image_size": 32, "patch_size": 8, "sides": 1},
    ),
    "qwen2_5_vl": (families.FAMILIES.get("qwen2_5_vl"), {"patch_size": 8, "min_tokens": 4, "max_tokens": 4}),
    "qwen2_vl": (families.FAMILIES.get("qwen2_vl"), {"patch_size": 8, "min_tokens": 4, "max_tokens": 4}),
}


@pytest.fixture(scope="module")
def pool(scenes: Path) -> Pool:
    return read_pool(SourceFiles((scenes / "annotations/instances_scenes.json",), (scenes / "images",)))


@pytest.fixture(scope="module")
def lessons(pool: Pool) -> Lessons:
    return Lessons(pool, LessonPlan(steps=200, docs=120, images=12, batch=6))


@pytest.fixture(scope="module")
def further(pool: Pool) -> Lessons:
    """With all the questions that a continued training may add."""
    plan = LessonPlan(steps=60, docs=120, images=12, batch=6, extra=12, classes=3, across=True, describe=0.1)
    return Lessons(pool, plan)


@pytest.fixture(scope="module", params=FAMILIES)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """A model of each family with the training's tokenizer, in float64."""
    from model_adapters import tiny

    family, shape = FAMILIES[request.param]
    path = tmp_path_factory.mktemp("start") / request.param
    getattr(tiny, f"make_tiny_{request.param}")(
        path, seed=1, hidden=32, layers=4, corpus=corpus(), words=vocabulary(), **shape
    )
    return load_family(family, str(path), dtype="float64", device="cpu", peft=None)


def boxes(scenes: Path) -> dict[str, Counter[str]]:
    """Objects of each class by the file's name, read apart from our reader."""
    data = json.loads((scenes / "annotations/instances_scenes.json").read_text())
    names = {own["id"]: own["name"] for own in data["categories"]}
    files = {own["id"]: own["file_name"] for own in data["images"]}
    found: dict[str, Counter[str]] = {name: Counter() for name in files.values()}
    for own in data["annotations"]:
        found[files[own["image_id"]]][names[own["category_id"]]] += 1
    return found


@pytest.mark.parametrize("kind", ["lessons", "further"])
def test_answers_are_what_the_boxes_say(kind: str, lessons: Lessons, further: Lessons, scenes: Path) -> None:
    lessons = lessons if kind == "lessons" else further
    shown, kinds, classes = boxes(scenes), Counter[str](), Counter[int]()
    data = json.loads((scenes / "annotations/instances_scenes.json").read_text())
    category = {own["name"]: own["supercategory"] for own in data["categories"]}
    for number in range(len(lessons)):
        for own in lessons[number]:
            counts = [shown[path.name] for path in own.images]
            total = sum(counts, Counter[str]())
            for turn in own.turns:
                kinds[turn.about[0]] += 1
                present = {name: sum(bool(c[name]) for c in counts) for name in total}
                if turn.about[0] == "counting":
                    names = turn.about[1:]
                    classes[len(names)] += 1
                    several = ", ".join(f"{name}: {total[name]}" for name in names)
                    assert turn.answer == (several if len(names) > 1 else str(total[names[0]]))
                elif turn.about == ("list", "common"):
                    every = sorted(name for name, n in present.items() if n == len(counts))
                    assert turn.answer == (", ".join(every) or "none")
                    assert own.turns[0].about[0] != "common"
                elif turn.about == ("list", "oddone"):
                    few = sorted(name for name, n in present.items() if 2 * n < len(counts))
                    assert turn.answer == (", ".join(few) or "none")
                    assert own.turns[0].about[0] != "oddone"
                elif turn.about[0] == "images":
                    assert turn.answer == str(present[turn.about[1]])
                elif turn.about[0] == "listing":
                    listed = sorted(name for name in total if category[name] == turn.about[1])
                    assert turn.answer == ", ".join(listed)
                    assert f'"{turn.about[1]}"' in turn.question
                elif turn.about[0] == "common":
                    assert [name for name in total if all(c[name] for c in counts)] == [turn.answer]
                elif turn.about[0] == "oddone":
                    rare = [n for n in total if 2 * sum(bool(c[n]) for c in counts) < len(counts)]
                    assert rare == [turn.answer]
                else:
                    told = [
                        dict(one.split(": ") for one in part.split(", ")) for part in turn.answer.split("; ")
                    ]
                    assert [{n: int(v) for n, v in one.items()} for one in told] == counts
    usual = {"counting", "listing", "common", "oddone", "describe"}
    assert set(kinds) == (usual if kind == "lessons" else usual | {"list", "images"})
    assert set(classes) == ({1} if kind == "lessons" else {1, 2, 3})


def test_no_question_of_a_conversation_asks_for_the_same_again(lessons: Lessons) -> None:
    for number in range(len(lessons)):
        for own in lessons[number]:
            about = [turn.about for turn in own.turns]
            assert len(about) == len(set(about))


def test_a_lesson_is_fixed_by_its_number_and_follows_the_curriculum(pool: Pool, lessons: Lessons) -> None:
    again = Lessons(pool, lessons.plan)
    sizes = []
    for number in range(len(lessons)):
        assert again[number] == lessons[number]
        (size,) = {len(own.images) for own in lessons[number]}
        stage = next(stage for stage in CURRICULUM if number / len(lessons) < stage.until)
        assert size <= stage.images
        assert len(lessons[number]) * size <= lessons.plan.images
        sizes.append(size)
    assert set(sizes) == set(range(1, MAX_IMAGES + 1))
    other = Lessons(pool, LessonPlan(steps=200, seed=1, docs=120, images=12, batch=6))
    assert other[199] != lessons[199]


def test_stored_docs_are_those_that_were_planned(pool: Pool, tmp_path: Path) -> None:
    plan, stored = (
        LessonPlan(steps=60, seed=2, docs=60, images=12, batch=6, classes=2),
        tmp_path / "docs.json",
    )
    first = Lessons(pool, plan, stored)
    written = stored.read_bytes()
    again = Lessons(pool, plan, stored)
    assert stored.read_bytes() == written
    assert [again[number] for number in range(60)] == [first[number] for number in range(60)]
    stored.write_text("[]")  # it is read, not planned again
    with pytest.raises(IndexError):
        Lessons(pool, plan, stored)[59]
    stored.write_text("[")
    with pytest.raises(UserError, match="is not JSON"):
        Lessons(pool, plan, stored)


def test_docs_are_of_a_task_as_often_as_its_weight_says(pool: Pool) -> None:
    many = Lessons(pool, LessonPlan(steps=400, docs=120, images=12, batch=6, common=1, oddone=8))
    kinds = [
        own.turns[0].about[0]
        for number in range(200, len(many))
        for own in many[number]
        if len(own.images) > 2 and own.turns[0].about[0] != "describe"
    ]
    share = kinds.count("oddone") / len(kinds)
    assert share == pytest.approx(8 / 11, abs=0.08)
    assert kinds.count("common") / len(kinds) == pytest.approx(1 / 11, abs=0.05)


def test_the_first_prompt_is_byte_for_byte_an_evaluations(loaded: tuple[Any, Any]) -> None:
    _, family = loaded
    for file in task_files(EMBEDDED).values():
        doc = next(iter(read_docs(file, ("question", "images", "image_ids"))))
        messages, images = take_images(doc_to_messages(doc))
        question = messages[0]["content"][-1]["text"]
        assert prompt(family, question, len(images)) == family.prompt(messages)


def test_only_answers_are_learnt_and_they_read_as_they_are(loaded: tuple[Any, Any], lessons: Lessons) -> None:
    _, family = loaded
    tokenizer = family.processor.tokenizer
    batch = lessons[199]
    made = Collator(family)([batch])
    for row, labels, layout, own in zip(
        made["input_ids"], made["labels"], made["layouts"], batch, strict=True
    ):
        assert len(layout.images) == len(own.images)
        assert (row[: layout.padding] == family.pad_token_id).all()
        assert (labels[labels != IGNORED] == row[labels != IGNORED]).all()
        answers = tokenizer.decode(labels[labels != IGNORED]).split("<|im_end|>")
        assert answers == [*(turn.answer for turn in own.turns), ""]
        text = tokenizer.decode(row[layout.images[-1].end :])
        assert [text.count(turn.question) for turn in own.turns] == [1] * len(own.turns)


def test_the_prompts_tokens_are_those_of_an_evaluation(loaded: tuple[Any, Any], lessons: Lessons) -> None:
    from PIL import Image

    _, family = loaded
    own = lessons[199][0]
    made = Collator(family)([[own]])
    pictures = [Image.open(path).convert("RGB") for path in own.images]
    asked = family.prepare([pictures], [prompt(family, own.turns[0].question, len(pictures))])
    length = asked.inputs["input_ids"].shape[1]
    for name, value in asked.inputs.items():
        got = (
            made[name][:, :length]
            if name in ("input_ids", "attention_mask", "mm_token_type_ids")
            else made[name]
        )
        assert torch.equal(got, value), name
    assert made["layouts"][0].images == asked.layouts[0].images
    assert made["labels"][0, length] != IGNORED
    assert (made["labels"][0, :length] == IGNORED).all()


def test_a_row_learns_the_same_alone_and_padded(loaded: tuple[Any, Any], lessons: Lessons) -> None:
    model, family = loaded
    batch = lessons[199]
    assert len({len(Collator(family)([[own]])["input_ids"][0]) for own in batch}) > 1  # so there is padding
    together = losses(model, family, batch, Engine(BlockMask(), frozenset({2, 3})))
    alone = [losses(model, family, [own], Engine(BlockMask(), frozenset({2, 3})))[0] for own in batch]
    assert together == pytest.approx(alone, rel=1e-6)  # its norms are in single precision


def losses(model: Any, family: Any, batch: list[Conversation], engine: Engine) -> list[float]:
    """The mean loss of each row."""
    made = Collator(family)([batch])
    layouts, labels = made.pop("layouts"), made.pop("labels")
    inputs = {k: v.to(model.dtype) if v.is_floating_point() else v for k, v in made.items()}
    with engine.running(model, layouts), torch.no_grad():
        logits = model(**inputs, use_cache=False).logits
    return [
        float(torch.nn.functional.cross_entropy(row[:-1], own[1:], ignore_index=IGNORED))
        for row, own in zip(logits, labels, strict=True)
    ]


def test_the_loss_with_a_mask_is_that_of_a_dense_mask(loaded: tuple[Any, Any], lessons: Lessons) -> None:
    """The gradient too, against transformers' own attention with METHODS 3 as a matrix."""
    model, family = loaded
    batch = next(lessons[i] for i in range(199, 0, -1) if len(lessons[i][0].images) == 3)[:1]
    made = Collator(family)([batch])
    (layout,) = made.pop("layouts")
    inputs = {k: v.to(model.dtype) if v.is_floating_point() else v for k, v in made.items()}
    image = torch.full((layout.length,), -1)
    for m, span in enumerate(layout.images):
        image[span.start : span.end] = m
    causal = torch.ones(layout.length, layout.length, dtype=torch.bool).tril()
    masked = causal & ((image[:, None] == -1) | (image[:, None] == image[None, :]))
    got = gradients(model, inputs, Engine(BlockMask(), frozenset({2, 3})), layout)
    want = gradients(
        model, inputs, _Dense({layer: masked if layer > 1 else causal for layer in range(4)}), layout
    )
    plain = gradients(model, inputs, Engine(NoIntervention(), frozenset()), layout)
    assert got.keys() == want.keys()
    for name, value in want.items():
        torch.testing.assert_close(got[name], value, rtol=1e-7, atol=1e-10)
    assert abs(plain["loss"] - got["loss"]) > 1e-6


class _Dense(Engine):
    """Attention by a matrix for each layer, with nothing of the engine but its seam."""

    def __init__(self, masks: dict[int, torch.Tensor]) -> None:
        super().__init__(NoIntervention(), frozenset())
        self.masks = masks

    def attend(self, query: Any, key: Any, value: Any, view: Any, *, scale: float) -> Any:
        key, value = (x.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for x in (key, value))
        scores = query @ key.transpose(-1, -2) * scale
        return scores.masked_fill(~self.masks[view.layer], float("-inf")).softmax(-1) @ value


def gradients(model: Any, inputs: dict[str, Any], engine: Engine, layout: Any) -> dict[str, torch.Tensor]:
    model.zero_grad()
    with engine.running(model, [layout]):
        loss = model(**inputs, use_cache=False).loss
        loss.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return {"loss": loss.detach(), **found}


def test_a_token_is_labelled_by_what_lies_on_it() -> None:
    places = joined([grid(2, 2), nowhere(1)])
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.55, 0.6, 0.95, 0.9]], dtype=torch.float64)
    labels = token_labels(places, boxes, torch.tensor([3, 7]))
    assert labels[:, 0].tolist() == [3, 3, 3, 7, IGNORED]  # the smaller box is on top
    assert labels[:, 1].tolist() == [0, 0, 0, 7, IGNORED]  # both boxes' middles lie in the last token
    assert token_labels(grid(1, 3), boxes[:0], torch.tensor([]).long()).tolist() == [[0, 0]] * 3


def test_glances_know_the_boxes(pool: Pool, scenes: Path, loaded: tuple[Any, Any]) -> None:
    model, family = loaded
    glances = Glances(pool, steps=3, images=5, seed=0)
    assert [path for path, *_ in glances[1]] == [
        path for path, *_ in Glances(pool, steps=3, images=5, seed=0)[1]
    ]
    shown = boxes(scenes)
    for path, _, rectangles, classes, _ in glances[1]:
        assert Counter(pool.source.classes[c - 1] for c in classes) == shown[path.name]
        assert (rectangles[:, :2] < rectangles[:, 2:]).all()
        assert rectangles.min() >= 0
        assert rectangles.max() <= 1
    made = GlanceCollator(family)([glances[1]])
    model.zero_grad()
    seeing = Seeing(model, family, names=pool.source.classes).double()
    inputs = {k: v.double() if torch.is_tensor(v) and v.is_floating_point() else v for k, v in made.items()}
    out = seeing(**inputs)
    assert out["logits"].shape == (3, *made["labels"].shape, len(pool.source.classes) + 1)
    out["loss"].backward()
    learnt = [name for name, p in model.named_parameters() if p.grad is not None]
    assert any("embed_tokens" in name for name in learnt)
    assert not any("self_attn" in name and "language_model" in name for name in learnt)
    assert torch.equal(seeing.hand_over().get_output_embeddings().weight, model.get_input_embeddings().weight)
    model.zero_grad()


def test_questions_follow_the_rules_of_visibility(pool: Pool) -> None:
    """Nothing is asked of a class with a small object in one of the images."""
    ask, rng = Questions(pool), Random(0)
    small = {
        (int(i), int(c))
        for i, c in zip(pool.source.image_index[pool.small], pool.source.class_index[pool.small], strict=True)
    }
    assert small
    for image, c in small:
        name = pool.source.classes[c]
        assert ("counting", name) not in [turn.about for turn in ask.counting([image], rng)]
        category = pool.source.categories[c]
        assert ("listing", category) not in [turn.about for turn in ask.listing([image], rng)]


@pytest.mark.slow
def test_training_is_killed_and_goes_on_to_the_same_weights(tmp_path: Path, commands: Commands) -> None:
    def options(out: Path, **changes: Any) -> ReferenceOptions:
        small = {"steps": 12, "glances": 4, "scenes": 100, "docs": 60, "images": 6, "save_every": 2}
        return ReferenceOptions("llava_onevision", out, mask="block", exam_docs=3, **small, **changes)

    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = "train-reference llava_onevision --mask block --steps 12 --glances 4 --scenes 100 --docs 60"
    command += f" --images 6 --save-every 2 --exam-docs 3 --out {killed}"
    with commands.started("mimic", *command.split()) as process:
        while not list(killed.glob("training/checkpoint-*/trainer_state.json")):
            assert not process.ended()
            time.sleep(0.02)
        assert process.end().returncode == -signal.SIGKILL
    assert not (killed / "model.safetensors").exists()
    with pytest.raises(
        UserError, match=r"holds a training that differs in --seed \(0, now 5\): choose another"
    ):
        train_reference(options(killed, seed=5))
    train_reference(options(killed))
    scores = train_reference(options(whole))
    assert (whole / "model.safetensors").read_bytes() == (killed / "model.safetensors").read_bytes()
    record = json.loads((killed / "training.json").read_text())
    assert record == json.loads((whole / "training.json").read_text())
    assert [step for step, _ in record["loss"]] == list(range(1, 13))
    assert record["recipe"]["mask"] == "block"
    assert {
        f"final_{name}": score for name, score in record["final"].items() if name != "step"
    } == pytest.approx(scores, abs=1e-4)
    assert "trained on glyph scenes with mask=block" in (killed / "mimic_eval.json").read_text()
    before = {path: path.stat().st_mtime_ns for path in killed.rglob("*")}
    assert train_reference(options(killed)) == pytest.approx(scores, abs=1e-4)  # done: of its card
    assert {path: path.stat().st_mtime_ns for path in killed.rglob("*")} == before
    (killed / "README.md").unlink()  # as a process leaves it that is killed before it has written its card
    (killed / "mimic_eval.json").unlink()
    train_reference(options(killed))  # said "trained already", and there was no card
    assert (killed / "README.md").read_bytes() == (whole / "README.md").read_bytes()
    assert (killed / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    model, family = load_family(
        families.FAMILIES.get("llava_onevision"), str(killed), dtype="float32", device="cpu", peft=None
    )
    assert (
        family.processor.tokenizer.decode(family.processor.tokenizer("cat: 2, dogs")["input_ids"])
        == "cat: 2, dogs"
    )
    assert model.config.text_config.num_hidden_layers == 6


def test_a_wording_is_a_few_tokens_and_classes_stand_for_themselves(loaded: tuple[Any, Any]) -> None:
    _, family = loaded
    tokenizer = family.processor.tokenizer
    asked = framed(
        "How many teddy bears are there in total across all the images? Answer with a single number."
    )
    ids = tokenizer(asked)["input_ids"]
    assert len(ids) <= 12
    assert tokenizer.decode(ids) == asked
    bears = tokenizer(" teddy bears")["input_ids"]
    assert any(ids[i : i + len(bears)] == bears for i in range(len(ids)))
    assert len(tokenizer("137")["input_ids"]) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"family": "llava"}, "family 'llava'"),
        ({"mask": "ar"}, "mask 'ar'"),
        ({"steps": 0}, "--steps"),
        ({"learning_rate": float("nan")}, "--learning-rate must be above 0 and below 1"),
        ({"scenes": 3}, "--scenes"),
        ({"sinks": 1.0}, "--sinks must be at least 0 and below 1, got 1.0"),
        ({"sinks": 0.1}, "--sinks cannot be planted in qwen2_vl: choose internvl or llava_onevision"),
        ({"start": "embedded:internvl"}, "--start embedded:internvl is of type 'internvl', not 'qwen2_vl'"),
        ({"start": "embedded:nothing"}, "nothing"),
        (
            {"family": "llava_onevision", "start": "embedded:llava_onevision_sinks", "sinks": 0.1},
            "--start embedded:llava_onevision_sinks has planted sinks, which stay: leave --sinks out",
        ),
        ({"start": "no/such/folder"}, "--start no/such/folder: there is no checkpoint's config.json"),
        ({"average": 0.5}, "--average is the share of the weights of --start: name it"),
        ({"average": 1.0, "start": "embedded:qwen2_vl"}, "--average must be at least 0 and below 1, got 1.0"),
        ({"count_classes": 6}, "--count-classes must be an integer within 1-5, got 6"),
    ],
)
def test_mistakes_are_said_in_one_line(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        ReferenceOptions(**{"family": "qwen2_vl", "out": tmp_path / "x", **changes})


def test_the_commands_defaults_are_the_recipes() -> None:
    told = {p.name: p.default for p in signature(train.train_reference).parameters.values()}
    own = {field.name: field.default for field in fields(ReferenceOptions)}
    assert told.keys() | {"scene_size"} == own.keys()
    assert {name: own[name] for name in told if name not in ("family", "out")} == {
        name: value for name, value in told.items() if name not in ("family", "out")
    }


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("mine")
    with pytest.raises(UserError, match="exists and is not empty"):
        train_reference(ReferenceOptions("qwen2_vl", tmp_path))
    assert [file.name for file in tmp_path.iterdir()] == ["kept.txt"]


def test_a_checkpoint_cut_off_by_a_kill_is_not_gone_on_from(tmp_path: Path) -> None:
    for number, text in ((2, "{}"), (4, '{"global_st'), (6, None)):
        (tmp_path / f"checkpoint-{number}").mkdir()
        if text is not None:
            (tmp_path / f"checkpoint-{number}/trainer_state.json").write_text(text)
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint-2"]


def test_the_help_names_every_family() -> None:
    (argument,) = signature(train.train_reference).parameters["family"].annotation.__metadata__
    names = argument.help.rstrip(".").replace(" or ", ", ").split(", ")
    assert tuple(names) == REFERENCE_FAMILIES
