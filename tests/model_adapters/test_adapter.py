"""The adapter on real checkpoints on disk: against transformers' own generate and against a dense mask."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mimic_eval.records import UserError, announced_parameters, announced_run, unscored_reason
from model_adapters.interventions.block import BlockOptions
from model_adapters.interventions.block.reference import block_mask
from model_adapters.models import LlavaOvMask
from model_adapters.options import AdapterOptions, parse_arg_string

GREEDY = {"max_new_tokens": 12, "do_sample": False, "temperature": 0, "until": ["\n\n"]}


def picture(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 255, (50 + 7 * seed, 80, 3), dtype=np.uint8))


DOCS = [
    ([picture(10 * n + m) for m in range(n)], f"Question: what is in {n} images?{' And why?' * n}")
    for n in (2, 4, 1, 3)
]
IMAGES = [images for images, _ in DOCS]


def prompts(model: LlavaOvMask) -> list[str]:
    return [
        model.family.prompt(
            [
                {
                    "role": "user",
                    "content": [*({"type": "image"} for _ in images), {"type": "text", "text": text}],
                }
            ]
        )
        for images, text in DOCS
    ]


def texts(model: LlavaOvMask, rows: list[int] | None = None) -> list[str]:
    chosen = range(len(DOCS)) if rows is None else rows
    all_prompts = prompts(model)
    replies = model.reply(
        [IMAGES[i] for i in chosen], [all_prompts[i] for i in chosen], {**GREEDY, "until": []}
    )
    return [reply.text for reply in replies]


@pytest.fixture(scope="module")
def none(tiny: Path) -> LlavaOvMask:
    return LlavaOvMask(pretrained=str(tiny), mask="none")


@pytest.fixture(scope="module")
def block(tiny: Path) -> LlavaOvMask:
    return LlavaOvMask(pretrained=str(tiny), mask="block", layers="all")


def test_none_answers_as_transformers_own_generate(none: LlavaOvMask, tiny: Path) -> None:
    from transformers import AutoProcessor, LlavaOnevisionForConditionalGeneration

    theirs = LlavaOnevisionForConditionalGeneration.from_pretrained(tiny, dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(tiny)
    want = []
    for images, prompt in zip(IMAGES, prompts(none), strict=True):
        inputs = processor(images=[images], text=[prompt], return_tensors="pt")
        out = theirs.generate(**inputs, max_new_tokens=12, do_sample=False)
        want.append(
            processor.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)[0]
        )
    assert [texts(none, [i])[0] for i in range(len(DOCS))] == want
    assert len(set(want)) == len(want)  # the checkpoint's answers do depend on the pictures


@pytest.mark.parametrize("name", ["none", "block"])
def test_batches_of_1_and_4_give_the_same_text(name: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(name)
    assert texts(model) == [texts(model, [i])[0] for i in range(len(DOCS))]


def test_block_changes_answers_about_several_images_and_none_about_one(
    none: LlavaOvMask, block: LlavaOvMask
) -> None:
    plain, masked = texts(none), texts(block)
    assert plain[2] == masked[2]
    assert any(plain[i] != masked[i] for i in (0, 1, 3))


@pytest.mark.parametrize("prefix", [False, True])
def test_block_in_the_model_equals_a_dense_mask_in_transformers(tiny: Path, prefix: bool) -> None:
    from transformers import LlavaOnevisionForConditionalGeneration

    ours = LlavaOvMask(pretrained=str(tiny), layers="all", prefix=prefix)
    ours.model.double()
    batch = ours.family.prepare(IMAGES[1:2], prompts(ours)[1:2])
    inputs = batch.inputs.to(torch.float64)
    mask = block_mask(batch.layouts[0], prefix=prefix)
    dense = torch.zeros(mask.shape, dtype=torch.float64).masked_fill(~mask, torch.finfo(torch.float64).min)
    want = {}
    for name in ("sdpa", "eager"):
        theirs = LlavaOnevisionForConditionalGeneration.from_pretrained(
            tiny, dtype=torch.float64, attn_implementation=name
        )
        with torch.inference_mode():
            want[name] = theirs(**{**inputs, "attention_mask": dense[None, None]}).logits
    with torch.inference_mode(), ours.engine.running(ours.model, batch.layouts):
        got = ours.model(**inputs).logits
    tolerance = (want["sdpa"] - want["eager"]).abs().max().item()  # how far transformers' own two ways differ
    assert tolerance < 1e-4
    assert (got - want["sdpa"]).abs().max().item() <= tolerance


def test_spans_come_from_the_processor_and_include_the_newline(none: LlavaOvMask) -> None:
    batch = none.family.prepare(IMAGES, prompts(none))
    per_image = (48 // 8) ** 2 + 1
    for layout, images in zip(batch.layouts, IMAGES, strict=True):
        assert len(layout.images) == len(images)
        if len(images) > 1:
            assert {span.length for span in layout.images} == {per_image}
        ids = batch.inputs["input_ids"][batch.layouts.index(layout)]
        tokens = sum(span.length for span in layout.images)
        assert tokens == int((ids == none.family.processor.image_token_id).sum())


def test_a_sequence_whose_image_tokens_do_not_add_up_is_refused(none: LlavaOvMask) -> None:
    batch = none.family.prepare(IMAGES[:1], prompts(none)[:1])
    with pytest.raises(
        ValueError, match="3 images should fill 111 tokens of the prompt, the processor made 74"
    ):
        none.family.layouts(batch.inputs, [3])


def test_a_model_called_outside_of_the_engine_says_so(none: LlavaOvMask) -> None:
    batch = none.family.prepare(IMAGES[:1], prompts(none)[:1])
    with pytest.raises(RuntimeError, match=r"outside of Engine\.running"):
        none.model(**batch.inputs)


def test_a_lora_adapter_is_used_as_peft_itself_uses_it(tiny: Path, tmp_path: Path, none: LlavaOvMask) -> None:
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoProcessor, LlavaOnevisionForConditionalGeneration

    base = LlavaOnevisionForConditionalGeneration.from_pretrained(tiny, dtype=torch.float32)
    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    get_peft_model(base, config).save_pretrained(tmp_path / "lora")
    ours = LlavaOvMask(pretrained=str(tiny), mask="none", peft=str(tmp_path / "lora"))
    fresh = LlavaOnevisionForConditionalGeneration.from_pretrained(tiny, dtype=torch.float32)
    theirs = PeftModel.from_pretrained(fresh, tmp_path / "lora")
    processor = AutoProcessor.from_pretrained(tiny)
    inputs = processor(images=[IMAGES[0]], text=[prompts(ours)[0]], return_tensors="pt")
    out = theirs.generate(**inputs, max_new_tokens=12, do_sample=False)
    want = processor.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert texts(ours, [0]) == want
    assert texts(none, [0]) != want


def test_the_run_record_holds_what_follows_from_the_arguments(tiny: Path) -> None:
    model = LlavaOvMask(pretrained=str(tiny))
    record = announced_run()
    assert announced_parameters() == model.model.num_parameters()
    assert "parameters" not in record  # two runs of one checkpoint, of which only one counted, are one entry
    assert (record["mask"], record["layers"], record["depth"], record["prefix"]) == ("block", "3-5", 6, False)
    assert (record["checkpoint"], record["checkpoint_kind"], record["dtype"]) == (
        str(tiny),
        "random",
        "float32",
    )


class Request:
    """What upstream hands to a chat model."""

    def __init__(self, doc_id: int, messages: Any) -> None:
        self.args = ("", messages, dict(GREEDY), doc_id, "mimic_counting", "test")


def test_a_broken_picture_makes_its_doc_unscored_and_no_other(
    none: LlavaOvMask, capsys: pytest.CaptureFixture[str]
) -> None:
    import io

    from mimic_tasks.lmms_hooks import doc_to_messages

    def stored(image: Image.Image, keep: int | None = None) -> dict[str, Any]:
        file = io.BytesIO()
        image.save(file, "PNG")
        return {"bytes": file.getvalue()[:keep], "path": None}

    docs = [
        {"images": [stored(picture(1)), stored(picture(2))], "question": "How many?", "image_ids": [7, 8]},
        {
            "images": [stored(picture(1)), stored(picture(2), keep=900)],
            "question": "How many?",
            "image_ids": [7, 9],
        },
        {"images": [{"bytes": b"nonsense"}], "question": "How many?"},
    ]
    none.task_dict = {"mimic_counting": {"test": docs}}
    answers = none.generate_until([Request(i, doc_to_messages) for i in range(3)])  # type: ignore[list-item]
    reasons = [unscored_reason(answer.text) for answer in answers]
    assert reasons[0] is None
    assert str(reasons[1]).startswith("image 2 of 2 (id 9) cannot be decoded: ")
    assert reasons[2] == "image 1 of 1 not a JPEG, PNG, WebP, BMP, TIFF or GIF picture"
    said = capsys.readouterr().err
    assert "2 of 3 docs are unscored:" in said
    assert "mimic_counting doc 1: image 2 of 2 (id 9)" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mask": "bloc"}, "Unknown mask 'bloc'. Did you mean 'block'? Valid: ar, block, "),
        ({"maks": "block"}, "Unknown model argument 'maks'. Did you mean 'mask'?"),
        ({"layers": "12-27"}, "layers must be within 0-5 for a 6-layer decoder, got 12-27"),
        (
            {"layers": "upper"},
            "layers must be all, second_half, first_half, none, 12, 12-23, a slice like ::2 or 2:-1, or "
            "several joined by +; got 'upper'",
        ),
        ({"layers": "4-2"}, "layers must be within 0-5 for a 6-layer decoder, got 4-2"),
        ({"mask": "none", "layers": "all"}, "layers=all is not used by mask=none"),
        ({"mask": "none", "prefix": True}, "prefix=True is not used by mask=none"),
        ({"prefix": "yes"}, "prefix must be true or false, got 'yes'"),
        ({"pool": "0"}, "pool must be an integer within 1-64, got 0"),
        ({"pool": 65}, "pool must be an integer within 1-64, got 65"),
        ({"pool": "2.5"}, "pool must be an integer within 1-64, got '2.5'"),
        ({"pool": True}, "pool must be an integer within 1-64, got True"),
        ({"mask": "none", "pool": "-1"}, "pool must be an integer within 1-64, got '-1'"),
        ({"order": "reverse"}, "Unknown order 'reverse'. Did you mean 'reversed'? Valid: fixed, reversed, "),
        (
            {"order": "seeded:x"},
            "SEED in order=seeded:SEED must be an integer of 1 to 18 digits, got 'x'",
        ),
        ({"dtype": "float8"}, "Unknown dtype 'float8'"),
        ({"batch_size": "auto"}, "batch_size must be an integer of at least 1, got 'auto'"),
        ({"peft": "/no/such/adapter"}, "peft=/no/such/adapter: no such folder"),
    ],
)
def test_each_wrong_argument_is_said_in_one_line(arguments: dict[str, Any], message: str, tiny: Path) -> None:
    with pytest.raises(UserError) as error:
        LlavaOvMask(pretrained=str(tiny), **arguments)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_wrong_path_is_said_before_anything_is_loaded() -> None:
    with pytest.raises(UserError, match=r"pretrained=/no/such/model: no such folder"):
        LlavaOvMask(pretrained="/no/such/model")


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be loaded"):
        LlavaOvMask(pretrained=str(tmp_path))


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path: Path) -> None:
    from transformers import Qwen2Config

    Qwen2Config(hidden_size=32, num_hidden_layers=1).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"is a 'qwen2' checkpoint, but LLaVA-OneVision \('llava_onevision'"):
        LlavaOvMask(pretrained=str(tmp_path))


def test_a_checkpoint_that_lacks_weights_is_refused_and_not_filled_with_noise(
    tiny: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(tiny, tmp_path / "cut")
    weights = load_file(tmp_path / "cut/model.safetensors")
    del weights[
        next(name for name in weights if "layers.2.self_attn.q_proj.weight" in name and "language" in name)
    ]
    save_file(weights, tmp_path / "cut/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        UserError, match=r"does not fit its config: it lacks .*layers\.2\.self_attn\.q_proj\.weight"
    ):
        LlavaOvMask(pretrained=str(tmp_path / "cut"))


def test_model_args_are_read_as_upstream_reads_them() -> None:
    given = parse_arg_string("pretrained=a/b,layers=3,prefix=true", {"batch_size": 4, "device": None})
    assert given == {"pretrained": "a/b", "layers": "3", "prefix": True, "batch_size": 4}
    options = AdapterOptions.parse(given)
    general = options.general
    assert (general.layers, general.batch_size, general.mask) == ("3", 4, "block")
    assert options.mask == BlockOptions(prefix=True)
    for text, message in (
        ("mask", "'mask' has no '='"),
        ("mask=block,mask=none", "gives 'mask' twice"),
        ("device=cpu", "--device cuda:1 and device=cpu in --model_args disagree"),
    ):
        with pytest.raises(UserError, match=message):
            parse_arg_string(text, {"device": "cuda:1"})


def test_generation_settings_that_are_not_served_are_refused(none: LlavaOvMask) -> None:
    from model_adapters.generation import cut_at_stops, generate_arguments

    with pytest.raises(UserError, match="num_beams=4: the "):
        generate_arguments({"num_beams": 4})
    with pytest.raises(UserError, match="Unknown generation setting 'max_tokens'"):
        generate_arguments({"max_tokens": 4})
    assert generate_arguments(GREEDY)["do_sample"] is False
    assert cut_at_stops("a\n\nb", ["\n\n"]) == "a"


def test_the_embedded_checkpoint_says_what_it_is() -> None:
    from model_adapters.disk import NOTE
    from model_adapters.loading import EMBEDDED

    for note in EMBEDDED.glob(f"*/{NOTE}"):
        assert json.loads(note.read_text())["kind"] in ("random", "trained")
    assert (EMBEDDED / "llava_onevision" / NOTE).is_file()
