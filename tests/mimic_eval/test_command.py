"""The user's command as installed."""

import importlib
import inspect
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mimic_tasks.build import BuildOptions, build
from tests.conftest import BIN, Command
from tests.makers.coco import MadeCoco

pytestmark = pytest.mark.slow
USER = ("lmms_eval", "--tasks", "mimic_counting", "--model", "llava_ov_mask")


@pytest.fixture(scope="module")
def made_tasks(made_coco: MadeCoco, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tasks") / "made"
    options = BuildOptions(
        (made_coco.annotations,), (made_coco.images,), out, docs=10, tasks=("counting", "listing")
    )
    build(options, progress=False)
    return out


def results_in(folder: Path) -> dict[str, Any]:
    (path,) = folder.rglob("*_results.json")
    data: dict[str, Any] = json.loads(path.read_text())
    return data


def samples_in(folder: Path, task: str) -> list[dict[str, Any]]:
    (path,) = folder.rglob(f"*_samples_{task}.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_users_command_runs_on_the_embedded_data(command: Command, tmp_path: Path) -> None:
    """It stores results and samples in runs/<time>, and prints one table, of at most 100 columns.

    In a new process it does the same (test_command_server.py).
    """
    done = command(*USER, "--batch_size", 4, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "No pretrained= given: the embedded reference checkpoint" in done.stderr
    results = results_in(tmp_path)
    samples = samples_in(tmp_path, "mimic_counting")
    assert len(samples) == results["n-samples"]["mimic_counting"]["effective"]
    row = results["mimic"]["rows"][0]
    scores = [sample["exact_match"]["score"] for sample in samples]
    assert (row["data"], row["n"], row["mask"]) == ("embedded", len(samples), "block 3-5")
    assert row["score"] == pytest.approx(sum(scores) / len(scores))
    assert row["low"] <= row["score"] <= row["high"]
    assert "embedded" in done.stdout
    record = samples[0]["mimic"]
    assert record["source"] == "embedded"
    assert len(record["content_hash"]) == 64
    assert len(record["image_ids"]) == record["n_images"] == record["spread"] + record["distractors"]
    (folder,) = tmp_path.glob("runs/*")
    assert f"results and samples: runs/{folder.name} (`mimic report runs/{folder.name}`" in done.stdout
    report = command("mimic", "report", folder)
    assert report.returncode == 0
    assert report.stdout.strip() in done.stdout
    assert "|" not in done.stdout  # as upstream's table has it
    table = done.stdout[done.stdout.index("data embedded;") : done.stdout.index("results and samples")]
    assert max(map(len, table.splitlines())) <= 100


def test_a_cut_picture_costs_its_doc_and_the_run_says_so(
    command: Command, made_tasks: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "cut"
    shutil.copytree(made_tasks, folder)
    file = folder / "counting/test.parquet"
    metadata = pq.read_metadata(file).metadata
    table = pq.read_table(file)
    rows = table.to_pylist()
    rows[2]["images"][0]["bytes"] = rows[2]["images"][0]["bytes"][:70]
    rows[5]["images"][1]["bytes"] = b"no picture"
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema.with_metadata(metadata)), file)
    done = command(
        *USER,
        "--log_samples",
        "--output_path",
        tmp_path / "run",
        "--verbosity",
        "WARNING",
        MIMIC_DATA=str(folder),
    )
    assert done.returncode == 0, done.stderr
    assert "2 of 10 docs are unscored:" in done.stderr
    samples = {sample["doc_id"]: sample for sample in samples_in(tmp_path / "run", "mimic_counting")}
    assert [i for i, s in samples.items() if s["mimic"]["status"] == "unscored"] == [2, 5]
    assert samples[2]["mimic"]["reason"].startswith("image 1 of ")
    assert "score" not in samples[2]["exact_match"]
    row = results_in(tmp_path / "run")["mimic"]["rows"][0]
    assert (row["n"], row["unscored"]) == (8, 2)
    report = command("mimic", "report", tmp_path / "run")
    assert "unscored: mimic_counting doc 2: image 1 of " in report.stdout


def test_upstreams_own_command_runs_our_tasks_and_model(
    command: Command, fresh_command: Command, made_tasks: Path, tmp_path: Path
) -> None:
    path = command("mimic", "tasks", "path", MIMIC_DATA=str(made_tasks)).stdout.strip()
    assert path == str(made_tasks)
    done = fresh_command(
        "lmms-eval",
        *USER[1:],
        "--include_path",
        path,
        "--limit",
        4,
        "--output_path",
        tmp_path,
        "--log_samples",
    )
    assert done.returncode == 0, done.stderr
    scores = results_in(tmp_path)["results"]["mimic_counting"]
    assert {"exact_match,none", "exact_match_official,none", "unscored,none"} <= set(scores)
    report = command("mimic", "report", tmp_path, "--json")
    row = json.loads(report.stdout)[0]
    assert (row["n"], row["checkpoint"], row["mask"], row["data"]) == (
        4,
        "embedded:llava_onevision (trained)",
        "block 3-5",
        "instances_made",
    )


def test_a_users_folder_wins(command: Command, made_tasks: Path, tmp_path: Path) -> None:
    done = command(
        "lmms_eval", "--tasks", "mimic_listing", "--model", "llava_ov_mask", "--limit", 3,
        "--include_path", made_tasks, "--output_path", tmp_path, "--model_args", "mask=none",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "--include_path defines mimic, mimic_counting, mimic_listing: used instead of ours" in done.stderr
    (row, official) = results_in(tmp_path)["mimic"]["rows"]
    assert (row["data"], row["mask"], official["metric"]) == ("instances_made", "none", "f1_official")
    assert len(samples_in(tmp_path, "mimic_listing")) == 3


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--tasks", "mimic_counting", "--model", "llava_ov_msk"), 2, "Did you mean 'llava_ov_mask'?"),
        (("--tasks", "no_such_task", "--model", "llava_ov_mask"), 2, "Tasks not found: no_such_task"),
    ],
)
def test_a_run_without_a_result_exits_non_zero_with_one_line(
    arguments: tuple[str, ...], code: int, message: str, command: Command
) -> None:
    done = command("lmms_eval", *arguments, "--verbosity", "WARNING")
    assert done.returncode == code
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in done.stderr


def test_the_official_data_out_of_reach_is_an_error_in_one_line(command: Command) -> None:
    done = command("lmms_eval", "--tasks", "mimic_official_common", "--model", "llava_ov_mask")
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert "anurag4446/mimic" in line


def test_the_official_tasks_score_data_in_the_official_form(command: Command, tmp_path: Path) -> None:
    """`load_dataset` takes a folder of this name before the Hub, so the real task file runs on made data."""
    import datasets
    from PIL import Image

    columns = {
        "images": [[Image.new("RGB", (40, 40), shade) for shade in ("red", "blue")]] * 3,
        "question": ["Which class is in every image?"] * 3,
        "gt": ["cat", "dog", "car"],
        "task": ["common_2"] * 3,
        "id": [0, 1, 2],
    }
    features = datasets.Features(
        {
            "images": datasets.List(datasets.Image()),
            **{name: datasets.Value("string") for name in ("question", "gt", "task")},
            "id": datasets.Value("int64"),
        }
    )
    folder = tmp_path / "anurag4446/mimic"
    (folder / "common").mkdir(parents=True)
    datasets.Dataset.from_dict(columns, features=features).to_parquet(folder / "common/test.parquet")
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: common\n"
        "  data_files:\n  - split: test\n    path: common/test.parquet\n---\n"
    )
    done = command(
        "lmms_eval", "--tasks", "mimic_official_common", "--model", "llava_ov_mask", "--log_samples",
        "--output_path", tmp_path / "run", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    samples = samples_in(tmp_path / "run", "mimic_official_common")
    assert [sample["target"] for sample in samples] == columns["gt"]
    assert samples[0]["input"] == "Question: Which class is in every image?\nAnswer:"
    assert len({sample["mimic"]["content_hash"] for sample in samples}) == 3
    row = results_in(tmp_path / "run")["mimic"]["rows"][0]
    assert (row["task"], row["n"], row["data"]) == ("mimic_official_common", 3, "anurag4446/mimic")


def test_mimic_score_prints_one_json_object(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    lines = [("There are two dogs.", "2"), ("", "3"), ("3", 3), ("5 or 6", "5")]
    file.write_text("".join(json.dumps({"response": r, "gt": g}) + "\n" for r, g in lines))
    done = command("mimic", "score", "mimic_counting", file)
    assert done.returncode == 0
    score = json.loads(done.stdout)
    assert (score["n"], score["score"], score["score_official"], score["unparsed"]) == (4, 0.5, 0.75, 2)
    file.write_text('{"response": "cat, dog", "gt": "cat, dog"}\n')
    score = json.loads(command("mimic", "score", "listing", file).stdout)
    assert (score["score"], score["precision"], score["recall"], score["score_official"]) == (
        1.0,
        1.0,
        1.0,
        0.5,
    )
    for content, message in (("", "holds no lines"), ('{"gt": "1"}', "line 1: lacks response")):
        file.write_text(content)
        wrong = command("mimic", "score", "counting", file)
        assert (wrong.returncode, wrong.stdout) == (2, "")
        assert message in wrong.stderr


def test_a_task_that_the_folder_lacks_is_said_before_upstreams_imports(
    fresh_command: Command, made_tasks: Path
) -> None:
    code = """
import atexit, runpy, sys
sys.argv = sys.argv[1:]
atexit.register(lambda: print([name for name in ("lmms_eval", "torch", "datasets") if name in sys.modules]))
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    wrong = ("--tasks", "mimic_common", "--model", "llava_ov_mask")
    done = fresh_command("python", "-c", code, BIN / "lmms_eval", *wrong, MIMIC_DATA=str(made_tasks))
    assert done.returncode == 2
    assert done.stdout == "[]\n"
    assert (
        f"{made_tasks} (MIMIC_DATA) has no task 'mimic_common'; it has mimic, mimic_counting, mimic_listing"
        in done.stderr
    )


@pytest.mark.parametrize(
    ("variables", "arguments", "message"),
    [
        ({}, (*USER[1:], "--model_args", "mask=bloc"), "Unknown mask 'bloc'. Did you mean 'block'?"),
        ({}, (*USER[1:], "-b", "auto"), "batch_size must be an integer of at least 1, got 'auto'"),
        ({}, ("--tasks", "mimic,"), "--tasks must read name,name"),
        ({}, ("--tasks", "mimic_zzz*"), "has no task 'mimic_zzz*'"),
        ({}, (*USER[1:], "--limit", "0"), "--limit must be a number of docs"),
        ({}, (*USER[1:], "--output_path", "/proc/version/x"), "cannot be written, because of /proc/version"),
        ({}, ("--model", "llava_ov_mask"), "no task given"),
        (
            {"MIMIC_DATA": "/no/such/folder"},
            ("--tasks", "mimic"),
            "MIMIC_DATA=/no/such/folder: no such folder",
        ),
        ({"MIMIC_DATA": "/"}, ("--tasks", "mimic"), "MIMIC_DATA=/ holds no mimic_"),
        ({}, ("--tasks", "mimic", "--include_path", "/no/such"), "--include_path /no/such: no such folder"),
    ],
)
def test_what_can_be_seen_wrong_early_is(
    variables: dict[str, str], arguments: tuple[str, ...], message: str, command: Command
) -> None:
    done = command("lmms_eval", *arguments, **variables)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_module_that_is_loaded_when_used_is_not_loaded_by_a_look_at_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch looks through all modules; importlib's own lazy loader would load there."""
    from mimic_eval.cli.lmms.run import load_when_used

    name = "a_package_made_for_this_test"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("from .loading import load\n__version__ = '1'\n")
    (tmp_path / name / "loading.py").write_text("def load(): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    load_when_used(name)
    try:
        own = importlib.import_module(name)
        inspected = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
        assert inspected
        inspect.getmodule(inspect.currentframe())
        assert not hasattr(own, "__path_hooks__")
        assert f"{name}.loading" not in sys.modules
        assert own.load.__module__ == f"{name}.loading"
        assert importlib.import_module(name).__version__ == "1"
        load_when_used(name)
        assert importlib.import_module(name) is sys.modules[name]
    finally:
        for loaded in (name, f"{name}.loading"):
            sys.modules.pop(loaded, None)
    load_when_used("a_module_that_nobody_has")


def test_upstreams_tasks_are_read_only_where_one_may_be_asked_for(tmp_path: Path) -> None:
    from mimic_eval.cli.lmms.wrappers import only_ours

    assert only_ours("mimic_counting,mimic_common_permuted,mimic_official_listing", None)
    assert not only_ours("mimic_counting,mmmu_val", None)
    assert not only_ours("mimic_*", None)
    (tmp_path / "own.yaml").write_text("group: mimic_counting\ntask:\n  - mmmu_val\n")
    assert not only_ours("mimic_counting", str(tmp_path))
    assert only_ours("mimic_common", str(tmp_path))
