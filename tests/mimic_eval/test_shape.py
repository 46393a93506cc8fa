"""The shape of the project: which room may import which, and what an import may cost."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from mimic_eval.records import TASK_KINDS
from mimic_tasks.folder import dump_yaml
from mimic_tasks.lmms_hooks import official_config
from mimic_tasks.locate import OFFICIAL
from tests.conftest import BIN

ROOT = Path(__file__).resolve().parents[2]
RECORDS = "mimic_eval.records"
VIEWER = "mimic_eval.viewer"
STUDIES = "mimic_eval.studies"
ARROWS = {
    "stats": (),
    "mimic_eval/records": (RECORDS,),
    "mimic_eval/viewer": (RECORDS,),
    "mimic_eval/studies": (RECORDS,),
    "mimic_tasks": ("mimic_tasks", "stats", RECORDS, VIEWER),
    "model_adapters": ("model_adapters", "stats", RECORDS),
    "leaderboard": ("leaderboard", "stats", RECORDS, VIEWER, STUDIES),
    "finetune": ("finetune", "mimic_tasks", "model_adapters", "stats", RECORDS),
}
ROOMS = ("stats", "mimic_eval", "mimic_tasks", "model_adapters", "leaderboard", "finetune")


def imports(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return {name for name in found if name.split(".")[0] in ROOMS}


@pytest.mark.parametrize("room", ARROWS)
def test_arrows_point_one_way(room: str) -> None:
    allowed = (*ARROWS[room], room.replace("/", "."))
    for file in (ROOT / room).rglob("*.py"):
        if file in (ROOT / "mimic_tasks/__main__.py", ROOT / "finetune/__main__.py"):
            continue  # may call the command, nothing else of the room may
        wrong = {name for name in imports(file) if not name.startswith(allowed)}
        assert not wrong, f"{file} imports {wrong}"


def test_interventions_know_nothing_of_families_and_families_nothing_of_interventions() -> None:
    for file in (ROOT / "model_adapters/interventions").rglob("*.py"):
        assert not any("families" in name for name in imports(file))
    for file in (ROOT / "model_adapters/families").rglob("*.py"):
        assert not any("interventions" in name or "engine" in name for name in imports(file))


def test_rooms_import_without_anything_heavy() -> None:
    heavy = [
        "torch",
        "transformers",
        "lmms_eval",
        "datasets",
        "pyarrow",
        "pycocotools",
        "scipy",
        "peft",
    ]
    rooms = [
        "mimic_eval.cli",
        "mimic_tasks.lmms_hooks",
        "mimic_tasks.locate",
        "model_adapters",
        "leaderboard.summary",
        "leaderboard.site.submission",
    ]
    code = f"""
import sys
for name in {heavy!r}:
    sys.modules[name] = None  # importing it now fails
for room in {rooms!r}:
    __import__(room)
from model_adapters.manifests import manifests
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr


