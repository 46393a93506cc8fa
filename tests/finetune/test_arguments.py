"""mimic finetune: the recipes of METHODS 10, and mistakes said in one line before anything is loaded."""

import subprocess
import sys
from inspect import signature
from pathlib import Path
from typing import Any

import pytest

from finetune.arguments import FinetuneOptions
from finetune.training import finetune
from mimic_eval.cli.finetune import finetune as command
from mimic_eval.records import UserError
from model_adapters.families import FAMILIES
from tests.makers.conversations import make_conversations


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_conversations(tmp_path_factory.mktemp("conversations"))


def test_the_recipes_are_those_of_methods_10() -> None:
    paper, released = (
        FinetuneOptions("a/b", (Path("x"),), Path("o"), recipe=r) for r in ("paper", "released")
    )
    full = FinetuneOptions("a/b", (Path("x"),), Path("o"), method="full")
    assert (paper.batch_size, paper.peak_rate, paper.lora) == (128, 2.5e-5, (128, 32, 0.0))
    assert (released.batch_size, released.peak_rate, released.lora) == (192, 2.5e-5, (128, 32, 0.05))
    assert (full.batch_size, full.peak_rate) == (128, 2.5e-6)
    assert (paper.trains_projector, released.trains_projector) == (False, True)
    assert paper.mask_arguments() == {"mask": "block", "variant": "paper"}
    assert released.mask_arguments() == {"mask": "block", "variant": "released"}
    assert full.mask_arguments() == {"mask": "none"}
    assert (paper.samples_seen(1000), paper.row_count, paper.accumulated) == (1000, 4, 32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipe": "papr"}, r"Unknown --recipe 'papr'\. Did you mean 'paper'\?"),
        ({"method": "full", "rank": 8}, "--rank is an argument of LoRA and is not used with --full"),
        ({"method": "full", "dropout": 0.1}, "--dropout is an argument of LoRA"),
        ({"mask": "bloc"}, "Unknown mask 'bloc'. Did you mean 'block'"),
        ({"mask": "ar"}, "--mask ar needs relevance, sinks, which a training does not have"),
        ({"mask": "none", "layers": "all"}, "layers=all is not used by mask=none"),
        ({"mask_args": "variant"}, r"--mask-args must read key=value,key=value; 'variant' does not"),
        ({"mask_args": "variant=paper,mask=ar"}, "--mask-args gives 'mask' again"),
        ({"mask_args": "varant=paper"}, "Did you mean 'variant'"),
        ({"epochs": 2.0, "steps": 3}, "--epochs and --steps both say how long"),
        ({"batch": 6, "rows": 4}, "--batch 6 is no multiple of --rows 4"),
        ({"learning_rate": float("nan")}, "--learning-rate must be above 0"),
        ({"dropout": 1.0}, "--dropout must be at least 0 and below 1"),
        ({"steps": 0}, "--steps must be an integer"),
        ({"precision": "half"}, "Unknown --precision 'half'"),
        ({"precision": "fp16"}, "--precision fp16 needs a GPU"),
        ({"projector": "on"}, "Unknown --projector 'on'"),
        ({"device": "gpu"}, "--device must be cpu or cuda"),
        ({"eval_every": 5}, "--eval-data FOLDER and --eval-every STEPS go together"),
        ({"report_to": ("wand",)}, "Unknown --report-to 'wand'. Did you mean 'wandb'"),
        ({"data": ()}, "--data FILE is needed"),
        ({"data": (Path("/none/mixture.yaml"),)}, "/none/mixture.yaml"),
        ({"image_folder": Path("/none")}, "--image-folder /none: no such folder"),
        ({"pretrained": "embedded:lava"}, "Unknown embedded checkpoint 'lava'"),
        ({"pretrained": "./nothing"}, "pretrained=./nothing: no such folder"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(
    changes: dict[str, Any], message: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model_adapters.loading.load_family", None)  # nothing is loaded before a refusal
    given = {"pretrained": "embedded:llava_onevision", "data": (data,), "out": tmp_path / "out", **changes}
    with pytest.raises(UserError) as caught:
        finetune(FinetuneOptions(**given))
    assert message.replace(r"\.", ".").replace(r"\?", "?") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "out").rglob("*.safetensors"))
    with pytest.raises(
        TypeError, match="not callable"
    ):  # the next command is not refused, it comes to loading
        finetune(FinetuneOptions("embedded:llava_onevision", (data,), tmp_path / "out", seed=3))


def test_a_folder_that_holds_something_else_is_refused(data: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="exists and is not empty: choose another folder"):
        finetune(FinetuneOptions("embedded:llava_onevision", (data,), tmp_path))
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_checkpoint_of_another_kind_is_named(data: Path, tmp_path: Path) -> None:
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert/config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match=r"pretrained=.*bert.* is a 'bert' checkpoint"):
        finetune(FinetuneOptions(str(tmp_path / "bert"), (data,), tmp_path / "out"))


