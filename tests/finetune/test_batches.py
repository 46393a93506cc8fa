"""Batches of a training: prompts are an evaluation's, only answers are learnt, layouts hold the images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from finetune.batches import IGNORED, Batcher, Rows, end_tokens
from finetune.mixture import Sample, Turn, read_mixture
from mimic_eval.records import UserError
from mimic_tasks.lmms_hooks import doc_to_messages
from mimic_tasks.locate import EMBEDDED
from mimic_tasks.stored_docs import read_docs, task_files
from model_adapters.doc_prompt import take_images
from model_adapters.families import FAMILIES
from model_adapters.families.base import Family
from model_adapters.image_marks import image_tokens, settle_marks
from model_adapters.loading import load_family
from tests.makers.conversations import COUNTS, make_conversations

KINDS = ("gemma3", "idefics3", "llava_onevision", "mantis", "qwen2_vl")


@dataclass(frozen=True)
class Loaded:
    """A family, what makes its batches, and the samples."""

    family: Family
    batcher: Batcher
    samples: tuple[Sample, ...]

    def rows(self, *samples: Sample) -> Rows:
        return self.batcher.rows(samples)

    def text(self, ids: torch.Tensor) -> str:
        return str(self.family.processor.tokenizer.decode(ids))

    def answers(self, labels: torch.Tensor) -> str:
        return self.text(labels[labels != IGNORED])


@pytest.fixture(scope="module", params=KINDS)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    folder = tmp_path_factory.mktemp("batches")
    family_class = FAMILIES.get(request.param)
    family_class.make_tiny(folder / "tiny")
    model, family = load_family(family_class, str(folder / "tiny"), dtype="float32", device="cpu", peft=None)
    batcher = Batcher(family, end_tokens=end_tokens(model, family.processor.tokenizer))
    return Loaded(family, batcher, tuple(read_mixture([make_conversations(folder / "data")])))


def evaluated(family: Family, messages: list[dict[str, Any]], pictures: list[Any]) -> Any:
    """The batch of an evaluation: as `request_loop.read_request` and `Answerer.prepare` make it."""
    settled, _ = settle_marks(messages, rule="remove", tokens=image_tokens(family.processor))
    return family.prepare([pictures], [family.prompt(settled)])


def test_an_evaluations_prompt_has_the_same_tokens_in_training(loaded: Loaded, tmp_path: Path) -> None:
    """For docs of all tasks, written as `mimic export-training` writes them, in the evaluation's frame."""
    for kind, file in task_files(EMBEDDED).items():
        doc = next(iter(read_docs(file, ("question", "images", "image_ids"))))
        messages, pictures = take_images(doc_to_messages(doc))
        paths = tuple(tmp_path / f"{kind}-{i}.png" for i in range(len(pictures)))
        for path, picture in zip(paths, pictures, strict=True):
            picture.save(path)
        question = "<image>\n" * len(pictures) + messages[0]["content"][-1]["text"]
        turns = (Turn("user", question), Turn("assistant", "teddy bear"))
        made = loaded.rows(Sample("a", tmp_path / "x.json", 1, paths, turns))
        want = evaluated(loaded.family, messages, pictures)
        length = want.inputs["input_ids"].shape[1]
        for name, value in want.inputs.items():
            got = made.inputs[name]
            per_token = got.shape == made.labels.shape
            assert torch.equal(got[:, :length] if per_token else got, value), (kind, name)
        assert made.layouts[0].images == want.layouts[0].images
        assert (made.labels[0, :length] == IGNORED).all()
        assert (made.labels[0, length:] == made.inputs["input_ids"][0, length:]).all()


