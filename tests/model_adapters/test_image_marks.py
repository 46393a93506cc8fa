"""Texts with ``<image>`` marks: where the images stand, and that no mark stops a model."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mimic_eval.records import UserError, announced_effects, announced_run
from model_adapters.families import FAMILIES, lmms_models
from model_adapters.families.base import Family
from model_adapters.hf import HfFamily
from model_adapters.hf.evidence import pictures
from model_adapters.image_marks import MarkCounts, image_tokens, settle_marks
from model_adapters.loading import load_family
from model_adapters.models import LlavaOvMask, Qwen2VLMask
from model_adapters.template_places import image_text, moves_images
from model_adapters.tiny import make_tiny_llava_onevision, make_tiny_qwen2_vl
from model_adapters.tiny.any_type import make_tiny

MARKED = "One: <image> two: <image>\nA. <image>\nB. none"
ANY_TYPES = ("aya_vision", "mistral3")


def user(text: str, images: int) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [*[{"type": "image"}] * images, {"type": "text", "text": text}]}]


def shape(content: list[dict[str, Any]]) -> list[str]:
    return [part.get("text", "IMAGE") for part in content]


def laid_out(family: Family, messages: list[dict[str, Any]], images: int) -> str:
    """The prompt as the model gets it: text, and ``[tokens]`` for each image."""
    batch = family.prepare([pictures(images, seed=1)], [family.prompt(messages)])
    (layout,), (ids,) = batch.layouts, batch.inputs["input_ids"]
    pieces, end = [], layout.padding
    for image in layout.images:
        pieces += [family.processor.tokenizer.decode(ids[end : image.start]), "[image]"]
        end = image.end
    return "".join([*pieces, family.processor.tokenizer.decode(ids[end:])])


@pytest.mark.parametrize("name", [*FAMILIES.ours, *ANY_TYPES])
def test_images_stand_at_their_marks_with_every_family(name: str, tmp_path: Path) -> None:
    kind: Any = FAMILIES.get(name) if name in FAMILIES else HfFamily
    if name in FAMILIES:
        kind.make_tiny(tmp_path / "it", layers=2)
    else:
        make_tiny(name, tmp_path / "it")
    _, family = load_family(kind, str(tmp_path / "it"), dtype=torch.float32, device="cpu", peft=None)
    settle = partial(settle_marks, tokens=image_tokens(family.processor))
    for images in (2, 3, 4):
        messages, counts = settle(user(MARKED, images), rule="interleave")
        text = laid_out(family, messages, images)
        print(name, images, text)
        one, two, option = (text.index(word) for word in ("One:", "two:", "A."))
        before = [text.count("[image]", *ends) for ends in ((0, one), (one, two), (two, option))]
        assert [*before, text.count("[image]", option)] == [max(images - 3, 0), 1, 1, int(images > 2)]
        assert counts == MarkCounts(3, images, int(images == 2), max(images - 3, 0))
        messages, counts = settle(user(MARKED, images), rule="remove")
        text = laid_out(family, messages, images)
        assert text.count("[image]") == text.count("[image]", 0, text.index("One:")) == images
        assert counts == MarkCounts(3, images)
    # a family's placeholder in a doc's text was an image too many for its processor
    for token in image_tokens(family.processor):
        for rule in ("remove", "interleave", "text"):
            messages, _ = settle(user(f"What is {token} here?", 2), rule=rule)
            assert laid_out(family, messages, 2).count("[image]") == 2


def test_every_model_of_ours_is_in_the_test_above() -> None:
    assert {kind for kinds in lmms_models().values() for kind in kinds} == set(FAMILIES)


def settled(text: str, images: int, rule: str = "interleave") -> tuple[list[str], MarkCounts]:
    (message,), counts = settle_marks(user(text, images), rule=rule)
    return shape(message["content"]), counts


def test_more_images_than_marks_come_first_and_keep_their_order() -> None:
    """Query image, then four options that are images: the marks take the last four, not the first."""
    text = "Which is it?\nA. <image>\nB. <image>"
    assert settled(text, 3) == (
        ["IMAGE", "Which is it?\nA. ", "IMAGE", "\nB. ", "IMAGE"],
        MarkCounts(2, 3, images_first=1),
    )


def test_marks_without_an_image_are_removed_and_counted() -> None:
    assert settled("<image><image> <image>", 2) == (["IMAGE", "IMAGE", " "], MarkCounts(3, 2, extra_marks=1))
    assert settled("no <image> at all", 0) == (["no  at all"], MarkCounts(1, 0))


def test_a_line_of_marks_goes_with_them_and_a_blank_line_stays() -> None:
    shown, counts = settled("<image> <image>\n\nWhich?\nA. <image>", 3, rule="remove")
    assert shown == ["IMAGE"] * 3 + ["\nWhich?\nA. "]
    assert counts == MarkCounts(3, 3)


def test_images_that_a_task_has_placed_stay_and_its_marks_are_removed() -> None:
    content = [{"type": "text", "text": "first <image>"}, {"type": "image"}, {"type": "text", "text": "?"}]
    (message,), counts = settle_marks([{"role": "user", "content": content}], rule="interleave")
    assert shape(message["content"]) == ["first ", "IMAGE", "?"]
    assert counts == MarkCounts(1, 1)


def test_marks_are_text_only_where_the_processor_does_not_read_them(tmp_path: Path) -> None:
    assert settled("a <image> b", 1, rule="text")[0] == ["IMAGE", "a <image> b"]
    make_tiny_llava_onevision(tmp_path / "it")
    with pytest.raises(UserError, match="image_marks=text: LLaVA-OneVision reads <image> in a text as an im"):
        LlavaOvMask(pretrained=str(tmp_path / "it"), image_marks="text")
    with pytest.raises(UserError, match=r"Unknown image_marks 'interleaved'\. Did you mean 'interleave'"):
        LlavaOvMask(image_marks="interleaved")


def test_a_template_that_numbers_its_images_cannot_have_them_inline() -> None:
    def numbered(messages: Any) -> str:
        parts = messages[0]["content"]
        images = [f"<{n}>" for n, part in enumerate(p for p in parts if p["type"] == "image")]
        return "".join([*images, *(part["text"] for part in parts if part["type"] == "text")])

    assert moves_images(numbered)
    with pytest.raises(UserError, match="writes all images before the text and each in another way"):
        image_text(numbered)


def muirbench_messages(doc: dict[str, Any]) -> list[dict[str, Any]]:
    """As upstream's task shows the doc: its own functions, images first, the marks left in the text."""
    from lmms_eval.tasks.muirbench.utils import muir_doc_to_text, muir_doc_to_visual

    text = muir_doc_to_text(doc, {"pre_prompt": "", "post_prompt": "\nAnswer with a letter."})
    images = [{"type": "image", "url": image} for image in muir_doc_to_visual(doc)]
    return [{"role": "user", "content": [*images, {"type": "text", "text": text}]}]


