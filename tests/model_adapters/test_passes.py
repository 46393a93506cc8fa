"""Several passes over one doc, combined at each step, against transformers' own generate step by step."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mimic_eval.records import UserError
from model_adapters.answering import Answerer
from model_adapters.interventions.none.kernel import NoIntervention
from model_adapters.interventions.options import MaskOptions
from model_adapters.interventions.record import merge_rows
from model_adapters.models import LlavaOvMask
from model_adapters.passes import NotFinite, Passes, PassInput, groups_of
from tests.model_adapters.test_resume import answers as answers_to
from tests.model_adapters.test_resume import counted, docs, needs_room_for

SETTINGS = {"max_new_tokens": 6, "do_sample": False, "until": []}
WEIGHTS = {"mean": (0.5, 0.5), "contrast": (1.25, -0.25)}


class BothOrders(Passes):
    """A doc's images as they are and in reverse; one image is one pass."""

    def __init__(self, weights: Sequence[float]) -> None:
        self._weights = weights

    def expand(self, doc: PassInput) -> tuple[PassInput, ...]:
        return (doc, replace(doc, pictures=doc.pictures[::-1])) if len(doc.pictures) > 1 else (doc,)

    def weights(self, rows: int) -> Sequence[float]:
        assert rows == 2
        return self._weights


class Mean(NoIntervention):
    name = "test_passes"
    passes = BothOrders(WEIGHTS["mean"])


class Contrast(NoIntervention):
    name = "test_passes"
    passes = BothOrders(WEIGHTS["contrast"])


class MeanOptions(MaskOptions):
    default_layers = "none"

    def build(self) -> Mean:
        return Mean()


class ContrastOptions(MaskOptions):
    default_layers = "none"

    def build(self) -> Contrast:
        return Contrast()


def picture(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 255, (60, 80, 3), dtype=np.uint8))


IMAGES = [[picture(0), picture(1)], [picture(2)], [picture(3), picture(4), picture(5)]]
QUESTIONS = ["Which?", "And what is this?", "How many things do the images show in all?"]


def model_of(tiny: Path, kind: str = "mean", **arguments: Any) -> LlavaOvMask:
    mask = f"tests.model_adapters.test_passes:{kind.capitalize()}Options"
    return LlavaOvMask(**{"pretrained": str(tiny), "mask": mask, "journal": "off"} | arguments)


def prompts(model: Any) -> list[str]:
    return [
        model.family.prompt(
            [
                {
                    "role": "user",
                    "content": [{"type": "image"}] * len(own) + [{"type": "text", "text": question}],
                }
            ]
        )
        for own, question in zip(IMAGES, QUESTIONS, strict=True)
    ]


@pytest.fixture(scope="module")
def theirs(tiny: Path) -> Any:
    """transformers' class and processor."""
    from transformers import AutoProcessor, LlavaOnevisionForConditionalGeneration

    model = LlavaOnevisionForConditionalGeneration.from_pretrained(tiny, dtype=torch.float32).eval()
    return model, AutoProcessor.from_pretrained(tiny)


def by_hand(theirs: Any, images: Sequence[Image.Image], prompt: str, weights: Sequence[float]) -> str:
    """One new token at a time from transformers' `generate` of each pass alone, without a cache of ours."""
    model, processor = theirs
    orders = [list(images), list(images)[::-1]] if len(images) > 1 else [list(images)]
    passes = [processor(images=[own], text=[prompt], return_tensors="pt") for own in orders]
    new: list[int] = []
    while len(new) < SETTINGS["max_new_tokens"]:
        logits = []
        for inputs in passes:
            tail = torch.tensor([new], dtype=torch.long)
            ids = torch.cat([inputs["input_ids"], tail], dim=1)
            given = {**inputs, "input_ids": ids, "attention_mask": torch.ones_like(ids)}
            made = model.generate(
                **given, max_new_tokens=1, do_sample=False, output_logits=True, return_dict_in_generate=True
            )
            logits.append(made.logits[0][0])
        scale = weights if len(passes) > 1 else (1.0,)
        new.append(int(sum(w * own for w, own in zip(scale, logits, strict=True)).argmax()))
        if new[-1] == processor.tokenizer.eos_token_id:
            break
    return str(processor.tokenizer.decode(new, skip_special_tokens=True))


@pytest.mark.parametrize("kind", WEIGHTS)
def test_combined_logits_choose_each_token_alone_and_in_a_batch(tiny: Path, theirs: Any, kind: str) -> None:
    model = model_of(tiny, kind)
    written = prompts(model)
    want = [by_hand(theirs, own, text, WEIGHTS[kind]) for own, text in zip(IMAGES, written, strict=True)]
    plain = model_of(tiny, mask="none")
    assert want[0] != plain.reply(IMAGES[:1], written[:1], SETTINGS)[0].text  # or it could not fail
    assert [reply.text for reply in model.reply(IMAGES, written, SETTINGS)] == want
    alone = [model.reply([own], [text], SETTINGS)[0].text for own, text in zip(IMAGES, written, strict=True)]
    assert alone == want


