"""What trainings write: the loaded model is the trained one, and nothing in the files is left out."""

import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from mimic_eval.records import UserError
from model_adapters.identity import config_hash, weights_hash
from model_adapters.loading import EMBEDDED, load_family
from model_adapters.lora import load_adapter
from tests.makers.adapters import (
    FAMILIES,
    LLAVA_CODE,
    LLM_ONLY,
    base,
    configured,
    loaded,
    make,
    renamed,
    swap,
)

pytestmark = pytest.mark.slow
PROJECTORS = {
    "llava_onevision": "multi_modal_projector",
    "qwen2_vl": "merger",
    "internvl": "multi_modal_projector",
}


@cache
def inputs(family: str) -> Any:
    """A prompt with two images."""
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(EMBEDDED / family)
    draw = np.random.default_rng(0)
    images = [Image.fromarray(draw.integers(0, 255, (64, 64, 3), dtype=np.uint8)) for _ in range(2)]
    content = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "Which differs?"}]
    prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    return processor(text=[prompt], images=images, return_tensors="pt")


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines about an adapter, without transformers' progress."""
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("peft=")]


def logits(model: Any, family: str) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(**inputs(family)).logits  # type: ignore[no-any-return]


def trained(family: str, **options: Any) -> Any:
    """A model of which an adapter and the projector took two optimiser steps, in memory."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    config = LoraConfig(**{"r": 2, "modules_to_save": [PROJECTORS[family]], **options})
    model = get_peft_model(base(family), config).train()
    optimiser = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=0.02)
    for _ in range(2):
        model(**inputs(family), labels=inputs(family)["input_ids"]).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    return model


def assert_trained(family: str, folder: Path, model: Any) -> None:
    """The folder's adapter on the base model computes what the trained model computes, and not the base."""
    want = logits(model, family)
    got = logits(load_adapter(base(family), str(folder), former=FAMILIES[family].former_names), family)
    effect = float((want - logits(base(family), family)).abs().max())
    assert effect > 0.1
    assert float((got - want).abs().max()) < 1e-5 * effect  # rounding of another order of sums


LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("llava_onevision", {"target_modules": "all-linear"}),
        ("llava_onevision", {"target_modules": LLM_ONLY, "use_dora": True, "use_rslora": True}),
        ("qwen2_vl", {"target_modules": r"^model\.language_model(?=\.).*\.(q_proj|up_proj)$"}),
        (
            "qwen2_vl",
            {"target_modules": LINEAR, "rank_pattern": {"q_proj": 4}, "alpha_pattern": {"up_proj": 3}},
        ),
        ("internvl", {"target_modules": LINEAR, "exclude_modules": r".*vision_tower.*", "lora_bias": True}),
        ("internvl", {"target_modules": ["q_proj", "embed_tokens", "lm_head"]}),
        (
            "qwen2_vl",
            {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head", "merger"]},
        ),
        ("llava_onevision", {"target_modules": ["q_proj"], "trainable_token_indices": [3, 5]}),
        ("llava_onevision", {"target_modules": ["q_proj"], "init_lora_weights": "pissa"}),
    ],
    ids=str,
)
def test_a_trained_adapter_and_projector_give_the_trained_models_logits(
    family: str, options: dict[str, Any], tmp_path: Path
) -> None:
    model = trained(family, **options)
    model.save_pretrained(tmp_path)
    assert_trained(family, tmp_path, model)


def llava_code(model: Any, folder: Path, *, name: str = "non_lora_trainables.bin") -> None:
    """What LLaVA's training code writes: LoRA's weights, and what else is trained, with PEFT's wrappers."""
    named = {key: weight.detach() for key, weight in model.named_parameters()}
    beside = {key: weight for key, weight in named.items() if "lora_" not in key and "multi_modal" in key}
    model.save_pretrained(folder, safe_serialization=False)
    lora = torch.load(folder / "adapter_model.bin", weights_only=True)
    lora = {LLAVA_CODE(key): weight for key, weight in lora.items() if "lora_" in key}
    torch.save(lora, folder / "adapter_model.bin")
    parts = (
        (".linear_1", ".0"),
        (".linear_2", ".2"),
        ("model.model.multi_modal_projector", "model.model.mm_projector"),
    )
    torch.save({of_llava(key, parts): weight for key, weight in beside.items()}, folder / name)
    configured(folder, modules_to_save=None, target_modules=["q_proj", "v_proj", "up_proj"])


def of_llava(key: str, parts: tuple[tuple[str, str], ...]) -> str:
    for new, old in parts:
        key = key.replace(new, old)
    return key


@pytest.mark.parametrize(
    "name", ["non_lora_trainables.bin", "non_lora_state_dict.bin", "mm_projector.bin", "vit.safetensors"]
)
def test_what_lies_beside_the_adapter_gives_the_trained_models_logits(name: str, tmp_path: Path) -> None:
    """With PEFT's `modules_to_save` and `original_module` in the names. All but the first were not read."""
    model = trained("llava_onevision", target_modules=LLM_ONLY)
    llava_code(model, tmp_path)
    beside = torch.load(tmp_path / "non_lora_trainables.bin", weights_only=True)
    assert sum(".original_module." in key for key in beside) == len(beside) / 2 == 4
    (tmp_path / "non_lora_trainables.bin").unlink()
    if name.endswith("bin"):
        torch.save(beside, tmp_path / name)
    else:
        save_file(beside, tmp_path / name)
    assert_trained("llava_onevision", tmp_path, model)