MUIR = {
    "question": "What differs between <image> and <image>?",
    "options": ["nothing", "<image>", "see <image>"],
    "image_list": pictures(2, seed=3),
}


@pytest.mark.parametrize(("make", "model"), [
    (make_tiny_llava_onevision, LlavaOvMask), (make_tiny_qwen2_vl, Qwen2VLMask),
])  # fmt: skip
@pytest.mark.parametrize("rule", ["remove", "interleave"])
def test_upstreams_muirbench_is_answered(
    make: Any, model: Any, rule: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """LLaVA-OneVision stopped: "6 <image> tokens and 2 images". Qwen2-VL read the marks as text."""
    make(tmp_path / "it", layers=2)
    masked = model(pretrained=str(tmp_path / "it"), mask="block", journal="off", image_marks=rule)
    masked.task_dict = {"muirbench": {"test": [MUIR]}}
    settings = {"max_new_tokens": 2, "do_sample": False, "temperature": 0, "until": []}
    request = SimpleNamespace(args=("", muirbench_messages, settings, 0, "muirbench", "test"))
    (answer,) = masked.generate_until([request])
    assert answer.text
    extra = 2 if rule == "interleave" else 0
    counts = {"docs": 1, "marks": 4, "images": 2, "extra_marks": extra, "images_first": 0}
    assert announced_effects()["image_marks"] == counts
    assert announced_run()["image_marks"] == rule
    said = capsys.readouterr().err
    assert "1 docs have 4 marks for images in their text: " in said
    assert ("2 marks without an image were removed" in said) == bool(extra)
