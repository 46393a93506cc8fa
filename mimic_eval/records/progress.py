"""Progress on stderr: a bar in a terminal, hardly anything in a log."""

import sys
from collections.abc import Iterable
from typing import Any

_DELAY_S = 1.0
_IN_A_LOG_S = 60.0


def progress_bar(
    items: Iterable[Any] | None = None,
    *,
    total: int | None = None,
    what: str,
    unit: str,
    hidden: bool = False,
    in_log: bool = False,
) -> Any:
    """A `tqdm` bar, which a terminal shows once its work takes longer than a second.

    Args:
        items: that it counts, or None with `total` and `update`.
        total: how many, if that is not the length of `items`.
        what: is done ("Planning counting").
        unit: of what is counted.
        hidden: never show it.
        in_log: where stderr is no terminal, write a line each minute, and leave the last one.
    """
    from tqdm import tqdm

    terminal = sys.stderr.isatty()
    return tqdm(
        items,
        total=total,
        desc=what,
        unit=unit,
        leave=in_log,
        delay=0 if in_log else _DELAY_S,
        mininterval=0.1 if terminal else _IN_A_LOG_S,
        disable=hidden or not (terminal or in_log),
    )
