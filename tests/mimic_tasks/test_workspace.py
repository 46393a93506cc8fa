"""A build killed at any moment leaves nothing, or what the same command completes to the same bytes."""

import hashlib
import json
import os
import signal
from pathlib import Path

import pytest

from mimic_eval.records import UserError
from mimic_eval.records.folders import COMPLETE, PARTIAL, workspace
from tests.conftest import Command, Commands
from tests.makers.coco import MadeCoco

ARGUMENTS = {"seed": 1}


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_files_are_in_their_place_when_the_block_ends(tmp_path: Path) -> None:
    out = tmp_path / "a" / "out"
    with workspace(out, ARGUMENTS) as partial:
        assert partial is not None
        (partial / "x").mkdir()
        (partial / "x" / "y.txt").write_text("y")
        assert [path.name for path in out.iterdir()] == [PARTIAL]
    assert [str(path.relative_to(out)) for path in out.rglob("*")] == ["x", "x/y.txt"]


def test_a_block_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(out: Path, error: type[BaseException]) -> None:
        with workspace(out, ARGUMENTS) as partial:
            assert partial is not None
            (partial / "x").write_text("half")
            raise error

    with pytest.raises(ZeroDivisionError):
        fail(tmp_path / "out", ZeroDivisionError)
    assert not (tmp_path / "out").exists()
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(KeyboardInterrupt):
        fail(empty, KeyboardInterrupt)
    assert list(empty.iterdir()) == []  # the user's own empty folder stays


def test_a_second_process_on_the_same_folder_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with workspace(out, ARGUMENTS) as partial:
        (partial / "x").write_text("x")  # type: ignore[operator]
        with pytest.raises(UserError, match="is being written by another process"), workspace(out, ARGUMENTS):
            pass
    assert (out / "x").read_text() == "x"


@pytest.mark.parametrize("note", [COMPLETE, f"{PARTIAL}/complete.json"])  # the second of version 0.1.0
def test_files_that_a_killed_process_had_not_yet_placed_are_placed(note: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / PARTIAL).mkdir(parents=True)
    (out / "a").write_text("placed before the kill")
    (out / PARTIAL / "b").write_text("not yet")
    (out / note).write_text(json.dumps(ARGUMENTS))
    with pytest.raises(UserError, match="other arguments"), workspace(out, {"seed": 2}):
        pass
    with workspace(out, ARGUMENTS) as partial:
        assert partial is None
    assert sorted(path.name for path in out.iterdir()) == ["a", "b"]


def test_half_written_files_of_a_killed_process_are_written_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / PARTIAL / "old").mkdir(parents=True)
    (out / PARTIAL / "old" / "half").write_text("ha")
    with workspace(out, ARGUMENTS) as partial:
        assert partial is not None
        assert list(partial.iterdir()) == []
        (partial / "new").write_text("new")
    assert [path.name for path in out.iterdir()] == ["new"]


def test_a_place_where_no_folder_can_be_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`mimic scenes --out /proc/x` tried for ever."""

    def nowhere(*_: object, **__: object) -> None:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(Path, "mkdir", nowhere)
    with (
        pytest.raises(UserError, match=r"--out .*: cannot be written .*No such file or directory"),
        workspace(tmp_path / "out", {}),
    ):
        pass


def test_a_folder_with_files_of_its_own_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(UserError, match="exists and is not empty"), workspace(tmp_path, ARGUMENTS):
        pass
    with pytest.raises(UserError, match="is a file"), workspace(tmp_path / "mine", ARGUMENTS):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def written(folder: Path) -> int:
    """Files below a folder that a process is writing and moving: `os.walk` passes over what has just gone."""
    return sum(len(names) for _, _, names in os.walk(folder))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["build", "sweep"])
def test_kill_9_then_the_same_command_gives_the_same_bytes(
    kind: str, made_coco: MadeCoco, tmp_path: Path, command: Command, commands: Commands
) -> None:
    asked = ["build"] if kind == "build" else ["sweep", "common_n", "--allow-fewer"]
    arguments = ["mimic", *asked, *made_coco.options(), "--docs", "20", "--out"]
    done = command(*arguments, tmp_path / "whole")
    assert done.returncode == 0, done.stderr
    wanted = contents(tmp_path / "whole")
    killed = 0
    for files in (1, len(wanted) // 2, len(wanted)):
        out = tmp_path / f"killed{files}"
        with commands.started(*arguments, out) as process:
            while not process.ended(0.001) and written(out) < files:
                pass
            code = process.end().returncode
        if code == -signal.SIGKILL:
            killed += 1
            again = command(*arguments, out)
            assert again.returncode == 0, again.stderr
        assert contents(out) == wanted
    assert killed