def test_importing_sets_nothing_in_the_environment() -> None:
    code = """
import os, sys, json
before = dict(os.environ)
import mimic_eval.cli, mimic_tasks.lmms_hooks, mimic_tasks.build, model_adapters.options, leaderboard.table
print(json.dumps({k: v for k, v in os.environ.items() if before.get(k) != v}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    changed = set(json.loads(done.stdout))
    assert not {name for name in changed if not name.startswith(("KMP_", "TORCH"))}  # torch's own


def test_mimic_help_imports_little() -> None:
    """Under half a second: 250 modules, 44 of them ours, where numpy alone has 150."""
    code = (
        "import atexit, runpy, sys\n"
        "sys.argv = sys.argv[1:]\n"
        "atexit.register(lambda: print(len(sys.modules), file=sys.stderr))\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    call = [sys.executable, "-c", code, BIN / "mimic", "--help"]
    done = subprocess.run(call, capture_output=True, text=True)
    assert done.returncode == 0
    assert int(done.stderr) < 280
    for name in (
        "build",
        "sweep",
        "export-training",
        "scenes",
        "score",
        "report",
        "show",
        "check-overlap",
        "compare",
        "robustness",
        "leaderboard",
        "train-reference",
        "tasks",
        "tiny-checkpoint",
        "calibrate",
        "convert",
        "do-no-harm",
    ):
        assert f"  {name} " in done.stdout


def test_our_models_are_found_by_upstreams_entry_point() -> None:
    from importlib.metadata import entry_points

    (entry,) = [e for e in entry_points(group="lmms_eval.models") if e.name == "mimic_eval"]
    assert {"internvl_mask", "internvl2_mask", "llava_mask", "llava_ov_mask", "qwen2_vl_mask"} <= {
        manifest.model_id for manifest in entry.load()()
    }


@pytest.mark.parametrize("kind", TASK_KINDS)
def test_the_packaged_official_tasks_are_what_the_code_says(kind: str) -> None:
    text = (OFFICIAL / f"mimic_official_{kind}.yaml").read_text()
    assert text == dump_yaml(official_config(kind))
    settings = yaml.safe_load(text.replace("!function ", ""))["generation_kwargs"]
    assert settings == {
        "max_new_tokens": 32 if kind == "listing" else 16,
        "do_sample": False,
        "temperature": 0,
        "until": [],
    }


def test_no_file_names_an_address_of_a_registry() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    assert all("==" in line for line in lock.splitlines())


def test_the_embedded_data_is_small_and_has_sixty_docs_a_task() -> None:
    folder = ROOT / "mimic_tasks/embedded"
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 6e6
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {kind: task["docs"] for kind, task in manifest["tasks"].items()} == dict.fromkeys(TASK_KINDS, 60)
    assert all(task["largest_answer_share"] <= 0.4 for task in manifest["tasks"].values())


def test_the_card_of_the_embedded_data_has_every_task() -> None:
    folder = ROOT / "mimic_tasks/embedded"
    kinds = sorted(path.parent.name for path in folder.glob("*/test.parquet"))
    text = (folder / "README.md").read_text()
    assert sorted(one["config_name"] for one in yaml.safe_load(text.split("---")[1])["configs"]) == kinds
    docs = {kind: pq.read_metadata(folder / kind / "test.parquet").num_rows for kind in kinds}
    assert {kind: f"| mimic_{kind} | {n} |" in text for kind, n in docs.items()} == dict.fromkeys(kinds, True)
    assert "lmms_eval --tasks mimic,mimic_order " in text


@pytest.mark.slow
def test_the_embedded_data_is_what_make_embedded_makes(tmp_path: Path) -> None:
    recipe = re.search(r"^embedded: install\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    script = recipe[1].replace("$(VENV)/bin/", f"{BIN}/")
    done = subprocess.run(["bash", "-euc", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    committed, made = ROOT / "mimic_tasks/embedded", tmp_path / "mimic_tasks/embedded"
    versions = [json.loads((at / "manifest.json").read_text())["versions"] for at in (committed, made)]
    for file in (path for path in committed.rglob("*") if path.is_file()):
        again = made / file.relative_to(committed)
        if versions[0] == versions[1]:
            assert again.read_bytes() == file.read_bytes(), file
        elif file.suffix == ".parquet":  # other versions may compress otherwise, but draw the same docs
            columns = ["question", "gt", "image_ids", "boxes"]
            assert pq.read_table(again, columns=columns) == pq.read_table(file, columns=columns), file


def test_what_is_no_evaluation_is_left_to_upstream() -> None:
    from mimic_eval.cli.lmms.run import is_evaluation

    assert is_evaluation(["--tasks", "mimic"])
    assert is_evaluation(["eval", "--tasks", "mimic"])
    for argv in ([], ["eval"], ["--help"], ["--tui"], ["models"], ["tasks", "list"], ["--power-analysis"]):
        assert not is_evaluation(argv)


def test_the_top_holds_the_packages_and_nothing_that_a_command_wrote() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    folders = {name.split("/")[0] for name in listed.stdout.splitlines() if "/" in name}
    packages = {room.split("/")[0] for room in ROOMS}
    assert folders == {*packages, ".ci", "benchmarks", "docs", "tests"}
