"""A comparison moved into another Holm family has the verdict of that family."""

from dataclasses import replace
from pathlib import Path

from leaderboard.arms import read_arm
from leaderboard.comparison import TaskComparison, compare
from tests.makers.runs import BLOCK, NONE, binary, write_run


def _row(tmp_path: Path) -> TaskComparison:
    for name, run, right in (("a", NONE, 13), ("b", BLOCK, 25)):
        samples = [binary(i, i < right) for i in range(40)]
        write_run(tmp_path / name, {"mimic_counting": samples}, run)
    (row,) = compare([read_arm(tmp_path / "a"), read_arm(tmp_path / "b")]).rows
    return row


def test_the_verdict_follows_the_family(tmp_path: Path) -> None:
    """A study whose family is smaller than that of its runs printed "no difference shown" beside p = 0.03."""
    row = _row(tmp_path)
    assert row.verdict == "better"
    assert row.in_family(0.06, 9).verdict == "no difference shown"
    hidden = row.in_family(0.06, 9)
    assert (hidden.adjusted, hidden.family) == (0.06, 9)
    assert hidden.in_family(0.03, 2).verdict == "better"
    assert replace(hidden, higher_is_better=False).in_family(0.03, 2).verdict == "worse"
    assert replace(hidden, conflict=True).in_family(0.03, 2).verdict == "no verdict"