def test_weights_that_are_not_read_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make("llava_onevision", tmp_path / "run", target_modules=LLM_ONLY)
    for name in ("training_args.bin", "optimizer.bin", "rng_state_0.bin", "args.json", "scheduler.pt"):
        (tmp_path / "run" / name).write_bytes(b"0")
    loaded("llava_onevision", tmp_path / "run")
    assert said(capsys) == []
    (tmp_path / "run/head.safetensors").write_bytes(b"0")
    loaded("llava_onevision", tmp_path / "run")
    (line,) = said(capsys)
    assert line.endswith(": weights in its folder that are not read: head.safetensors")


def test_a_checkpoint_without_what_was_trained_in_full_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """LLaVA's code writes `non_lora_trainables.bin` at the end only, not in `checkpoint-N`."""
    make("llava_onevision", tmp_path / "checkpoint-5", target_modules=LLM_ONLY)
    torch.save({}, tmp_path / "non_lora_trainables.bin")
    loaded("llava_onevision", tmp_path / "checkpoint-5")
    (line,) = said(capsys)
    assert "checkpoint-5 has no non_lora_trainables.bin, as the folder around it has" in line


def test_weights_of_the_patch_embedding_find_it(tmp_path: Path) -> None:
    """Qwen2-VL's `proj`, in every block and a convolution; it was replaced by then, and PEFT refused it."""
    model = trained("qwen2_vl", target_modules=["proj", "q_proj"])
    model.save_pretrained(tmp_path)
    assert "base_model.model.model.visual.patch_embed.proj.lora_A.weight" in load_file(
        tmp_path / "adapter_model.safetensors"
    )
    got, _ = load_family(
        FAMILIES["qwen2_vl"],
        str(EMBEDDED / "qwen2_vl"),
        dtype=torch.float32,
        device="cpu",
        peft=str(tmp_path),
    )
    got.set_attn_implementation("sdpa")
    torch.testing.assert_close(logits(got, "qwen2_vl"), logits(model, "qwen2_vl"))


@pytest.mark.parametrize(
    ("saved_on", "given", "differs"),
    [
        ("llava-hf/llava-onevision-qwen2-0.5b-ov-hf", "/models/llava-onevision-qwen2-0.5b-ov-hf/", False),
        ("lmms-lab/llava-onevision-qwen2-0.5b-ov", "llava-hf/llava-onevision-qwen2-0.5b-ov-hf", False),
        ("/root/.cache/huggingface/hub/models--a--base/snapshots/0f1e", "a/base", False),
        ("embedded:qwen2_vl", str(EMBEDDED / "qwen2_vl"), False),
        (None, "a/base", False),
        ("a/other", "a/base", True),
    ],
)
def test_another_base_model_is_reported(
    saved_on: str | None, given: str, differs: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from model_adapters.lora.files import read_adapter

    make("llava_onevision", tmp_path / "a", target_modules=LLM_ONLY)
    configured(tmp_path / "a", base_model_name_or_path=saved_on)
    read_adapter(str(tmp_path / "a"), base=given)
    line = f"peft={tmp_path / 'a'} was trained on {saved_on}; pretrained={given}"
    assert said(capsys) == ([line] if differs else [])


def test_fields_of_a_newer_peft_are_reported_where_they_are_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    make("llava_onevision", tmp_path / "a", target_modules=LLM_ONLY)
    configured(tmp_path / "a", new=None, newer=False, newest={"x": 1}, runtime_config={"y": 2})
    loaded("llava_onevision", tmp_path / "a")
    (line,) = said(capsys)
    assert line.endswith('fields of its adapter_config.json, which have no effect: newest={"x": 1}')
    assert not [warning for warning in recwarn if "Unexpected keyword" in str(warning.message)]


def empty(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: torch.empty(0) if "lora_" in key else weight for key, weight in weights.items()}


def without_number(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    weights[next(key for key in weights if "layers.1.mlp.up_proj.lora_B" in key)][0, 0] = float("nan")
    return weights


def two_adapters(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    first = {
        key.replace(".weight", ".default.weight"): weight for key, weight in weights.items() if "lora_" in key
    }
    return {**first, **{key.replace("default", "reference"): weight + 1 for key, weight in first.items()}}


def without_projector(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: weight for key, weight in weights.items() if "lora_" in key}


def flat(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: weight.flatten()[:7] if "lora_A" in key else weight for key, weight in weights.items()}


def longer(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    key = "base_model.model.model.language_model.embed_tokens.weight"
    return {**weights, key: torch.zeros(9999, 128)}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (empty, r": 36 of its 40 weights are empty: model\.lang.* and 33 more; DeepSpeed ZeRO-3 saved them"),
        (
            without_number,
            r": 1 of its 40 weights have NaN or infinity: model\..*layers\.1\.mlp\.up_proj\.lora_B",
        ),
        (two_adapters, r"has two weights model\..*lora_A\.weight: it holds several adapters"),
        (without_projector, r" lacks model\.multi_modal_projector\.linear_1, .* \(4 such weights\)"),
        (
            longer,
            r"embed_tokens.weight is \[9999, 128\], the model's .* \(1 such weights\); training added tokens",
        ),
    ],
)
def test_broken_weights_are_refused_in_one_line(
    change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]], reason: str, tmp_path: Path
) -> None:
    held = make(
        "llava_onevision", tmp_path, target_modules=LLM_ONLY, modules_to_save=["multi_modal_projector"]
    )
    save_file(change(held), tmp_path / "adapter_model.safetensors")
    with pytest.raises(UserError, match=reason) as error:
        loaded("llava_onevision", tmp_path)
    assert "\n" not in str(error.value)


