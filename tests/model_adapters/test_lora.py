"""Adapters under the names that other versions and other training code give their weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mimic_eval.records import UserError
from model_adapters.lora import load_adapter
from tests.makers.adapters import (
    BEFORE_4_52,
    FAMILIES,
    INTERNVL_BEFORE,
    LLAVA_CODE,
    LLM,
    LLM_ONLY,
    QWEN_BEFORE,
    TOWER,
    State,
    assert_same,
    base,
    configured,
    loaded,
    make,
    renamed,
    swap,
)

pytestmark = pytest.mark.slow
CASES = Path(__file__).parents[1] / "cases" / "B03"
NAMINGS: list[tuple[str, str, Callable[[str], str], str | None]] = [
    ("llava_onevision", "transformers before 4.52", BEFORE_4_52, None),
    ("llava_onevision", "transformers 4.52 to 5", swap((TOWER, r"\g<0>vision_model.")), None),
    (
        "llava_onevision",
        "LLaVA's own code",
        swap((LLM, "base_model.model.model."), (TOWER, r"\g<0>vision_tower.vision_model.")),
        None,
    ),
    ("llava_onevision", "LLaVA's own code", swap((LLM, "base_model.model.model.")), LLM_ONLY),
    ("qwen2_vl", "transformers before 4.52", QWEN_BEFORE, None),
    ("internvl", "transformers before 4.52", INTERNVL_BEFORE, None),
    ("internvl", "its language model alone", swap((LLM, "base_model.model.model.")), LLM_ONLY),
    ("llava_onevision", "several versions", swap((LLM, "base_model.model.language_model.model.")), None),
    ("qwen2_vl", "", swap(("^", "module.")), None),
    ("internvl", "", swap((r"^base_model\.model\.", "")), None),
    ("llava_onevision", "", swap((r"(lora_[AB])\.weight", r"\1.default.weight")), None),
    ("qwen2_vl", "", swap((r"^base_model\.model\.model", "module.base_model.model._orig_mod.model")), None),
]


@pytest.mark.parametrize(("family", "label", "change", "targets"), NAMINGS)
def test_an_adapter_under_other_names_is_the_adapter(
    family: str,
    label: str,
    change: Callable[[str], str],
    targets: str | None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """They were loaded as nothing, with exit 0 and the base model's answers."""
    make(family, tmp_path / "new", **({"target_modules": targets} if targets else {}))
    want = loaded(family, tmp_path / "new")
    assert "translated" not in capsys.readouterr().err
    listed = {"target_modules": ["q_proj", "v_proj", "up_proj"]} if targets else {}
    got = loaded(family, renamed(tmp_path / "new", tmp_path / "old", change, **listed))
    assert_same(got, want)
    assert sum(".lora_" in key for key in got) > 20
    said = capsys.readouterr().err
    assert ("translated" in said) is bool(label)
    assert f"have the names of {label}" in said or not label


@pytest.mark.parametrize("family", ["llava", "qwen"])
def test_the_reported_adapters_are_those_of_today(family: str) -> None:
    name = "llava_onevision" if family == "llava" else "qwen2_vl"
    want = loaded(name, CASES / f"{family}_new")
    assert_same(loaded(name, CASES / f"{family}_old"), want)
    assert any(bool(weight.any()) for key, weight in want.items() if "lora_B" in key)


