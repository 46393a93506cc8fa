"""InternVL2's original layout: what is loaded and what is written equals the original layers (METHODS 12)."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from mimic_eval.records import UserError
from model_adapters.internvl2 import OriginalCheckpoint, convert
from model_adapters.models import Internvl2Mask, LlavaOvMask
from tests.conftest import Command
from tests.oracles import internvl2 as reference

MESSAGES = [
    {
        "role": "user",
        "content": [*[{"type": "image"}] * 2, {"type": "text", "text": "How many cats are there?"}],
    }
]
ENDS = {"1B": "<|im_end|>", "2B": "<|im_end|>", "4B": "<|end|>", "40B": "<|im_end|>", "26B": "<|im_end|>"}


def picture(seed: int, width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8))


PICTURES = [picture(1, 80, 50), picture(2, 60, 200)]


def original_weights(folder: Path) -> reference.Weights:
    return {k: v for file in sorted(folder.glob("*.safetensors")) for k, v in load_file(file).items()}


def seen(model: Internvl2Mask) -> tuple[Any, torch.Tensor]:
    """The inputs and logits of a prompt with two pictures, in float64."""
    model.model.double()
    batch = model.family.prepare([PICTURES], [model.family.prompt(MESSAGES)])
    inputs = batch.inputs.to(torch.float64)
    with torch.inference_mode(), model.engine.running(model.model, batch.layouts):
        return inputs, model.model(**inputs).logits[0]


def compare(folder: Path, model: Internvl2Mask) -> tuple[float, float]:
    """How far the model is from the original layers, and what is allowed: twice their own error in float32.

    The model runs in float64, but transformers' RoPE and RMSNorm compute in float32: an error of that kind.
    """
    inputs, got = seen(model)
    config = json.loads((folder / "config.json").read_text())
    want = {}
    for dtype in (torch.float64, torch.float32):
        weights = {key: weight.to(dtype) for key, weight in original_weights(folder).items()}
        want[dtype] = reference.logits(
            weights,
            config,
            inputs["input_ids"][0],
            inputs["pixel_values"].to(dtype),
            image_token=model.family.processor.image_token_id,
        )
    tolerance = 2 * (want[torch.float64] - want[torch.float32]).abs().max().item()
    assert tolerance < 1e-4
    assert want[torch.float64].std() > 0.5
    return (got - want[torch.float64]).abs().max().item(), tolerance


@pytest.mark.parametrize("kind", reference.KINDS)
def test_the_loaded_model_says_what_the_original_layers_say(kind: str, originals: dict[str, Path]) -> None:
    model = Internvl2Mask(pretrained=str(originals[kind]), mask="none")
    apart, tolerance = compare(originals[kind], model)
    assert apart <= tolerance
    end = model.model.generation_config.eos_token_id
    assert model.family.processor.tokenizer.convert_ids_to_tokens(end) == ENDS[kind]


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("2B", {"rope_scaling": {"type": "linear", "factor": 3.0}}),
        ("2B", {"rope_scaling": None, "bias": True}),
        ("2B", {"num_attention_heads": 8, "num_key_value_heads": 2}),
        ("2B", {"num_key_value_heads": 4}),
        ("4B", {"rope_scaling": None}),
        ("4B", {"original_max_position_embeddings": 512}),
    ],
)
def test_other_decoders_of_a_kind_say_it_too(kind: str, changes: dict[str, Any], tmp_path: Path) -> None:
    reference.make_original(tmp_path / "o", kind, llm_config=changes)
    apart, tolerance = compare(tmp_path / "o", Internvl2Mask(pretrained=str(tmp_path / "o"), mask="none"))
    assert apart <= tolerance


def test_the_comparison_would_notice_a_wrong_order_of_the_rows_of_wqkv(
    originals: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from model_adapters.internvl2.weights import Grouping

    def all_queries_first(self: Grouping, wqkv: torch.Tensor, name: str) -> torch.Tensor:
        width = len(wqkv) // (self.heads + 2 * self.kv_heads)
        parts = wqkv.split([self.heads * width, self.kv_heads * width, self.kv_heads * width])
        return parts["qkv".index(name)].contiguous()

    monkeypatch.setattr(Grouping, "part", all_queries_first)
    model = Internvl2Mask(pretrained=str(originals["2B"]), mask="none")
    apart, tolerance = compare(originals["2B"], model)
    assert apart > 1000 * tolerance


@pytest.mark.parametrize("kind", reference.KINDS)
def test_what_is_written_loads_as_a_native_checkpoint_and_is_the_same(
    kind: str, originals: dict[str, Path], tmp_path: Path
) -> None:
    from transformers import AutoConfig, AutoProcessor, InternVLForConditionalGeneration

    convert(str(originals[kind]), tmp_path / "out")
    assert AutoConfig.from_pretrained(tmp_path / "out").model_type == "internvl"
    ours, again = (
        Internvl2Mask(pretrained=str(path), mask="none") for path in (originals[kind], tmp_path / "out")
    )
    assert ours.family.prompt(MESSAGES) == again.family.prompt(MESSAGES)
    (inputs, want), (inputs_again, got) = seen(ours), seen(again)
    assert inputs.keys() == inputs_again.keys()
    assert all(torch.equal(inputs[key], inputs_again[key]) for key in inputs)
    assert torch.equal(want, got)
    for key in ("eos_token_id", "pad_token_id"):
        pair = [getattr(model.model.generation_config, key) for model in (ours, again)]
        assert pair[0] == pair[1]
    _, report = InternVLForConditionalGeneration.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(report.values())
    assert AutoProcessor.from_pretrained(tmp_path / "out").tokenizer.padding_side == "left"


ROWS = [PICTURES, PICTURES[:1], PICTURES[::-1]]


def prompts(model: Internvl2Mask) -> list[str]:
    text = {"type": "text", "text": "How many cats are there?"}
    return [
        model.family.prompt([{"role": "user", "content": [*[{"type": "image"}] * len(row), text]}])
        for row in ROWS
    ]


def test_block_masking_works_on_an_original_checkpoint_in_batches(originals: dict[str, Path]) -> None:
    settings = {"max_new_tokens": 8, "do_sample": False, "until": []}
    answers = {}
    for mask in ("none", "block"):
        layers = {"layers": "all"} if mask == "block" else {}
        model = Internvl2Mask(pretrained=str(originals["1B"]), mask=mask, **layers)
        written = prompts(model)
        answers[mask] = [reply.text for reply in model.reply(ROWS, written, settings)]
        alone = [
            model.reply([row], [text], settings)[0].text for row, text in zip(ROWS, written, strict=True)
        ]
        assert answers[mask] == alone
    assert answers["none"][1] == answers["block"][1]
    assert answers["none"] != answers["block"]


@pytest.mark.parametrize("kind", ["2B", "4B"])
def test_frequencies_that_follow_the_length_depend_on_the_own_row_alone(kind: str, tmp_path: Path) -> None:
    """Of a batch, of which only the longer rows are beyond the length at which the frequencies change."""
    reference.make_original(tmp_path / "probe", kind)
    probe = Internvl2Mask(pretrained=str(tmp_path / "probe"), mask="none")
    layouts = probe.family.prepare(ROWS, prompts(probe)).layouts
    short, long = (layout.length - layout.padding for layout in (layouts[1], layouts[0]))
    key = "max_position_embeddings" if kind == "2B" else "original_max_position_embeddings"
    between = {key: (short + long) // 2}
    reference.make_original(tmp_path / "o", kind, llm_config=between)
    model = Internvl2Mask(pretrained=str(tmp_path / "o"), mask="none")
    model.model.double()

    def last(rows: list[int]) -> torch.Tensor:
        written = prompts(model)
        batch = model.family.prepare([ROWS[i] for i in rows], [written[i] for i in rows])
        inputs = batch.inputs.to(torch.float64)
        places = (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)
        with torch.inference_mode(), model.engine.running(model.model, batch.layouts):
            return torch.as_tensor(model.model(**inputs, position_ids=places).logits[:, -1])

    first = last([1])
    together, after = last([0, 1, 2]), last([1])
    assert torch.equal(first, after)  # a longer doc in between changes nothing
    assert (together[1] - first[0]).abs().max() < 1e-9
    assert (together[0] - last([0])[0]).abs().max() < 1e-9
    apart, tolerance = compare(tmp_path / "o", model)
    assert apart <= tolerance


def test_tied_embeddings_are_the_head(tmp_path: Path) -> None:
    reference.make_original(tmp_path / "o", "1B", llm_config={"tie_word_embeddings": True})
    model = Internvl2Mask(pretrained=str(tmp_path / "o"), mask="none")
    assert model.model.lm_head.weight is model.model.get_input_embeddings().weight
    convert(str(tmp_path / "o"), tmp_path / "out")
    again = Internvl2Mask(pretrained=str(tmp_path / "out"), mask="none")
    assert torch.equal(seen(model)[1], seen(again)[1])


def test_auto_keeps_the_checkpoints_dtype_when_it_is_asked_for(
    originals: dict[str, Path], tmp_path: Path
) -> None:
    from model_adapters.families.internvl import Internvl
    from model_adapters.loading import load_family

    reference.make_original(tmp_path / "o", "1B", torch_dtype="bfloat16")
    model, _ = load_family(Internvl, str(tmp_path / "o"), dtype="auto", device="cpu", peft=None)
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}


# ---- pictures


def test_tiles_are_the_original_preprocessings(tmp_path: Path) -> None:
    """The same tiles for every size; PIL's and torchvision's bicubic pixels differ by up to two levels."""
    reference.make_original(tmp_path / "o", "1B", max_dynamic_patch=12)
    processor = OriginalCheckpoint(str(tmp_path / "o")).make_processor().image_processor
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    draw = np.random.default_rng(5)
    sizes = [tuple(draw.integers(20, 500, 2).tolist()) for _ in range(60)] + [
        (640, 480),
        (448, 448),
        (56, 56),
    ]
    for width, height in sizes:
        smooth = picture(width, 9, 7).resize((width, height), Image.Resampling.BILINEAR)
        want = reference.tiles(smooth, size=reference.TILE, most=12)
        got = processor(smooth, return_tensors="pt")["pixel_values"]
        assert len(got) == len(want) == int(processor(smooth, return_tensors="pt")["num_patches"][0])
        levels = ((got.permute(0, 2, 3, 1) * std + mean) * 255).round()
        expected = torch.tensor(np.stack([np.asarray(tile) for tile in want]), dtype=torch.float32)
        assert (levels - expected).abs().max() <= 2


def test_a_checkpoint_without_dynamic_tiles_gets_one_tile(tmp_path: Path) -> None:
    reference.make_original(tmp_path / "o", "1B", dynamic_image_size=False, use_thumbnail=False)
    processor = OriginalCheckpoint(str(tmp_path / "o")).make_processor()
    inputs = processor(images=[PICTURES[1]], text=["<IMG_CONTEXT>"], return_tensors="pt")
    assert len(inputs["pixel_values"]) == 1


# ---- refusals

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("1B", {"ps_version": "v1"}, "its ps_version is v1: only v2 (InternVL2 and later) can be converted"),
    ("1B", {"select_layer": -4}, "its select_layer is -4: only -1 can be converted"),
    ("1B", {"force_image_size": 224}, "its force_image_size is 224, its vision tower's image_size 56"),
    ("1B", {"template": "vicuna"}, "Unknown template 'vicuna'. Valid: Hermes-2, internlm2-chat, "),
    ("1B", {"template": "phi3-chat"}, "its tokenizer lacks <|end|>"),
    ("1B", {"use_thumbnail": False}, "its use_thumbnail is false"),
    ("1B", {"pad2square": True}, "its pad2square is true"),
    ("1B", {"use_llm_lora": 16}, "its use_llm_lora is 16: merge the LoRA weights first"),
    ("1B", {"llm_config": {"hidden_size": None}}, "its llm_config has no hidden_size"),
    ("26B", {"vision_config": {"layer_norm_eps": 1e-5}}, "its qk_normalization has layer_norm_eps 1e-05"),
    (
        "2B",
        {"llm_config": {"rope_scaling": {"type": "yarn", "factor": 2.0}}},
        "its rope_scaling is yarn; for ",
    ),
    ("4B", {"llm_config": {"rope_scaling": {"type": "yarn"}}}, "it can be su or longrope"),
    ("2B", {"llm_config": {"rope_pos_id_version": "v2pe"}}, "its rope_pos_id_version is v2pe"),
]


@pytest.mark.parametrize(("kind", "changes", "message"), REFUSED)
def test_what_the_native_class_cannot_do_is_refused_in_one_line(
    kind: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    known = {k: v for k, v in changes.items() if v != {"hidden_size": None}}
    reference.make_original(tmp_path / "o", kind, **known)
    config = json.loads((tmp_path / "o/config.json").read_text())
    config["llm_config"].update(changes.get("llm_config", {}))
    (tmp_path / "o/config.json").write_text(json.dumps(config))
    with pytest.raises(UserError) as error:
        Internvl2Mask(pretrained=str(tmp_path / "o"))
    assert str(error.value).startswith(f"pretrained={tmp_path / 'o'} cannot be loaded: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


MALFORMED: list[tuple[str, str, tuple[str, ...], Any, str]] = [
    ("1B", "config.json", ("vision_config",), None, "its config.json does not fit: AttributeError"),
    ("1B", "config.json", ("llm_config",), None, "its config.json does not fit: AttributeError"),
    ("1B", "config.json", ("downsample_ratio",), 0, "its downsample_ratio is 0.0"),
    ("1B", "config.json", ("max_dynamic_patch",), None, "its config.json does not fit: TypeError"),
    ("1B", "config.json", ("max_dynamic_patch",), 0, "its min_dynamic_patch is 1, its max_dynamic_patch 0"),
    ("1B", "config.json", ("torch_dtype",), "float99", "its config.json does not fit: AttributeError"),
    ("1B", "config.json", ("vision_config", "patch_size"), 0, "its vision_config's patch_size is 0"),
    ("1B", "config.json", ("vision_config", "norm_type"), "batch", "KeyError: 'batch'"),
    (
        "1B",
        "config.json",
        ("llm_config", "architectures"),
        ["Gemma"],
        "its language model is Gemma; known are",
    ),
    ("1B", "config.json", ("llm_config", "rms_norm_eps"), "x", "its config.json does not fit: Strict"),
    (
        "2B",
        "config.json",
        ("llm_config", "rope_scaling"),
        [1],
        "its config.json does not fit: AttributeError",
    ),
    ("2B", "config.json", ("llm_config", "num_key_value_heads"), 0, "ZeroDivisionError"),
    ("1B", "model.safetensors.index.json", ("weight_map",), None, "index.json has no weight_map"),
    ("1B", "model.safetensors.index.json", ("weight_map",), {}, "index.json names no weights"),
    (
        "1B",
        "model.safetensors.index.json",
        ("weight_map",),
        {"a": "gone"},
        "names gone, which is not there (1 of 1 files)",
    ),
    (
        "1B",
        "tokenizer_config.json",
        ("added_tokens_decoder",),
        {"400": {}},
        "its tokenizer does not fit: Key",
    ),
    ("1B", "tokenizer_config.json", ("eos_token",), 7, "its tokenizer does not fit: TypeError"),
    ("1B", "vocab.json", ("a",), "b", "its vocab.json and merges.txt cannot be read"),
]


@pytest.mark.parametrize(("kind", "file", "place", "value", "message"), MALFORMED)
def test_files_of_another_content_are_refused_in_one_line(
    kind: str, file: str, place: tuple[str, ...], value: Any, message: str, tmp_path: Path
) -> None:
    reference.make_original(tmp_path / "o", kind)
    content = json.loads((tmp_path / "o" / file).read_text())
    holder = content
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    (tmp_path / "o" / file).write_text(json.dumps(content))
    with pytest.raises(UserError) as loading:
        Internvl2Mask(pretrained=str(tmp_path / "o"))
    with pytest.raises(UserError) as converting:
        convert(str(tmp_path / "o"), tmp_path / "out")
    for error in (loading, converting):
        assert message in str(error.value)
        assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def spoil(folder: Path, what: str) -> None:
    weights = original_weights(folder)
    for file in [*folder.glob("*.safetensors"), *folder.glob("*.index.json")]:
        file.unlink()
    if what == "nothing":
        return
    if what == "missing":
        del weights["vision_model.encoder.layers.1.attn.qkv.weight"]
    elif what == "unknown":
        weights["qllama.weight"] = torch.zeros(1)
    elif what == "shape":
        weights["mlp1.3.bias"] = torch.zeros(5)
    elif what == "wqkv":
        name = "language_model.model.layers.0.attention.wqkv.weight"
        weights[name] = weights[name][:-3].contiguous()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    if what == "cut":
        data = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


BROKEN = [
    (
        "nothing",
        "it has no model.safetensors and no model.safetensors.index.json",
        "it has no model.safetensors",
    ),
    (
        "missing",
        "lacks model.vision_tower.encoder.layer.1.attention.k_proj.weight (3 such",
        "it lacks the weights of model.vision",
    ),
    ("unknown", "its weight qllama.weight has no place in InternVL", "its weight qllama.weight has no place"),
    (
        "shape",
        "has model.multi_modal_projector.linear_2.bias in another shape",
        "becomes [5], its config.json says",
    ),
    ("wqkv", "wqkv has 61 rows, not a multiple of 8", "wqkv has 61 rows, not a multiple of 8"),
    ("cut", "its model.safetensors cannot be read", "its model.safetensors cannot be read"),
]


@pytest.mark.parametrize(("what", "loading", "converting"), BROKEN)
def test_weights_that_do_not_fit_are_refused_and_nothing_is_left(
    what: str, loading: str, converting: str, tmp_path: Path
) -> None:
    reference.make_original(tmp_path / "o", "2B")
    spoil(tmp_path / "o", what)
    with pytest.raises(UserError) as error:
        Internvl2Mask(pretrained=str(tmp_path / "o"))
    assert loading in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError) as error:
        convert(str(tmp_path / "o"), tmp_path / "out")
    assert converting in str(error.value)
    assert not (tmp_path / "out").exists()


def test_another_family_does_not_take_it(originals: dict[str, Path]) -> None:
    with pytest.raises(UserError, match=r"is a 'internvl_chat' checkpoint, but LLaVA-OneVision"):
        LlavaOvMask(pretrained=str(originals["1B"]))


# ---- the command


@pytest.mark.slow
def test_mimic_convert_internvl2(command: Command, originals: dict[str, Path], tmp_path: Path) -> None:
    done = command("mimic", "convert", "internvl2", originals["2B"], tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert f"Wrote {tmp_path / 'out'}" in done.stdout
    assert (tmp_path / "out/model.safetensors.index.json").is_file()
    again = command("mimic", "convert", "internvl2", originals["2B"], tmp_path / "out")
    assert (again.returncode, again.stdout) == (2, "")
    assert again.stderr == (
        f"error: {tmp_path / 'out'} exists and is not empty: choose another folder, or remove it\n"
    )
    native = command("mimic", "convert", "internvl2", tmp_path / "out", tmp_path / "third")
    assert native.returncode == 2
    assert native.stderr.endswith("cannot be converted: it is a 'internvl' checkpoint, not 'internvl_chat'\n")
    missing = command("mimic", "convert", "internvl2", tmp_path / "none", tmp_path / "third")
    assert missing.returncode == 2
    why = "no such folder, and not a Hub id of the form org/name"
    assert missing.stderr == f"error: {tmp_path / 'none'} cannot be converted: {why}\n"
    assert not (tmp_path / "third").exists()
    done = command(
        "lmms_eval", "--tasks", "mimic_common", "--model", "internvl2_mask", "--limit", 2,
        "--model_args", f"pretrained={tmp_path / 'out'}", "--output_path", tmp_path / "run",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