def test_an_empty_weight_is_taken_from_the_file_beside(tmp_path: Path) -> None:
    """DeepSpeed's empty `modules_to_save` with LLaVA's gathered `non_lora_trainables.bin`."""
    held = make(
        "llava_onevision", tmp_path, target_modules=LLM_ONLY, modules_to_save=["multi_modal_projector"]
    )
    want = loaded("llava_onevision", tmp_path)
    projector = {key: weight for key, weight in held.items() if "lora_" not in key}
    torch.save(projector, tmp_path / "non_lora_trainables.bin")
    save_file({**held, **{key: torch.empty(0) for key in projector}}, tmp_path / "adapter_model.safetensors")
    got = loaded("llava_onevision", tmp_path)
    assert [key for key in want if not torch.equal(got[key], want[key])] == []


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"peft_type": "SOMETHING"}, "has peft_type SOMETHING; supported are BOFT"),
        ({"peft_type": None}, "has peft_type None; supported are BOFT"),
        (
            {"alora_invocation_tokens": [5]},
            r"sets alora_invocation_tokens \(an adapter that acts after certain",
        ),
        ({"use_qalora": True}, r"sets use_qalora \(it pools"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights=pissa_niter_4, which changed the base"),
        ({"init_lora_weights": "lora_ga"}, "init_lora_weights=lora_ga, which changed the base"),
    ],
)
def test_what_would_load_as_another_model_is_refused(
    settings: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    """PEFT loads the last four without a word, and computes something else than what was trained."""
    make("llava_onevision", tmp_path, target_modules=LLM_ONLY)
    configured(tmp_path, **settings)
    with pytest.raises(UserError, match=reason):
        loaded("llava_onevision", tmp_path)


def test_a_folder_around_adapters_names_the_last(tmp_path: Path) -> None:
    make("llava_onevision", tmp_path / "checkpoint-9", target_modules=LLM_ONLY)
    shutil.copytree(tmp_path / "checkpoint-9", tmp_path / "training/checkpoint-10")
    os.utime(tmp_path / "training/checkpoint-10/adapter_config.json", (2e9, 2e9))
    with pytest.raises(UserError, match=r"2 folders below have one: .* peft=.*/training/checkpoint-10$"):
        loaded("llava_onevision", tmp_path)
    with pytest.raises(
        UserError, match=r"has no adapter_config.json: it is a model, which pretrained= loads$"
    ):
        loaded("llava_onevision", EMBEDDED / "llava_onevision")


def scaled(folder: Path, name: str, part: str) -> None:
    """One number of a weights file, changed."""
    path = folder / name
    held = torch.load(path, weights_only=True) if path.suffix == ".bin" else load_file(path)
    next(weight for key, weight in held.items() if part in key).view(-1)[0] += 1
    torch.save(held, path) if path.suffix == ".bin" else save_file(held, path)


def test_any_changed_file_of_an_adapter_is_another_model(tmp_path: Path) -> None:
    """Answers in the journal are of the files' content, not of the folder's name."""
    plain = renamed_llava(tmp_path)

    def identity() -> tuple[str, str]:
        model = load_adapter(base("llava_onevision"), str(plain), former=("llava_code", "nested"))
        return weights_hash(model), config_hash(model)

    seen = [identity()]
    assert identity() == seen[0]
    for change in (
        lambda: scaled(plain, "adapter_model.safetensors", "lora_A"),
        lambda: scaled(plain, "non_lora_trainables.bin", "mm_projector"),
        lambda: configured(plain, lora_alpha=99),
        lambda: configured(plain, use_rslora=True),
        lambda: configured(plain, alpha_pattern={"q_proj": 5}),
    ):
        change()
        seen.append(identity())
    assert len(set(seen)) == len(seen) == 6


def renamed_llava(tmp_path: Path) -> Path:
    make("llava_onevision", tmp_path / "a", target_modules=LLM_ONLY)
    folder = renamed(tmp_path / "a", tmp_path / "b", swap((r"model\.language_model\.", "model.")))
    weight = base("llava_onevision").model.multi_modal_projector.linear_2.weight
    torch.save(
        {"base_model.model.model.mm_projector.2.weight": torch.randn_like(weight)},
        folder / "non_lora_trainables.bin",
    )
    return folder
