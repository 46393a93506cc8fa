"""One process at a time has a file or a folder; another waits with a message, or is refused in one line."""

from pathlib import Path

import pytest

from mimic_eval.records import UserError
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
