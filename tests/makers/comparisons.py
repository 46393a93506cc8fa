"""Comparisons of two runs that are made of samples."""

from pathlib import Path
from typing import Any

from leaderboard.arms import read_arm
from leaderboard.comparison import TaskComparison, compare
from tests.makers.runs import BLOCK, NONE, write_run


def two(folder: Path, task: str, a: Any, b: Any) -> TaskComparison:
    """One task of two runs, without a mask and with blocks, made of samples and compared."""
    (row,) = compared(folder, {task: a}, {task: b}).rows
    return row


def compared(folder: Path, a: Any, b: Any) -> Any:
    """Two runs, of samples by task, compared."""
    one = write_run(folder / "a", a, NONE)
    other = write_run(folder / "b", b, BLOCK)
    return compare([read_arm(one), read_arm(other)])
