"""A command killed (SIGKILL) at any change that it makes is completed by the same command, to the byte."""

import json
from pathlib import Path

import pytest

from tests import killing
from tests.conftest import Command


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["build", "sweep", "embed", "scenes", "show", "site", "tiny"])
def test_a_command_killed_at_any_change_is_completed_by_the_same_command(
    scenario: str, command: Command, tmp_path: Path
) -> None:
    """Killed in its last step, a build was refused afterwards: `exists and is not empty`."""
    step = {"site": 11, "tiny": 3}.get(scenario, 1)  # 1 tries every one
    done = command("python", killing.__file__, scenario, tmp_path, step, timeout=900)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["wrong"] == []
    assert found["finished again"]
    assert found["killed"] >= found["changes"] // step > 0