def test_all_answers_are_learnt_with_their_end_tokens_and_nothing_else(loaded: Loaded) -> None:
    end = loaded.batcher.end
    made = loaded.rows(*loaded.samples)
    for row, labels, layout, sample, images in zip(
        made.inputs["input_ids"], made.labels, made.layouts, loaded.samples, COUNTS, strict=True
    ):
        assert len(layout.images) == images + 2 * (sample.id == "s4")
        assert (labels[labels != IGNORED] == row[labels != IGNORED]).all()
        said = [turn.text for turn in sample.turns if turn.role == "assistant"]
        assert [part.strip() for part in loaded.answers(labels).split(end)] == [*said, ""]
        assert "mimic" not in loaded.text(row)


def test_the_end_token_ends_an_answer_in_generation(loaded: Loaded) -> None:
    token = loaded.family.processor.tokenizer.convert_tokens_to_ids(loaded.batcher.end)
    assert token in {int(label) for label in loaded.rows(loaded.samples[0]).labels[0]}
    known = {"gemma3": "<end_of_turn>", "idefics3": "<end_of_utterance>", "mantis": "<|eot_id|>"}
    kind = loaded.family.name.lower()
    for name, end in known.items():
        if name in kind.replace(" ", ""):
            assert loaded.batcher.end == end


def test_a_row_is_the_same_alone_and_padded(loaded: Loaded) -> None:
    together = loaded.rows(*loaded.samples)
    assert len({layout.padding for layout in together.layouts}) > 2
    for b, sample in enumerate(loaded.samples):
        alone = loaded.rows(sample)
        padding = together.layouts[b].padding
        for name in ("input_ids", "attention_mask"):
            assert torch.equal(together.inputs[name][b, padding:], alone.inputs[name][0])
        assert torch.equal(together.labels[b, padding:], alone.labels[0])
        assert (together.labels[b, :padding] == IGNORED).all()
        moved = tuple(image.moved(-padding) for image in together.layouts[b].images)
        assert moved == alone.layouts[0].images


def test_the_checkpoints_processor_is_not_changed(loaded: Loaded) -> None:
    tokenizer = loaded.family.processor.tokenizer
    assert tokenizer.convert_tokens_to_ids("<|mimic_cut|>") in (None, tokenizer.unk_token_id)
    assert len(loaded.batcher.family.processor.tokenizer) == len(tokenizer) + 1


def test_images_within_a_question_stay_there(loaded: Loaded) -> None:
    """In the words of a question after an answer; templates that put images first are gone round."""
    (sample,) = (one for one in loaded.samples if one.id == "s4")
    made = loaded.rows(sample)
    first, second = made.layouts[0].images[-2:]
    row = made.inputs["input_ids"][0]
    assert "Compare" in loaded.text(row[: first.start])
    assert "with" in loaded.text(row[first.end : second.start])
    assert "please." in loaded.text(row[second.end :])


def test_a_system_turn_is_before_the_first_question(loaded: Loaded, tmp_path: Path) -> None:
    turns = (
        Turn("system", "Be short."),
        Turn("user", "<image>\nHow many cats?"),
        Turn("user", "Say a number."),
        Turn("assistant", "2"),
    )
    sample = Sample("a", tmp_path / "x.json", 1, loaded.samples[0].images[:1], turns)
    made = loaded.rows(sample)
    text = loaded.text(made.inputs["input_ids"][0])
    assert text.index("Be short.") < text.index("How many cats?\nSay a number.")
    assert loaded.answers(made.labels[0]).strip() == f"2{loaded.batcher.end}"


def test_what_cannot_be_shown_is_named(loaded: Loaded, tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes(Path(loaded.samples[0].images[0]).read_bytes()[:200])
    question = (Turn("user", "<image>\nWhat?"), Turn("assistant", "a cat"))
    broken = Sample("b7", tmp_path / "x.json", 12, (tmp_path / "cut.png",), question)
    with pytest.raises(UserError, match=r"x\.json, line 12, sample 'b7': picture .*cut\.png cannot be dec"):
        loaded.rows(broken)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    unanswered = Sample("u", tmp_path / "x.json", 3, (tmp_path / "a.png",), question[:1])
    with pytest.raises(UserError, match=r"line 3, sample 'u': its turns must be user, assistant"):
        loaded.rows(unanswered)
