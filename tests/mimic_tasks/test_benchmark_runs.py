"""Every public benchmark through the real command: with none, block and AR, in both forms."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from mimic_tasks.benchmarks import BENCHMARKS
from tests.conftest import Command
from tests.makers.benchmarks import write_sets

pytestmark = pytest.mark.slow
DOCS = {
    "muirbench": 4,
    "mirb": 3,
    "blink": 28,
    "libench": 5,
    "mantis": 2,
    "mmt_mi": 3,
    "mmiu": 4,
    "mibench": 3,
}
LIMIT = 4


def test_every_set_runs_in_both_forms_with_every_kind_of_mask(
    command: Command, planted: Path, calibrations: Path, tmp_path: Path
) -> None:
    """none and block on embedded checkpoints, AR on one with sinks."""
    sets = write_sets(tmp_path / "sets")
    runs = {
        "none": ("llava_ov_mask", "mask=none"),
        "block": ("qwen2_vl_mask", "mask=block,layers=all"),
        "ar": ("llava_ov_mask", f"pretrained={planted},mask=ar,relevance=attention,score=z,tau=1"),
    }
    tasks = [task for benchmark in BENCHMARKS.values() for task in benchmark.tasks]
    config = [
        {
            "model": model,
            "model_args": arguments,
            "tasks": ",".join(tasks),
            "limit": LIMIT,
            "batch_size": "4",
            "gen_kwargs": "max_new_tokens=2",
            "log_samples": True,
            "output_path": str(tmp_path / "out" / name),
            "verbosity": "WARNING",
        }
        for name, (model, arguments) in runs.items()
    ]
    (tmp_path / "runs.yaml").write_text(yaml.safe_dump(config))
    done = command(
        "lmms_eval", "--config", tmp_path / "runs.yaml",
        MIMIC_CACHE=str(calibrations), MIMIC_DATASETS=str(sets), timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    for name in runs:
        (file,) = (tmp_path / "out" / name).rglob("*_results.json")
        results = json.loads(file.read_text())
        rows = {(row["task"], row["metric"]): row for row in results["mimic"]["rows"]}
        for benchmark in BENCHMARKS.values():
            for task in benchmark.tasks:
                row = rows[task, benchmark.metric]
                missing = int(benchmark.name == "mmiu")  # a doc without a truth
                assert (row["n"], row["unscored"]) == (min(DOCS[benchmark.name], LIMIT) - missing, missing)
                assert (row["docs"], row["data"]) == (DOCS[benchmark.name], benchmark.repo)
                assert (task, f"{benchmark.metric}_official") in rows
                assert ("official_overall,none" in results["results"][task]) == bool(benchmark.overall)
        effects = results["mimic"]["effects"]
        assert (
            effects["image_marks"]["docs"] == 4 + 3 + 4 + 1 + 3 + 3
        )  # upstream forms; others have none left
        if name == "ar":
            assert effects["edits"]["visual_rows"]["edited"] > 0
        overall = results["results"]["mimic_mmiu"]["official_overall,none"]
        assert rows["mimic_mmiu", "official_overall"]["score"] == overall
        prompts = {task: inputs(file, task) for task in tasks}
        assert prompts["mimic_muirbench"] == prompts["mimic_muirbench_interleaved"]  # upstream logs the text
    printed = command("mimic", "report", "--sub-tasks", "--json", tmp_path / "out" / "block")
    assert printed.returncode == 0, printed.stderr
    parts = {(row["task"], row["metric"]): row for row in json.loads(printed.stdout)}
    row = parts["mimic_muirbench_interleaved / Difference Spotting", "exact_match"]
    assert (row["n"], row["interval"]) == (2, "Wilson 95 %")
    assert parts["mimic_libench / IEdit", "mean_score_official"]["n"] == 1
    assert parts["mimic_mmiu / spot_the_diff", "exact_match_official"]["n"] == 2


def test_orders_run_and_robustness_shows_letters_flips_and_excluded_docs(
    command: Command, tmp_path: Path
) -> None:
    sets = write_sets(tmp_path / "sets")
    tasks = (
        "mimic_muirbench_permuted_options,mimic_muirbench_permuted_images,mimic_mmiu_permuted_options,"
        "mimic_libench_permuted_options"
    )
    done = command(
        "lmms_eval", "--tasks", tasks, "--model", "llava_ov_mask", "--model_args", "mask=block",
        "--gen_kwargs", "max_new_tokens=2", "--limit", 3, "--log_samples", "--output_path", tmp_path / "out",
        "--verbosity", "WARNING", MIMIC_CACHE=str(tmp_path / "cache"), MIMIC_DATASETS=str(sets),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "MuirBench, options in other orders: 4 of 4 docs" in done.stderr
    (file,) = (tmp_path / "out").rglob("*_results.json")
    rows = {(row["task"], row["metric"]): row for row in json.loads(file.read_text())["mimic"]["rows"]}
    row = rows["mimic_muirbench_permuted_options", "exact_match_over_orders"]
    assert row["n"] == 3  # --limit counts docs, not orders
    printed = command("mimic", "robustness", tmp_path / "out", "--out", tmp_path / "robustness")
    assert printed.returncode == 0, printed.stderr
    details = (tmp_path / "robustness/robustness.md").read_text()
    assert "positions: the letter of the right option in 3 docs" in details
    assert "docs without another order are not in the task: 3 images apart" in details
    (report,) = (tmp_path / "robustness").glob("*.json")
    report_of = {row["task"]: row for row in json.loads(report.read_text())["rows"]}
    options = report_of["mimic_muirbench_permuted_options"]
    assert (options["n"], options["placed"], options["about"]) == (3, 3, "letter of the right option")
    assert [place for n, place, *_ in options["places"] if n == 3] == ["1", "2", "3"]
    assert report_of["mimic_muirbench_permuted_images"]["excluded"] == {
        "images apart, in a sentence or in an option": 3
    }
    assert report_of["mimic_mmiu_permuted_options"]["excluded"] == {"no truth": 1}
    assert report_of["mimic_libench_permuted_options"]["excluded"] == {
        "open question": 2,
        "options not listed line by line": 1,
    }


def inputs(file: Path, task: str) -> list[str]:
    path = file.with_name(file.name.replace("_results.json", f"_samples_{task}.jsonl"))
    rows: list[dict[str, Any]] = [json.loads(line) for line in path.read_text().splitlines()]
    return [row["input"] for row in sorted(rows, key=lambda row: row["doc_id"])]
