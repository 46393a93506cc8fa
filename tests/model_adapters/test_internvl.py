"""InternVL in the native format: spans over tiles, against transformers' own generate and a dense mask."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mimic_eval.records import UserError
from model_adapters.interventions.block.reference import block_mask
from model_adapters.models import Internvl2Mask

pytestmark = pytest.mark.slow
SETTINGS: dict[str, Any] = {"max_new_tokens": 12, "do_sample": False, "temperature": 0, "until": []}
SIZES = [(80, 50), (60, 200), (64, 64), (100, 100), (40, 120), (210, 70)]
"""Width and height; in tiles of 64 pixels they are 2 x 1, 1 x 3, 1, 2 x 2, 1 x 3 and 3 x 1."""
TOKENS = [4 * tiles for tiles in (3, 4, 1, 5, 4, 4)]


def picture(seed: int) -> Image.Image:
    width, height = SIZES[seed % len(SIZES)]
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8))


DOCS = [([picture(n + m) for m in range(n)], f"What is in {n} images?{' And why?' * n}") for n in range(6)]
DOCS += [([picture(m) for m in (3, 1)], "How many?"), ([picture(m) for m in (5, 4, 3, 2)], "Which?")]
IMAGES = [images for images, _ in DOCS]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from model_adapters.tiny import make_tiny_internvl

    path = tmp_path_factory.mktemp("tiny") / "internvl"
    make_tiny_internvl(path, seed=3)
    return path


@pytest.fixture(scope="module")
def none(tiny: Path) -> Internvl2Mask:
    return Internvl2Mask(pretrained=str(tiny), mask="none")


@pytest.fixture(scope="module")
def block(tiny: Path) -> Internvl2Mask:
    return Internvl2Mask(pretrained=str(tiny), mask="block", layers="all")


def prompts(model: Internvl2Mask) -> list[str]:
    return [
        model.family.prompt(
            [
                {
                    "role": "user",
                    "content": [{"type": "image"}] * len(images) + [{"type": "text", "text": text}],
                }
            ]
        )
        for images, text in DOCS
    ]


def texts(model: Internvl2Mask, rows: list[int] | None = None) -> list[str]:
    chosen = range(len(DOCS)) if rows is None else rows
    written = prompts(model)
    replies = model.reply([IMAGES[i] for i in chosen], [written[i] for i in chosen], SETTINGS)
    return [reply.text for reply in replies]


def theirs(tiny: Path, **arguments: Any) -> Any:
    from transformers import InternVLForConditionalGeneration

    return InternVLForConditionalGeneration.from_pretrained(tiny, **{"dtype": torch.float32, **arguments})


def test_none_answers_as_transformers_own_generate(none: Internvl2Mask, tiny: Path) -> None:
    from transformers import AutoProcessor

    model, processor = theirs(tiny), AutoProcessor.from_pretrained(tiny)
    want = []
    for images, prompt in zip(IMAGES, prompts(none), strict=True):
        inputs = processor(images=images or None, text=[prompt], return_tensors="pt")
        out = model.generate(**inputs, max_new_tokens=12, do_sample=False)
        new = out[:, inputs["input_ids"].shape[1] :]
        want.append(processor.batch_decode(new, skip_special_tokens=True)[0])
    assert [texts(none, [i])[0] for i in range(len(DOCS))] == want
    assert len(set(want)) == len(want)  # the checkpoint's answers do depend on the pictures


@pytest.mark.parametrize("name", ["none", "block"])
def test_batches_of_1_and_8_give_the_same_text(name: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(name)
    assert len(DOCS) == 8
    assert texts(model) == [texts(model, [i])[0] for i in range(len(DOCS))]


@pytest.mark.parametrize("pool", [3, 4])  # 3 does not divide the 4 tokens of a tile
def test_pooling_gives_the_same_text_in_batches_and_another_than_no_pooling(
    pool: int, tiny: Path, block: Internvl2Mask
) -> None:
    pooled = Internvl2Mask(pretrained=str(tiny), mask="block", layers="all", pool=pool)
    alone = [texts(pooled, [i])[0] for i in range(len(DOCS))]
    assert texts(pooled) == alone
    unpooled = texts(block)
    assert alone[0] == unpooled[0]  # no picture, nothing to pool
    assert sum(a != b for a, b in zip(alone[1:], unpooled[1:], strict=True)) >= 3
    batch = pooled.family.prepare(IMAGES[3:4], prompts(pooled)[3:4])
    short = pooled.family.embedded(pooled.model, batch, pool=pool)
    assert [span.length for span in short.layouts[0].images] == [-(-TOKENS[i] // pool) for i in (3, 4, 5)]


def test_block_changes_answers_about_several_images_and_none_about_one(
    none: Internvl2Mask, block: Internvl2Mask
) -> None:
    plain, masked = texts(none), texts(block)
    assert plain[:2] == masked[:2]
    assert sum(a != b for a, b in zip(plain[2:], masked[2:], strict=True)) >= 3


@pytest.mark.parametrize(("mask", "prefix"), [("none", False), ("block", False), ("block", True)])
def test_logits_equal_those_of_a_dense_mask_in_transformers(tiny: Path, mask: str, prefix: bool) -> None:
    arguments: dict[str, Any] = {"layers": "all", "prefix": prefix} if mask == "block" else {}
    ours = Internvl2Mask(pretrained=str(tiny), mask=mask, **arguments)
    ours.model.double()
    batch = ours.family.prepare(IMAGES[4:5], prompts(ours)[4:5])
    inputs = batch.inputs.to(torch.float64)
    given = dict(inputs)
    if mask == "block":
        seen = block_mask(batch.layouts[0], prefix=prefix)
        dense = torch.zeros(seen.shape, dtype=torch.float64).masked_fill(
            ~seen, torch.finfo(torch.float64).min
        )
        given["attention_mask"] = dense[None, None]
    want = {}
    for name in ("sdpa", "eager"):
        model = theirs(tiny, dtype=torch.float64, attn_implementation=name)
        with torch.inference_mode():
            want[name] = model(**given).logits
    with torch.inference_mode(), ours.engine.running(ours.model, batch.layouts):
        got = ours.model(**inputs).logits
    tolerance = (want["sdpa"] - want["eager"]).abs().max().item()  # how far transformers' own two ways differ
    assert tolerance < 1e-4
    assert (got - want["eager"]).abs().max().item() <= tolerance


def test_the_tiles_of_an_image_are_one_span_between_its_start_and_end_token(none: Internvl2Mask) -> None:
    batch = none.family.prepare(IMAGES, prompts(none))
    processor = none.family.processor
    for ids, layout, images in zip(batch.inputs["input_ids"], batch.layouts, IMAGES, strict=True):
        places = [next(i for i, own in enumerate(SIZES) if own == image.size) for image in images]
        assert [span.length for span in layout.images] == [TOKENS[i] for i in places]
        for span in layout.images:
            assert set(ids[span.start : span.end].tolist()) == {processor.image_token_id}
            assert ids[span.start - 1] == processor.start_image_token_id
            assert ids[span.end] == processor.end_image_token_id
    assert batch.inputs["pixel_values"].shape[0] * 4 == sum(
        span.length for layout in batch.layouts for span in layout.images
    )


def test_rows_without_images_stand_beside_rows_with_images(none: Internvl2Mask) -> None:
    written = prompts(none)
    batch = none.family.prepare([IMAGES[0], IMAGES[2], IMAGES[0]], [written[0], written[2], written[0]])
    assert [len(layout.images) for layout in batch.layouts] == [0, 2, 0]
    assert none.family.prepare([[]], written[:1]).layouts[0].images == ()


def test_image_features_are_the_tiles_of_each_image(none: Internvl2Mask) -> None:
    batch = none.family.prepare(IMAGES[2:4], prompts(none)[2:4])
    with torch.inference_mode():
        features = none.family.image_features(none.model, batch)
    assert [len(image.tokens) for image in features] == [
        s.length for row in batch.layouts for s in row.images
    ]
    alone = none.family.prepare([IMAGES[3][1:2]], [prompts(none)[1]])
    with torch.inference_mode():
        (want,) = none.family.image_features(none.model, alone)
    assert torch.allclose(features[3].tokens, want.tokens, atol=1e-5)


def test_image_tokens_that_do_not_add_up_are_refused(none: Internvl2Mask) -> None:
    batch = none.family.prepare(IMAGES[2:3], prompts(none)[2:3])
    with pytest.raises(ValueError, match="3 images should be in the prompt, the processor made 2"):
        none.family.layouts(batch.inputs, [3])
    second = batch.layouts[0].images[1]
    text = int(batch.inputs["input_ids"][0, -1])
    for place, message in (
        (second.start, f"the {second.length - 1} tokens of image 2 are not an integer number of tiles of 4"),
        (second.end, "the tokens of image 2 lack their start or end token"),
    ):
        ids = batch.inputs["input_ids"].clone()
        ids[0, place] = text
        with pytest.raises(ValueError, match=message):
            none.family.layouts({**batch.inputs, "input_ids": ids}, [2])
    fewer = {**batch.inputs, "pixel_values": batch.inputs["pixel_values"][1:]}
    made = sum(span.length for span in batch.layouts[0].images)
    with pytest.raises(
        ValueError, match=f"should fill {made - 4} tokens of the prompts, the processor made {made}"
    ):
        none.family.layouts(fewer, [2])


def test_a_lora_adapter_is_used_as_peft_itself_uses_it(
    tiny: Path, tmp_path: Path, none: Internvl2Mask
) -> None:
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoProcessor

    torch.manual_seed(0)
    config = LoraConfig(
        r=4, target_modules=r".*language_model.*\.(q|v)_proj", init_lora_weights=False, lora_alpha=32
    )
    get_peft_model(theirs(tiny), config).save_pretrained(tmp_path / "lora")
    ours = Internvl2Mask(pretrained=str(tiny), mask="none", peft=str(tmp_path / "lora"))
    model, processor = (
        PeftModel.from_pretrained(theirs(tiny), tmp_path / "lora"),
        AutoProcessor.from_pretrained(tiny),
    )
    inputs = processor(images=IMAGES[3], text=[prompts(ours)[3]], return_tensors="pt")
    out = model.generate(**inputs, max_new_tokens=12, do_sample=False)
    want = processor.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert texts(ours, [3]) == want
    assert texts(none, [3]) != want


@pytest.mark.parametrize("size", [(80, 50), (60, 200), (64, 64), (210, 70)])
def test_places_are_where_the_processor_put_a_bright_spot(none: Internvl2Mask, size: tuple[int, int]) -> None:
    """One bright spot at a time goes through the real processor: a token's pixels are 32 x 32 of its tile."""
    width, height = size
    processor, dark = none.family.processor, np.zeros((height, width, 3), dtype=np.uint8)
    black = processor.image_processor(images=[Image.fromarray(dark)], return_tensors="pt")["pixel_values"]
    found = set()
    for x in range(4, width - 4, 8):
        for y in range(4, height - 4, 8):
            bright = dark.copy()
            bright[y - 3 : y + 3, x - 3 : x + 3] = 255
            image = Image.fromarray(bright)
            batch = none.family.prepare([[image]], [prompts(none)[1]])
            ((places,),) = none.family.places(batch.inputs, [[image]])
            light = (batch.inputs["pixel_values"] - black).sum(1).unflatten(1, (2, 32)).unflatten(3, (2, 32))
            tokens = light.sum((2, 4)).flatten(1)  # of each tile, row by row
            box = torch.tensor([[x - 3, y - 3, x + 3, y + 3]]) / torch.tensor([width, height] * 2)
            shown = places.overlapping(box)
            assert places.length == tokens.numel() == batch.layouts[0].images[0].length
            tiles = len(tokens) - (len(tokens) > 1)
            lit = [int(tokens[:tiles].argmax())] + [tiles * 4 + int(tokens[-1].argmax())] * (len(tokens) > 1)
            assert shown[lit].all()
            found.update(lit)
    assert found == set(range(places.length))


def test_places_that_do_not_fill_the_spans_are_refused(none: Internvl2Mask) -> None:
    batch = none.family.prepare([[picture(0)]], [prompts(none)[1]])
    with pytest.raises(ValueError, match=r"images of \[16\] tokens do not fill spans of \[12\]"):
        none.family.places(batch.inputs, [[picture(1)]])


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("model.safetensors", None, "SafetensorError"),
        ("model.safetensors", b"", "its config.json asks for at least "),
        ("tokenizer.json", b"{}", "KeyError"),
    ],
)
def test_a_broken_native_checkpoint_is_refused_in_one_line(
    tiny: Path, tmp_path: Path, file: str, content: bytes | None, message: str
) -> None:
    shutil.copytree(tiny, tmp_path / "broken")
    path = tmp_path / "broken" / file
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if content is None else content)
    with pytest.raises(UserError) as error:
        Internvl2Mask(pretrained=str(tmp_path / "broken"))
    assert str(error.value).startswith(f"pretrained={tmp_path / 'broken'} cannot be loaded: {message}")
    assert "\n" not in str(error.value)
