"""LLaVA-Interleave: spans without an end token, against transformers' own generate and a dense mask."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mimic_eval.records import UserError, announced_run
from model_adapters.families.llava import Llava
from model_adapters.interventions.block.reference import block_mask
from model_adapters.models import LlavaOvMask, Qwen2VLMask

SETTINGS: dict[str, Any] = {"max_new_tokens": 12, "do_sample": False, "until": []}


def picture(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 255, (50 + 7 * seed, 80, 3), dtype=np.uint8))


DOCS = [
    ([picture(3 * n + m) for m in range(n)], f"What is in {n}?{' And why?' * n}") for n in (2, 4, 0, 1, 3)
]
IMAGES = [images for images, _ in DOCS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from model_adapters.tiny import make_tiny_llava

    path = tmp_path_factory.mktemp("tiny") / "llava"
    make_tiny_llava(path, seed=3)
    return path


def made(folder: Path, **arguments: Any) -> LlavaOvMask:
    return LlavaOvMask(pretrained=str(folder), journal="off", **arguments)


def prompts(model: LlavaOvMask) -> list[str]:
    return [
        model.family.prompt(
            [{"role": "user", "content": [{"type": "image"}] * len(own) + [{"type": "text", "text": text}]}]
        )
        for own, text in DOCS
    ]


def texts(model: LlavaOvMask, rows: list[int] | None = None) -> list[str]:
    chosen = range(len(DOCS)) if rows is None else rows
    written = prompts(model)
    replies = model.reply([IMAGES[i] for i in chosen], [written[i] for i in chosen], SETTINGS)
    return [reply.text for reply in replies]


def theirs(folder: Path, **arguments: Any) -> Any:
    from transformers import LlavaForConditionalGeneration

    return LlavaForConditionalGeneration.from_pretrained(folder, **arguments)


def test_none_answers_as_transformers_own_generate(folder: Path) -> None:
    from transformers import AutoProcessor

    model, processor = theirs(folder, dtype=torch.float32), AutoProcessor.from_pretrained(folder)
    ours = made(folder, mask="none")
    want = []
    for images, written in zip(IMAGES, prompts(ours), strict=True):
        inputs = processor(images=images or None, text=[written], return_tensors="pt")
        out = model.generate(**inputs, max_new_tokens=12, do_sample=False)
        want += processor.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert texts(ours) == want == [texts(ours, [i])[0] for i in range(len(DOCS))]
    assert len(set(want)) == len(want)
    assert announced_run()["family"] == "llava"


@pytest.mark.parametrize("pool", ["1", "5"])
def test_batches_of_1_and_5_give_the_same_text(folder: Path, pool: str) -> None:
    model = made(folder, layers="all", pool=pool)
    assert texts(model) == [texts(model, [i])[0] for i in range(len(DOCS))]


def test_block_equals_a_dense_mask_in_transformers(folder: Path) -> None:
    ours = made(folder, layers="all")
    ours.model.double()
    batch = ours.family.prepare(IMAGES[1:2], prompts(ours)[1:2])
    inputs = batch.inputs.to(torch.float64)
    mask = block_mask(batch.layouts[0])
    dense = torch.zeros(mask.shape, dtype=torch.float64).masked_fill(~mask, torch.finfo(torch.float64).min)
    want = {}
    for name in ("sdpa", "eager"):
        model = theirs(folder, dtype=torch.float64, attn_implementation=name)
        with torch.inference_mode():
            want[name] = model(**{**inputs, "attention_mask": dense[None, None]}).logits
    with torch.inference_mode(), ours.engine.running(ours.model, batch.layouts):
        got = ours.model(**inputs).logits
    tolerance = (want["sdpa"] - want["eager"]).abs().max().item()
    assert tolerance < 1e-4
    assert (got - want["sdpa"]).abs().max().item() <= tolerance


def test_images_side_by_side_are_told_apart(folder: Path) -> None:
    family = made(folder, mask="none").family
    batch = family.prepare([IMAGES[1]], ["<image><image> and <image>\n<image>?"])
    lengths = [span.length for span in batch.layouts[0].images]
    assert lengths == [36] * 4
    assert batch.layouts[0].images[1].start == batch.layouts[0].images[0].end
    with pytest.raises(ValueError, match="5 images should fill 180 tokens of the prompt, the pro"):
        family.layouts(batch.inputs, [5])


def bright(width: int, height: int, x: int, y: int) -> Image.Image:
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[y : y + 8, x : x + 8] = 255
    return Image.fromarray(pixels)


@pytest.mark.parametrize("crop", [False, True])
def test_places_are_where_the_processor_put_a_bright_spot(folder: Path, crop: bool) -> None:
    """Of a picture that is cut in the middle, as LLaVA-1.5's CLIP does it, only the middle has places."""
    from transformers import CLIPImageProcessor

    family = made(folder, mask="none").family
    if crop:
        family.processor.image_processor = CLIPImageProcessor(
            size={"shortest_edge": 48}, crop_size={"height": 48, "width": 48}
        )
    found = set()
    for width, height in ((96, 48), (60, 120), (48, 48)):
        for x in range(0, width - 7, 6):
            for y in range(0, height - 7, 6):
                images = [[bright(width, height, x, y)]]
                batch = family.prepare(images, ["<image>?"])
                pixels = batch.inputs["pixel_values"][0].sum(0)
                light = (pixels - pixels.min()).reshape(6, 8, 6, 8).sum((1, 3)).flatten()
                ((place,),) = family.places(batch.inputs, images)
                box = torch.tensor([[x, y, x + 8, y + 8]]) / torch.tensor([width, height] * 2)
                shown = place.overlapping(box)
                if light.max() > 20:
                    assert shown[light.argmax()]
                    found.add(int(light.argmax()))
                assert crop or shown.any()
    assert found == set(range(36))


def test_a_class_token_that_is_kept_is_of_no_place(folder: Path) -> None:
    family = made(folder, mask="none").family
    ((plain, _),) = family.places(family.prepare([IMAGES[0]], ["<image><image>?"]).inputs, [IMAGES[0]])
    family.processor.num_additional_image_tokens = 1
    batch = family.prepare([IMAGES[0]], prompts(made(folder, mask="none"))[:1])
    assert [span.length for span in batch.layouts[0].images] == [37, 37]
    for place in family.places(batch.inputs, [IMAGES[0]])[0]:
        assert place.token.tolist() == list(range(1, 37))  # one before the patches
        assert torch.equal(place.parts, plain.parts)


def test_a_tower_without_a_class_token_loses_its_first_patch_where_the_config_drops_one(folder: Path) -> None:
    """So it is in Mantis: transformers takes the first of the tower's tokens away, whatever it is."""
    family = made(folder, mask="none").family
    family.processor.vision_feature_select_strategy = "default"
    batch = family.prepare([IMAGES[0]], prompts(made(folder, mask="none"))[:1])
    assert [span.length for span in batch.layouts[0].images] == [35, 35]
    (place, _) = family.places(batch.inputs, [IMAGES[0]])[0]
    assert place.token.tolist() == list(range(35))
    assert place.parts[0].tolist() == pytest.approx([1 / 6, 0, 2 / 6, 1 / 6])


def test_another_model_does_not_take_it(folder: Path) -> None:
    with pytest.raises(UserError, match=r"is a 'llava' checkpoint, but Qwen2-VL \('qwen2_vl', the -hf"):
        Qwen2VLMask(pretrained=str(folder))
    assert [own.model_type for own in LlavaOvMask.families] == ["llava_onevision", Llava.model_type]
