"""The built wheel works by itself: installed into a fresh environment, the user's command runs from there."""

import json
import os
import site
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.conftest import BIN

ROOT = Path(__file__).parents[2]
PACKAGES = ("finetune", "leaderboard", "mimic_eval", "mimic_tasks", "model_adapters", "stats")
MOST = 40_000_000
"""Bytes of a wheel that people still like to download."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    call = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "-d", str(out)]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = out.glob("*.whl")
    return built


def test_it_holds_every_file_of_the_packages_and_no_other(wheel: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *PACKAGES],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip("not a git checkout")
    files = {name for name in listed.stdout.splitlines() if (ROOT / name).is_file()}
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert inside == files
    assert wheel.stat().st_size < MOST


@pytest.mark.slow
def test_the_users_command_runs_from_an_installed_wheel(wheel: Path, tmp_path: Path) -> None:
    """Packages of others are this environment's; ours only the wheel's."""
    environment = tmp_path / "env"
    venv.create(environment, with_pip=False, symlinks=True)
    python = environment / "bin/python"
    uv = [str(BIN / "uv"), "pip", "install", "--quiet", "--offline", "--no-deps", "--python", str(python)]
    installed = subprocess.run([*uv, str(wheel)], capture_output=True, text=True)
    assert installed.returncode == 0, installed.stderr
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "others.pth").write_text("\n".join([*site.getsitepackages(), *_linked()]) + "\n")
    work = tmp_path / "work"
    work.mkdir()
    variables = {name: text for name, text in os.environ.items() if not name.startswith(("PYTHON", "MIMIC_"))}
    variables |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "MIMIC_CACHE": str(tmp_path / "cache")}
    program = environment / "bin/lmms_eval"
    words = ["--tasks", "mimic_counting", "--model", "llava_ov_mask", "--limit", "2", "--output_path", "runs"]
    run = subprocess.run(
        [program, *words], cwd=work, capture_output=True, text=True, timeout=300, env=variables
    )
    assert run.returncode == 0, run.stderr[-2000:]
    (results,) = work.glob("runs/**/*_results.json")
    assert json.loads(results.read_text())["mimic"]["rows"][0]["n"] == 2
    where = "import mimic_eval, model_adapters; print(mimic_eval.__file__, model_adapters.__file__)"
    found = subprocess.run([python, "-c", where], cwd=work, capture_output=True, text=True, check=True)
    assert all(Path(path).is_relative_to(packages) for path in found.stdout.split())


def _linked() -> list[str]:
    """Folders that this environment takes packages from beside its site-packages, but for this checkout."""
    return [
        path for path in sys.path if path.endswith("site-packages") and path not in site.getsitepackages()
    ]