def test_fused_projections_of_internvl2_are_taken_apart(tmp_path: Path) -> None:
    """InternLM2's wqkv: one A for all, B's rows in groups of the heads of a key."""
    from model_adapters.internvl2.weights import Grouping

    model = base("internvl")
    config = model.config.get_text_config()
    grouping = Grouping(config.num_attention_heads, config.num_key_value_heads)
    make("internvl", tmp_path / "new", target_modules=LLM_ONLY.replace("|up_proj", "|k_proj|up_proj"))
    held: State = {}
    torch.manual_seed(1)
    width, rows = (
        config.hidden_size,
        (config.num_attention_heads + 2 * config.num_key_value_heads)
        * (config.hidden_size // config.num_attention_heads),
    )
    for layer in range(config.num_hidden_layers):
        stem = f"base_model.model.language_model.model.layers.{layer}"
        held[f"{stem}.attention.wqkv.lora_A.weight"] = torch.randn(2, width)
        held[f"{stem}.attention.wqkv.lora_B.weight"] = torch.randn(rows, 2)
        held[f"{stem}.feed_forward.w3.lora_A.weight"] = torch.randn(2, width)
        held[f"{stem}.feed_forward.w3.lora_B.weight"] = torch.randn(config.intermediate_size, 2)
    folder = renamed(tmp_path / "new", tmp_path / "original", lambda key: key, target_modules=["wqkv", "w3"])
    save_file(held, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    got = loaded("internvl", folder)
    for layer in range(config.num_hidden_layers):
        ours, theirs = (
            f"base_model.model.model.language_model.layers.{layer}",
            f"base_model.model.language_model.model.layers.{layer}",
        )
        for part in "qkv":
            both = {ab: got[f"{ours}.self_attn.{part}_proj.lora_{ab}.default.weight"] for ab in "AB"}
            fused = {ab: held[f"{theirs}.attention.wqkv.lora_{ab}.weight"] for ab in "AB"}
            torch.testing.assert_close(both["B"] @ both["A"], grouping.part(fused["B"] @ fused["A"], part))
        assert torch.equal(
            got[f"{ours}.mlp.up_proj.lora_B.default.weight"], held[f"{theirs}.feed_forward.w3.lora_B.weight"]
        )


@pytest.mark.parametrize(
    "options",
    [
        {"use_dora": True},
        {"use_rslora": True, "lora_alpha": 5},
        {"rank_pattern": {r"layers\.1\.self_attn\.q_proj": 3}, "alpha_pattern": {"v_proj": 7}},
        {"layers_to_transform": [0, 1], "layers_pattern": "layers"},
        {"bias": "lora_only"},
    ],
    ids=str,
)
def test_what_peft_can_do_survives_other_names(options: dict[str, Any], tmp_path: Path) -> None:
    from peft import PeftModel

    make("llava_onevision", tmp_path / "new", **options)
    theirs = PeftModel.from_pretrained(base("llava_onevision"), tmp_path / "new")
    ours = load_adapter(
        base("llava_onevision"),
        str(renamed(tmp_path / "new", tmp_path / "old", BEFORE_4_52)),
        former=FAMILIES["llava_onevision"].former_names,
    )
    assert_same(dict(ours.state_dict()), dict(theirs.state_dict()))
    scales = [
        {name: module.scaling for name, module in model.named_modules() if hasattr(module, "scaling")}
        for model in (ours, theirs)
    ]
    assert {name: scale for name, scale in scales[0].items() if scale != 1} == {
        name: scale for name, scale in scales[1].items() if scale != 1
    }


def test_a_trained_projector_is_loaded_under_llavas_names(tmp_path: Path) -> None:
    make(
        "llava_onevision",
        tmp_path / "new",
        target_modules=LLM_ONLY,
        modules_to_save=["multi_modal_projector"],
    )
    want = loaded("llava_onevision", tmp_path / "new")
    old = renamed(
        tmp_path / "new",
        tmp_path / "old",
        LLAVA_CODE,
        modules_to_save=["mm_projector"],
        target_modules=["q_proj", "v_proj", "up_proj"],
    )
    assert_same(loaded("llava_onevision", old), want)
    plain = base("llava_onevision").state_dict()["model.multi_modal_projector.linear_1.weight"]
    key = "base_model.model.model.multi_modal_projector.modules_to_save.default.linear_1.weight"
    assert not torch.equal(want[key], plain)


def test_what_llava_trains_beside_its_lora_is_loaded(tmp_path: Path) -> None:
    make("llava_onevision", tmp_path / "a", target_modules=LLM_ONLY)
    projector = torch.randn_like(base("llava_onevision").model.multi_modal_projector.linear_2.weight)
    newline = torch.randn_like(base("llava_onevision").model.image_newline)
    beside = {
        "base_model.model.model.mm_projector.2.weight": projector,
        "base_model.model.model.image_newline": newline,
    }
    folder = renamed(tmp_path / "a", tmp_path / "b", swap((LLM, "base_model.model.model.")))
    torch.save(beside, folder / "non_lora_trainables.bin")
    got = loaded("llava_onevision", folder)
    assert torch.equal(got["base_model.model.model.multi_modal_projector.linear_2.weight"], projector)
    assert torch.equal(got["base_model.model.model.image_newline"], newline)


def test_weights_that_fit_nothing_are_refused_with_the_first_names(tmp_path: Path) -> None:
    held = make("llava_onevision", tmp_path / "new")
    nothing = renamed(tmp_path / "new", tmp_path / "nothing", swap(("layers", "lairs")))
    with pytest.raises(UserError) as error:
        loaded("llava_onevision", nothing)
    first = sorted(held)[0].replace("layers", "lairs").removeprefix("base_model.model.")
    assert f"{len(held)} of its {len(held)} weights fit no module of this model: {first}, " in str(
        error.value
    )
    half = renamed(tmp_path / "new", tmp_path / "half", swap((r"language_model(?!.*layers\.0\.)", "other")))
    with pytest.raises(UserError, match=r"fit no module of this model: model\.other\.layers\.1"):
        loaded("llava_onevision", half)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("naming", [swap(), BEFORE_4_52])
def test_modules_whose_weights_are_missing_are_refused_by_name(
    naming: Callable[[str], str], tmp_path: Path
) -> None:
    """PEFT warns, and leaves them as if they were not trained."""
    make("llava_onevision", tmp_path / "new")
    folder = renamed(tmp_path / "new", tmp_path / "cut", naming)
    held = load_file(folder / "adapter_model.safetensors")
    some = {key: weight for key, weight in held.items() if "layers.2.self_attn.q_proj" not in key}
    save_file(some, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        UserError, match=r"names 2 modules whose weights it does not hold: .*layers\.2\.self_attn\.q_proj"
    ):
        loaded("llava_onevision", folder)
    one = next(key for key in held if "language_model" in key and "layers.1" in key and "lora_B" in key)
    save_file(
        {key: weight for key, weight in held.items() if key != one}, folder / "adapter_model.safetensors"
    )
    with pytest.raises(UserError, match=r"lacks model\.language_model\.layers\.1\..*lora_B \(1 such"):
        loaded("llava_onevision", folder)


def test_another_models_adapter_is_refused(tmp_path: Path) -> None:
    make("qwen2_vl", tmp_path / "a")
    with pytest.raises(UserError, match=r"of its \d+ weights fit no module of this model"):
        loaded("llava_onevision", tmp_path / "a")
    make("llava_onevision", tmp_path / "b")
    configured(tmp_path / "b", r=3)
    with pytest.raises(UserError, match=r"its .*lora_A is \[2, 128\], the model's \[3, 128\] \(\d+ such"):
        loaded("llava_onevision", tmp_path / "b")


class Evil:
    """A pickle that makes a file when it is read."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.place), "w"))


@pytest.mark.parametrize("name", ["adapter_model.bin", "non_lora_trainables.bin"])
def test_code_in_pickled_weights_is_not_run(name: str, tmp_path: Path) -> None:
    make("llava_onevision", tmp_path / "a")
    if name == "adapter_model.bin":
        (tmp_path / "a/adapter_model.safetensors").unlink()
    torch.save({"weight": Evil(tmp_path / "ran")}, tmp_path / "a" / name)
    with pytest.raises(UserError, match=r"cannot be put on this checkpoint: UnpicklingError: "):
        loaded("llava_onevision", tmp_path / "a")
    assert not (tmp_path / "ran").exists()


def test_files_that_are_no_adapter_are_refused_in_one_line(tmp_path: Path) -> None:
    make("llava_onevision", tmp_path / "a")
    for change, told in (
        ({"peft_type": "PREFIX_TUNING"}, "has peft_type PREFIX_TUNING; supported are BOFT, HRA"),
        (
            {"megatron_config": {"x": 1}},
            "sets megatron_config (its layers are Megatron's), which is not supported",
        ),
        ({"target_modules": "*"}, "cannot be put on this checkpoint: "),
    ):
        folder = renamed(tmp_path / "a", tmp_path / str(len(told)), swap(), **change)
        with pytest.raises(UserError) as error:
            loaded("llava_onevision", folder)
        assert told in str(error.value)
        assert "\n" not in str(error.value)
    for file, content, told in (
        ("adapter_model.safetensors", b"12", "cannot be put on this checkpoint: "),
        ("adapter_config.json", b"{", "its adapter_config.json cannot be read: Expecting"),
        ("adapter_config.json", b"[]", "its adapter_config.json is a list, not an object"),
        ("adapter_model.safetensors", None, "has no adapter_model.safetensors"),
        ("adapter_config.json", None, "has no adapter_config.json"),
    ):
        folder = renamed(tmp_path / "a", tmp_path / f"{file}{content!r}", swap())
        (folder / file).unlink() if content is None else (folder / file).write_bytes(content)
        with pytest.raises(UserError, match=told):
            loaded("llava_onevision", folder)


def test_an_adapter_that_was_never_trained_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make("llava_onevision", tmp_path / "a", init_lora_weights=True)
    loaded("llava_onevision", tmp_path / "a")
    assert "changes nothing: all its lora_B weights are 0" in capsys.readouterr().err
