"""Qwen2-VL checkpoints as they were published, with an adapter, and a picture that its processor refuses."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from mimic_eval.records import unscored_reason
from model_adapters.models import Qwen2VLMask
from tests.makers.qwen2_vl import DOCS, IMAGES, answers, generate, own_generate, prepared, prompt, theirs


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from model_adapters.tiny import make_tiny_qwen2_vl

    path = tmp_path_factory.mktemp("tiny") / "qwen2_vl"
    make_tiny_qwen2_vl(path, seed=3)
    return path


@pytest.fixture(scope="module")
def none(tiny: Path) -> Qwen2VLMask:
    return Qwen2VLMask(pretrained=str(tiny), mask="none")


def published(tiny: Path, out: Path, *, tied: bool) -> None:
    """The checkpoint as Qwen2-VL was published: a flat config, the older names, no processor_config.json."""
    from safetensors.torch import load_file, save_file

    out.mkdir()
    shutil.copy(tiny / "chat_template.jinja", out)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny / name, out)
    config = json.loads((tiny / "config.json").read_text())
    text, vision = config.pop("text_config"), config.pop("vision_config")
    rope = text.pop("rope_parameters")
    del vision["rope_parameters"], text["layer_types"]
    flat = {**text, **config, "tie_word_embeddings": tied, "torch_dtype": config.pop("dtype")}
    flat["vision_config"] = {**vision, "model_type": "qwen2_vl", "in_chans": 3, "spatial_patch_size": 8}
    flat["rope_scaling"] = {"type": "mrope", "mrope_section": rope["mrope_section"]}
    flat |= {"rope_theta": rope["rope_theta"], "model_type": "qwen2_vl", "sliding_window": 32768}
    (out / "config.json").write_text(json.dumps(flat))
    images = json.loads((tiny / "processor_config.json").read_text())["image_processor"]
    images |= {"min_pixels": images["size"]["shortest_edge"], "max_pixels": images["size"]["longest_edge"]}
    del images["size"]
    images["processor_class"] = "Qwen2VLProcessor"
    (out / "preprocessor_config.json").write_text(json.dumps(images))
    weights = load_file(tiny / "model.safetensors")
    older = {
        name.replace("model.language_model.", "model.").replace("model.visual.", "visual."): weight
        for name, weight in weights.items()
        if not (tied and name == "lm_head.weight")
    }
    assert sorted({name.split(".")[0] for name in older}) == ["lm_head", "model", "visual"][tied:]
    save_file(older, out / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("tied", [False, True])
def test_a_checkpoint_in_the_published_layout_loads(
    tiny: Path, tmp_path: Path, none: Qwen2VLMask, tied: bool
) -> None:
    published(tiny, tmp_path / "own", tied=tied)
    model = Qwen2VLMask(pretrained=str(tmp_path / "own"), mask="none")
    if not tied:
        assert answers(model) == answers(none)
        return
    expected = theirs(tiny)
    expected.lm_head.weight = expected.get_input_embeddings().weight
    batch = prepared(model, [3])
    assert torch.equal(own_generate(model, batch)[0], generate(expected, batch.inputs)[0])
    assert answers(model, [3]) != answers(none, [3])


def test_a_lora_adapter_is_used_as_peft_itself_uses_it_pooled_or_not(
    tiny: Path, tmp_path: Path, none: Qwen2VLMask
) -> None:
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoProcessor

    torch.manual_seed(0)
    config = LoraConfig(
        r=4, target_modules=r".*language_model.*\.(q|v)_proj", init_lora_weights=False, lora_alpha=32
    )
    get_peft_model(theirs(tiny), config).save_pretrained(tmp_path / "lora")
    ours = Qwen2VLMask(pretrained=str(tiny), mask="none", peft=str(tmp_path / "lora"))
    model, processor = (
        PeftModel.from_pretrained(theirs(tiny), tmp_path / "lora"),
        AutoProcessor.from_pretrained(tiny),
    )
    inputs = processor(images=IMAGES[3], text=[prompt(ours, 3, DOCS[3][1])], return_tensors="pt")
    new, _ = generate(model, inputs)
    assert answers(ours, [3]) == processor.batch_decode(new, skip_special_tokens=True)
    assert answers(none, [3]) != answers(ours, [3])
    with torch.inference_mode():
        same = ours.family.embedded(ours.model, prepared(ours, [3]), pool=1)
    assert torch.equal(own_generate(ours, same)[0], new)


def test_a_picture_that_the_processor_refuses_makes_its_doc_unscored_and_no_other(none: Qwen2VLMask) -> None:
    strip, edge = Image.new("RGB", (1005, 5)), Image.new("RGB", (1000, 5))
    with pytest.raises(ValueError, match="aspect ratio"):
        none.family.prepare(
            [[strip]], [none.family.prompt([{"role": "user", "content": [{"type": "image"}]}])]
        )
    docs = [[edge], [edge, strip]]

    def messages(images: list[Image.Image]) -> list[dict[str, Any]]:
        return [{"role": "user", "content": [{"type": "image", "url": image} for image in images]}]

    none.task_dict = {"a_task": {"test": docs}}
    requests = [
        SimpleNamespace(args=("", messages, {"max_new_tokens": 1}, i, "a_task", "test")) for i in range(2)
    ]
    answers = none.generate_until(requests)  # type: ignore[arg-type]
    assert [unscored_reason(answer.text) for answer in answers] == [
        None,
        "image 2 of 2 is of 1005 x 5 pixels: Qwen2-VL takes no side over 200 times the other",
    ]
