"""A user's files and other packages that are named like ours."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mimic_eval.records.packages import PACKAGES
from tests.command_server import CommandServer
from tests.conftest import Command, Commands

ROOT = Path(__file__).resolve().parents[2]
WRONG_TASK = ("--tasks", "mimic_countin", "--model", "llava_ov_mask")


def with_own_files(folder: Path, *, mimic_tasks: bool = False) -> Path:
    """What a user's working folder may hold: modules and a package with our names."""
    for name in set(PACKAGES) - {"mimic_tasks"} | ({"mimic_tasks"} if mimic_tasks else set()):
        (folder / f"{name}.py").write_text("raise SystemExit('the file of the user was run')\n")
    (folder / "finetune").mkdir()
    (folder / "finetune/__init__.py").touch()
    return folder


def test_python_m_does_not_see_files_of_the_working_folder(fresh_command: Command, tmp_path: Path) -> None:
    """Before, `cannot import name 'F1' from 'stats'` came when all docs were answered."""
    done = fresh_command("python", "-m", "mimic_tasks", *WRONG_TASK, cwd=with_own_files(tmp_path))
    assert done.returncode == 2
    assert "has no task 'mimic_countin'" in done.stderr


def test_commands_do_not_see_files_of_the_working_folder(command: Command, tmp_path: Path) -> None:
    folder = with_own_files(tmp_path, mimic_tasks=True)
    done = command("lmms_eval", *WRONG_TASK, cwd=folder)
    assert done.returncode == 2
    assert "has no task 'mimic_countin'" in done.stderr
    done = command("mimic", "tasks", "path", cwd=folder)
    assert (done.returncode, done.stdout) == (0, f"{ROOT}/mimic_tasks/embedded\n"), done.stderr


@pytest.mark.parametrize(
    ("arguments", "file"),
    [
        (("python", "-m", "mimic_tasks", *WRONG_TASK), "stats.py"),
        (("lmms_eval", *WRONG_TASK), "leaderboard.py"),
        (("mimic", "report", "runs"), "mimic_tasks.py"),
        (("mimic", "--help"), "finetune/__init__.py"),
    ],
)
def test_a_package_hidden_by_pythonpath_is_one_line_before_any_answer(
    arguments: tuple[str, ...], file: str, command: Command, tmp_path: Path
) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).touch()
    name = file.split("/")[0].removesuffix(".py")
    done = command(*arguments, cwd=Path("/"), PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: `import {name}` gives {tmp_path / file} and not mimic-eval's {ROOT / name / '__init__.py'}: "
        "rename or uninstall it, or take its folder out of PYTHONPATH\n"
    )


def test_one_of_several_processes_says_it(fresh_command: Command, tmp_path: Path) -> None:
    (tmp_path / "stats.py").touch()
    done = fresh_command("mimic", "--help", PYTHONPATH=str(tmp_path), RANK="1")
    assert (done.returncode, done.stderr) == (2, "")


def test_a_fork_is_not_used_where_the_path_differs(commands: Commands, tmp_path: Path) -> None:
    server = CommandServer(tmp_path, commands.environment())
    assert server.serves(commands.environment())
    assert not server.serves(commands.environment(PYTHONPATH=str(tmp_path)))


def in_packages(folder: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """`check_packages` of a copy of ours in `folder`, with another folder of packages before it."""
    code = "from mimic_eval.records.packages import check_packages; check_packages()"
    environment = {**os.environ, "PYTHONPATH": f"{site}:{folder}"}
    return subprocess.run(
        [sys.executable, "-Pc", code], capture_output=True, text=True, env=environment, cwd="/"
    )


def test_an_installed_package_of_the_same_name_is_refused(tmp_path: Path) -> None:
    ours, site = tmp_path / "ours", tmp_path / "site-packages"
    ours.mkdir()
    for name in PACKAGES:
        (ours / name).symlink_to(ROOT / name)
    (site / "leaderboard").mkdir(parents=True)  # no __init__.py: it hides nothing
    assert in_packages(ours, site).returncode == 0
    (site / "stats").mkdir()
    (site / "stats/__init__.py").touch()
    assert f"`import stats` gives {site / 'stats/__init__.py'}" in in_packages(ours, site).stderr


def test_a_package_that_is_missing_is_named(tmp_path: Path) -> None:
    for name in set(PACKAGES) - {"finetune"}:
        (tmp_path / name).symlink_to(ROOT / name)
    done = in_packages(tmp_path, tmp_path)
    assert (
        f"mimic-eval's package 'finetune' is missing in {tmp_path}: install mimic-eval again" in done.stderr
    )


def test_upstreams_command_refuses_before_any_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`python -m lmms_eval` starts none of our commands; our tasks' first function checks."""
    import datasets

    from mimic_eval.records import UserError
    from mimic_tasks.lmms_hooks import keep_bytes

    docs = datasets.Dataset.from_dict({"content_hash": ["0"]})
    assert keep_bytes(docs) is docs
    (tmp_path / "stats.py").touch()
    monkeypatch.delitem(sys.modules, "stats", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"`import stats` gives .*/stats.py"):
        keep_bytes(docs)
