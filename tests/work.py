"""How much work a call does, in numbers that no other process on the machine changes."""

import sys
from collections import Counter
from collections.abc import Callable
from typing import Any


def modules_at_work(function: Callable[[], object]) -> Counter[str]:
    """{module: the number of calls that a call makes from and into it}: Python's and C's, in this thread."""
    counts: Counter[str] = Counter()

    def add(frame: Any, event: str, argument: Any) -> None:
        if event in ("call", "c_call"):
            counts[frame.f_globals.get("__name__", "")] += 1

    before = sys.getprofile()
    sys.setprofile(add)
    try:
        function()
    finally:
        sys.setprofile(before)
    return counts


def calls(function: Callable[[], object]) -> int:
    """The number of function calls that a call makes."""
    return modules_at_work(function).total()
