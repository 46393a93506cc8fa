"""Two processes share the docs of a run and give the answers of one."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command

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


def test_two_processes_answer_as_one(command: Command, planted: Path, tmp_path: Path) -> None:
    """Seven docs do not divide evenly; upstream repeats one to fill up, and must not count it twice.

    A user's stats.py in the working folder, which `python -m` would find first, does not matter.
    """
    (tmp_path / "stats.py").touch()
    arguments = ["--tasks", TASKS, "--limit", 7, "--model", "llava_ov_mask", "--log_samples"]
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
    assert len(want) > 14
    assert rows(tmp_path / "two") == want
    table = [line for line in one.stdout.splitlines() if line.startswith("mimic_")]
    assert [line for line in two.stdout.splitlines() if line.startswith("mimic_")] == table
