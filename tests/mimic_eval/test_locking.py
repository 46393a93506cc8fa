"""One process at a time has a file or a folder; another waits with a message, or is refused in one line."""

import tempfile
from pathlib import Path
from typing import Any

import pytest

from mimic_eval.records import UserError
from mimic_eval.records.folders import _remove_abandoned, write_atomically
from mimic_eval.records.locking import locked


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_second_one_does_not_get_it_until_the_first_leaves(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x/.lock" if kind == "file" else tmp_path
    with locked(path) as first:
        assert first
        with locked(path, wait=False) as second:
            assert not second
    with locked(path, wait=False) as third:
        assert third


def test_what_cannot_be_made_is_one_line_with_the_users_name_for_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match="--out here: cannot be written"),
        locked(tmp_path / "file/.lock", named="--out here"),
    ):
        pass


def test_a_file_is_written_though_another_writer_takes_it_for_abandoned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one looks just before the lock; the first ended with: `cannot be written (No such file`."""
    make, taken = tempfile.mkstemp, []

    def mkstemp(**how: Any) -> tuple[int, str]:
        made = make(**how)
        if not taken:
            taken.append(made[1])
            _remove_abandoned(tmp_path, ".x.json.")
            assert not Path(made[1]).exists()
        return made

    monkeypatch.setattr(tempfile, "mkstemp", mkstemp)
    write_atomically(tmp_path / "x.json", b"{}")
    assert taken
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]
    assert (tmp_path / "x.json").read_bytes() == b"{}"
