"""Bars are for terminals: a log gets none, or a line a minute."""

import io
from pathlib import Path

import pytest

from mimic_eval.records import progress
from mimic_eval.records.progress import progress_bar
from mimic_tasks.build import plan_only
from tests.makers.builds import options
from tests.makers.coco import MadeCoco


class Screen(io.StringIO):
    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.mark.parametrize("terminal", [False, True])
def test_planning_shows_a_bar_in_a_terminal_only(
    terminal: bool, made_coco: MadeCoco, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large plan said nothing for minutes."""
    screen = Screen(terminal=terminal)
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setattr(progress, "_DELAY_S", 0.0)
    plan_only(options(made_coco, tmp_path / "out", tasks=("counting",), docs=3))
    assert ("Planning counting" in screen.getvalue()) == terminal
    assert terminal or screen.getvalue() == ""


def test_log_of_a_run_is_not_flooded(monkeypatch: pytest.MonkeyPatch) -> None:
    """It had ten lines a second."""
    screen = Screen(terminal=False)
    monkeypatch.setattr("sys.stderr", screen)
    for _ in progress_bar(range(5000), what="Answering", unit="doc", in_log=True):
        pass
    lines = [line for line in screen.getvalue().replace("\r", "\n").splitlines() if line.strip()]
    assert len(lines) <= 3
    assert "5000/5000" in lines[-1]
