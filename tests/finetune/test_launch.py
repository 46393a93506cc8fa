"""Several processes learn what one does: the same loss of each step, the same weights (docs/training.md)."""

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from finetune.sharding import check_stage, check_without_pictures, count_weights
from mimic_eval.records import UserError
from tests.makers.conversations import make_conversations
from tests.makers.processes import launch_variables, train

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "docs/launch"
SHORT = {"batch": 4, "rows": 1, "steps": 2, "device": "cpu", "projector": "trained"}
LORA = {**SHORT, "rank": 2, "alpha": 8, "learning_rate": 1e-2}
FULL = {**SHORT, "method": "full", "learning_rate": 1e-4}
by_request = pytest.mark.skipif(
    "MIMIC_TEST_LAUNCH" not in os.environ, reason="MIMIC_TEST_LAUNCH is not set: several minutes of processes"
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Samples with and without pictures, so that a process may have no picture where another has some."""
    return make_conversations(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def alone(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone") / "lora"
    train(1, told(data, out, LORA))
    return out


def told(data: Path, out: Path, options: dict[str, Any]) -> dict[str, Any]:
    return {"pretrained": "embedded:llava_onevision", "data": (data,), "out": out, **options}


def losses(out: Path) -> list[float]:
    rows = json.loads((out / "training.json").read_text())["loss"]
    return [value for row in rows for value in (row[1], row[3])]  # and the norm of the gradient


def weights(out: Path) -> dict[str, torch.Tensor]:
    return {key: weight for file in out.glob("*.safetensors") for key, weight in load_file(file).items()}


def assert_same_training(out: Path, alone: Path, *, step: float) -> None:
    """Equal up to the order of sums, which AdamW's first steps carry to a small part of their size."""
    assert len(losses(alone)) == 4
    assert losses(out) == pytest.approx(losses(alone), rel=1e-5)
    got, want = weights(out), weights(alone)
    assert got.keys() == want.keys()
    assert max(float((got[key].float() - want[key].float()).abs().max()) for key in want) < 0.01 * step


def test_two_processes_learn_what_one_does(data: Path, alone: Path, tmp_path: Path) -> None:
    train(2, told(data, tmp_path / "out", LORA))
    assert_same_training(tmp_path / "out", alone, step=1e-2)


def test_two_processes_that_share_the_model_learn_what_one_does(
    data: Path, alone: Path, tmp_path: Path
) -> None:
    """FSDP2. accelerate's own choice of layers ends in an error, and samples without pictures stopped it."""
    variables = launch_variables(LAUNCH / "fsdp.yaml")
    assert variables["ACCELERATE_USE_FSDP"] == "true"
    assert variables["FSDP_VERSION"] == "2"
    train(2, told(data, tmp_path / "out", LORA), **variables)
    assert_same_training(tmp_path / "out", alone, step=1e-2)


@by_request
def test_full_training_that_shares_the_model_learns_what_one_process_does(data: Path, tmp_path: Path) -> None:
    train(1, told(data, tmp_path / "alone", FULL))
    train(2, told(data, tmp_path / "out", FULL), **launch_variables(LAUNCH / "fsdp.yaml"))
    assert_same_training(tmp_path / "out", tmp_path / "alone", step=1e-4)


@by_request
@pytest.mark.parametrize("name", ["ddp", "fsdp", "deepspeed_zero2", "deepspeed_zero3"])
def test_accelerate_launch_learns_what_one_process_does(name: str, data: Path, tmp_path: Path) -> None:
    if name.startswith("deepspeed"):  # which refuses samples without pictures
        pytest.importorskip("deepspeed")
        records = [record for record in json.loads(data.read_text()) if "image" in record]
        data = data.with_name("pictures.json")
        data.write_text(json.dumps(records))
    train(1, told(data, tmp_path / "alone", LORA))
    given = {**LORA, "pretrained": "embedded:llava_onevision", "data": data, "out": tmp_path / "out"}
    arguments = [f"--{key.replace('_', '-')}={value}" for key, value in given.items()]
    script = ["-m", "finetune"] if name == "ddp" else [str(ROOT / "tests/makers/finetune_on_cpus.py")]
    launch = ("-m", "accelerate.commands.launch", "--config_file", str(LAUNCH / f"{name}.yaml"))
    subprocess.run(
        [sys.executable, *launch, "--main_process_port", "0", *script, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"},
        check=True,
        timeout=1800,
    )
    assert_same_training(tmp_path / "out", tmp_path / "alone", step=1e-2)


@pytest.mark.parametrize(
    ("stage", "processes", "learnt", "why"),
    [
        (3, 2, False, "with ZeRO-3"),
        (2, 2, True, "with --projector trained"),
        (2, 2, False, None),
        (3, 1, True, None),
        (None, 2, True, None),
    ],
)
def test_samples_without_pictures_are_refused_where_others_would_wait(
    stage: int | None, processes: int, learnt: bool, why: str | None
) -> None:
    accelerator = on_deepspeed(stage, processes)
    refused = pytest.raises(
        UserError, match=f"^DeepSpeed cannot learn samples without pictures {why} in several"
    )
    with refused if why else nullcontext():
        check_without_pictures(accelerator, learnt=learnt)


def test_zero_3_is_refused_for_a_full_training() -> None:
    """Its checkpoint had weights under names of no model."""
    check_stage(on_deepspeed(3, 2), full=False)
    check_stage(on_deepspeed(2, 2), full=True)
    with pytest.raises(
        UserError, match=r"^--full is not supported with DeepSpeed ZeRO-3: use docs/launch/fsdp"
    ):
        check_stage(on_deepspeed(3, 2), full=True)


def on_deepspeed(stage: int | None, processes: int) -> Any:
    """What accelerate says of a training with DeepSpeed, or of one without it."""
    plugin = None if stage is None else SimpleNamespace(zero_stage=stage)
    return SimpleNamespace(state=SimpleNamespace(deepspeed_plugin=plugin), num_processes=processes)


def test_weights_that_are_elsewhere_are_counted() -> None:
    model = torch.nn.Linear(3, 2)
    model.bias.requires_grad_(False)
    assert count_weights(model) == (8, 6)
    model.weight.data = torch.empty(0)
    model.weight.ds_numel = 6
    assert count_weights(model) == (8, 6)


@pytest.mark.parametrize("stage", [2, 3])
def test_the_deepspeed_configurations_are_those_that_accelerate_reads(stage: int) -> None:
    """A dry run: DeepSpeed itself is not needed."""
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.utils.deepspeed import HfDeepSpeedConfig

    config: Any = load_config_from_file(str(LAUNCH / f"deepspeed_zero{stage}.yaml"))
    assert config.distributed_type == "DEEPSPEED"
    assert config.deepspeed_config["zero3_init_flag"] is False
    read = HfDeepSpeedConfig(str(ROOT / config.deepspeed_config["deepspeed_config_file"]))
    assert read.get_value("zero_optimization.stage") == stage
    assert read.is_zero3() is (stage == 3)
    assert not read.is_offload()