def test_a_doc_of_one_pass_leaves_the_model_as_it_is(tiny: Path) -> None:
    model, plain = model_of(tiny), model_of(tiny, mask="none")
    written = prompts(model)
    reply = model.reply(IMAGES[1:2], written[1:2], SETTINGS)
    assert [own._replace(record=None) for own in reply] == plain.reply(IMAGES[1:2], written[1:2], SETTINGS)
    assert reply[0].record == {"passes": {"passes": 1, "pictures": 1}}
    assert not model.model._forward_hooks


def test_a_batch_holds_rows_and_not_docs(tiny: Path) -> None:
    """Docs of two images: two rows each. With the size as docs the first batch had 4 docs, 8 rows."""
    rows = docs(5)
    want = answers_to(model_of(tiny), rows)
    model = model_of(tiny, batch_size=4)
    with counted(model) as sizes:
        assert answers_to(model, rows) == want
    assert sizes == [4, 4, 2]


def test_memory_that_runs_out_halves_rows_and_keeps_docs_together(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = docs(4)
    want = answers_to(model_of(tiny), rows)
    model = model_of(tiny, batch_size=8)
    needs_room_for(model, 3)
    with counted(model) as sizes:
        assert answers_to(model, rows) == want
    assert sizes == [8, 4, 2, 2, 2, 2]
    assert "Out of memory with 4 docs (8 passes) at a time" in capsys.readouterr().err
    small = model_of(tiny)
    needs_room_for(small, 1)
    with pytest.raises(UserError, match=r"doc 0 alone \(2 images in 2 passes, which run together\)"):
        answers_to(small, rows[:1])


def test_scores_that_are_not_finite_name_the_doc_of_the_row(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row's number as a doc's number named doc 3 of 2, or another doc."""
    rows = docs(2)
    model = model_of(tiny, batch_size=4)
    prefill = Mean.prefill

    def broken(self: Any, query: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        out = prefill(self, query, *args, **options)
        out[3] = float("nan")
        return out

    monkeypatch.setattr(Mean, "prefill", broken)
    model.engine.layers = frozenset({5})
    with pytest.raises(UserError, match="not finite on mimic_counting doc 1 in") as error:
        answers_to(model, rows)
    cause = error.value.__cause__
    assert isinstance(cause, NotFinite)
    assert cause.row == 3


def test_sampling_from_several_passes_is_refused(tiny: Path) -> None:
    model = model_of(tiny)
    with pytest.raises(UserError, match="mask=test_passes combines several passes at each token, greedily"):
        model.reply(IMAGES[:1], prompts(model)[:1], {"max_new_tokens": 2, "temperature": 1.0})


def test_passes_and_cached_features_agree(tiny: Path) -> None:
    model = model_of(tiny)
    cache = model.answerer.features
    assert cache is not None
    written = prompts(model)
    cached = [reply.text for reply in model.reply(IMAGES, written, SETTINGS)]
    assert cache.encoded == 6  # both orders show the same pictures
    bare = Answerer(model.model, model.family, model.engine)
    assert [reply.text for reply in bare.reply(IMAGES, written, SETTINGS)] == cached


def test_what_a_drawn_pass_depends_on_is_in_the_journals_key(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIMIC_CACHE", str(tmp_path))
    (row,) = docs(1)
    other = {**row, "content_hash": "another"}

    def reused(seeded: bool) -> int:
        monkeypatch.setattr(BothOrders, "seeded", seeded)
        answers_to(model_of(tiny, journal="on"), [row])
        model = model_of(tiny, journal="on")
        answers_to(model, [other])
        return model.journal.reused if model.journal else -1

    assert reused(False) == 1
    assert reused(True) == 0


def test_the_record_of_a_doc_is_that_of_its_rows() -> None:
    rows: list[Mapping[str, Any]] = [
        {"visual_edited": 2, "most_nonzeros": 3, "histogram": [1, 0], "docs_unchanged": 0, "layer_docs": 4},
        {"visual_edited": 0, "most_nonzeros": 1, "histogram": [0, 2], "docs_unchanged": 1, "layer_docs": 4},
    ]
    assert merge_rows(rows) == {
        "visual_edited": 2,
        "most_nonzeros": 3,
        "histogram": [1, 2],
        "docs_unchanged": 0,
        "layer_docs": 8,
    }
    assert merge_rows(rows[1:]) == rows[1]


def test_the_groups_of_rows_follow_one_another() -> None:
    assert groups_of([2, 1, 3]) == (slice(0, 2), slice(2, 3), slice(3, 6))
    logits = torch.tensor([[0.0, 4.0], [2.0, 0.0], [5.0, 6.0]])
    assert Passes().combine(logits, groups_of([2, 1])).tolist() == [[1.0, 2.0], [5.0, 6.0]]