def test_a_type_without_a_family_is_trained_by_what_is_established_of_it(data: Path, tmp_path: Path) -> None:
    """As `hf_mask` takes it in an evaluation."""
    from model_adapters.tiny import any_type

    any_type.make_tiny("aya_vision", tmp_path / "tiny")
    how: dict[str, Any] = {"steps": 2, "batch": 2, "rank": 2, "projector": "trained"}
    made = finetune(FinetuneOptions(str(tmp_path / "tiny"), (data,), tmp_path / "out", **how))
    assert made.record["model_type"] == "aya_vision"
    assert "--model hf_mask" in (tmp_path / "out/README.md").read_text()


def test_the_commands_defaults_are_the_options() -> None:
    options = FinetuneOptions("a/b", (Path("x"),), Path("o"))
    defaults = {name: p.default for name, p in signature(command).parameters.items()}
    for name in defaults.keys() - {"pretrained", "data", "out", "add", "lora", "report_to"}:
        assert defaults[name] == getattr(options, name), name


def test_it_starts_as_a_module_with_the_words_of_the_command(tmp_path: Path) -> None:
    """For `accelerate launch -m finetune`; a user's stats.py in the working folder hides nothing."""
    (tmp_path / "stats.py").write_text("raise SystemExit('mine')")
    call = [sys.executable, "-m", "finetune", "--pretrained", "a/b", "--out", "x", "--recipe", "papr"]
    done = subprocess.run(call, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: --data FILE is needed")
    assert len(done.stderr.splitlines()) == 1


def test_lora_is_in_all_linear_layers_of_the_decoder_alone(tmp_path: Path) -> None:
    """A name as q_proj is one of vision towers too: no adapter may be there, and none in the head."""
    from finetune.parts import projectors, with_lora
    from model_adapters.loading import load_family

    for name in ("gemma3", "idefics3", "internvl", "qwen3_vl"):
        family = FAMILIES.get(name)
        family.make_tiny(tmp_path / name)
        model, _ = load_family(family, str(tmp_path / name), dtype="float32", device="cpu", peft=None)
        connecting = projectors(model)
        linear = sum(type(m).__name__ == "Linear" for layer in _layers(model) for m in layer.modules())
        wrapped = with_lora(model, rank=2, alpha=2, dropout=0.0, projector=True)
        learnt = [key for key, weight in wrapped.named_parameters() if weight.requires_grad]
        assert sum("lora_A" in key for key in learnt) == linear > 0
        assert all(
            "language_model.layers" in key or "text_model.layers" in key for key in learnt if "lora" in key
        )
        others = [key for key in learnt if "lora" not in key]
        assert others
        assert all(any(part in key for part in connecting) for key in others)


def _layers(model: Any) -> Any:
    from model_adapters.engine import decoder_layers

    return decoder_layers(model)
