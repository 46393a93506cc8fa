"""Tables and lines that fit a terminal."""

import re
import string
import textwrap
from collections.abc import Sequence

WIDTH = 100
"""Columns of a terminal that the output of our commands fits."""

_LEAST = 10  # characters of a column that is made narrower
_GAP = "  "


def letters(names: Sequence[str]) -> dict[str, str]:
    """A, B, ... for each name."""
    alphabet = string.ascii_uppercase
    return {name: alphabet[i] if i < len(alphabet) else f"#{i + 1}" for i, name in enumerate(names)}


def fitted_table(
    headers: Sequence[str], rows: Sequence[Sequence[str]], *, narrow: Sequence[int] = (0,)
) -> str:
    """A table whose lines have at most `WIDTH` columns, as far as its numbers allow.

    Args:
        headers: one for each column.
        rows: a text for each column.
        narrow: the columns that are broken into several lines where there is no room, the widest one first.
    """
    table = [list(headers), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    while sum(widths) + len(_GAP) * (len(widths) - 1) > WIDTH:
        widest = max(narrow, key=lambda column: widths[column], default=None)
        if widest is None or widths[widest] <= _LEAST:
            break
        widths[widest] -= 1
    lines = [line for row in table[:1] for line in _lines(row, widths)]
    lines.append(_GAP.join("-" * width for width in widths))
    lines += [line for row in table[1:] for line in _lines(row, widths)]
    return "\n".join(lines)


def _lines(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    cells = [_broken(text, width) for text, width in zip(row, widths, strict=True)]
    depth = max(map(len, cells))
    padded = [[*cell, *[""] * (depth - len(cell))] for cell in cells]
    return [
        _GAP.join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in zip(*padded, strict=True)
    ]


def _broken(text: str, width: int) -> list[str]:
    """A text in lines, broken at spaces and after `_`, `/` and `-` where possible."""
    if len(text) <= width:
        return [text]
    lines, rest = [], text
    while len(rest) > width:
        at = max(rest.rfind(sign, 0, width) + 1 for sign in "_/-,")
        space = rest.rfind(" ", 0, width + 1)
        at = max(at, space + 1) if max(at, space) > width // 3 else width
        lines.append(rest[:at].rstrip())
        rest = rest[at:].lstrip()
    return [*lines, rest]


def wrapped(lines: Sequence[str]) -> str:
    """Lines of at most `WIDTH` columns; continued ones are indented, `95 %` and `n = 40` stay together."""
    together = (re.sub(r" (?=[%=<])|(?<=[=<]) ", _SPACE, line) for line in lines)
    broken = ("\n".join(_WRAPPER.wrap(line) or [""]) for line in together)
    return "\n".join(broken).replace(_SPACE, " ")


_SPACE = "\u00a0"
_WRAPPER = textwrap.TextWrapper(WIDTH, subsequent_indent="  ", break_on_hyphens=False, break_long_words=False)
