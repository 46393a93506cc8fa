"""Two processes share the docs of a run and give the answers of one."""

import json
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command, Commands

pytestmark = pytest.mark.slow
TASKS = "mimic_common,mimic_counting_permuted"


def rows(folder: Path) -> dict[tuple[str, int], tuple[str, Any]]:
    """{(task, doc): its answer and the order of its images}"""
    found = {}
    for file in folder.rglob("*_samples_*.jsonl"):
        task = file.stem.split("_samples_")[1]
        for line in file.read_text().splitlines():
            sample = json.loads(line)
            own = sample["mimic"]
            assert (task, sample["doc_id"]) not in found
            found[task, sample["doc_id"]] = (own["response"], own.get("order"))
    return found


def test_one_model_over_two_processes_answers_as_in_one(
    command: Command, commands: Commands, planted: Path, calibrations: Path, tmp_path: Path
) -> None:
    """With `tp_plan=auto` both run every doc, and the first alone writes; a second run finds its answers.

    Here they have the variables that `torchrun` would set.
    """
    arguments = ["--tasks", TASKS, "--limit", 3, "--model", "llava_ov_mask", "--log_samples"]
    arguments += ["--batch_size", 3]
    mask = f"pretrained={planted},mask=mask_only,tau=8"
    cache = tmp_path / "cache"
    shutil.copytree(calibrations, cache)
    one = command(
        "lmms_eval",
        *(*arguments, "--model_args", f"{mask},journal=off", "--output_path", tmp_path / "one"),
        OMP_NUM_THREADS="1",
        MIMIC_CACHE=str(cache),
    )
    assert one.returncode == 0, one.stderr
    want = rows(tmp_path / "one")

    def together(out: str) -> tuple[str, Any]:
        run = (
            "lmms_eval",
            *arguments,
            "--model_args",
            f"{mask},tp_plan=auto",
            "--output_path",
            tmp_path / out,
        )
        shared = {
            "WORLD_SIZE": "2",
            "LOCAL_WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": "29613",
        }
        shared |= {"ACCELERATE_USE_CPU": "true", "MIMIC_CACHE": str(cache)}
        with ExitStack() as both:
            started = [
                both.enter_context(commands.started(*run, RANK=str(rank), LOCAL_RANK=str(rank), **shared))
                for rank in range(2)
            ]
            done = [process.wait(300) for process in started]
        assert [process.returncode for process in done] == [0, 0], done[0].stderr + done[1].stderr
        assert rows(tmp_path / out) == want
        results = next((tmp_path / out).rglob("*_results.json"))
        return done[0].stderr + done[1].stderr, json.loads(results.read_text())["mimic"]

    _, first = together("first")
    assert first["run"]["tp_plan"] == "auto, 2 processes"
    assert first["effects"]["edits"]["heads"] == "those of the first of 2 processes"
    alone = json.loads(next((tmp_path / "one").rglob("*_results.json")).read_text())["mimic"]
    edited = alone["effects"]["edits"]["text_rows"]["all"]
    assert first["effects"]["edits"]["text_rows"]["all"] == edited // 2
    again, _ = together("again")
    assert again.count(f"reused {len(want)} of {len(want)} answers") == 1


def test_two_processes_answer_as_one(command: Command, planted: Path, tmp_path: Path) -> None:
    """Three docs do not divide evenly; upstream repeats one to fill up, and must not count it twice.

    A user's stats.py in the working folder, which `python -m` would find first, does not matter.
    """
    (tmp_path / "stats.py").touch()
    arguments = ["--tasks", TASKS, "--limit", 3, "--model", "llava_ov_mask", "--log_samples"]
    arguments += ["--model_args", f"pretrained={planted},mask=none,journal=off", "--batch_size", 3]
    one = command("lmms_eval", *arguments, "--output_path", tmp_path / "one", OMP_NUM_THREADS="1")
    assert one.returncode == 0, one.stderr
    two = command(
        "torchrun",
        *("--nproc_per_node", 2, "--master_port", 29611, "-m", "mimic_tasks"),
        *(*arguments, "--output_path", tmp_path / "two"),
        cwd=tmp_path,
        ACCELERATE_USE_CPU="true",
        OMP_NUM_THREADS="1",
    )
    assert two.returncode == 0, two.stderr
    want = rows(tmp_path / "one")
    assert len({task for task, _ in want}) == 2
    assert len(want) > 6
    assert rows(tmp_path / "two") == want
    table = [line for line in one.stdout.splitlines() if line.startswith("mimic_")]
    assert [line for line in two.stdout.splitlines() if line.startswith("mimic_")] == table
