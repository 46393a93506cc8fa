"""Texts that others wrote, made fit for pages, tables and messages."""

import json
import re
from typing import Any

from leaderboard.sentences import points

_RANGE = re.compile(r"(?<![\w-])\d+-\d+(?![\w-])")
_NO_SHARES = re.compile(r"entropy|recurrence|rho\b", re.IGNORECASE)
"""In the names of measurements that are not shares."""


def printable(text: str) -> str:
    """The text with U+FFFD instead of each character that cannot be printed."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def readable(answer: str) -> str:
    """What a parser read in an answer, as people write it.

    Args:
        answer: JSON, whose lists may hold JSON in turn, as samples have it: a name, a number, a list of
            names, or numbers by class.

    Returns:
        ``dog``; ``dog, cat``; ``dog: 2, cat: 1``. JSON that was cut loses its signs; other texts stay.
    """
    try:
        return _words(json.loads(answer))
    except (ValueError, RecursionError):
        return re.sub(r'[\[\]{}"\\]', "", answer) if answer[:1] in ('"', "[", "{") else answer


def unbroken(label: str) -> Any:
    """A label as HTML, in whose ranges of layers (``12-23``) no line ends; one may end after ``: / _``."""
    from markupsafe import Markup, escape

    text = re.sub(r"(?<=[:/_])(?=\w)", "<wbr>", str(escape(label)))
    return Markup(_RANGE.sub(r'<span class="nb">\g<0></span>', text))


def _words(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_words, value)) or "nothing"
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_words(one)}" for name, one in value.items())
    if isinstance(value, str):
        return readable(value) if value[:1] in ('"', "[", "{") else value
    return json.dumps(value)


def measured(value: float, name: str) -> str:
    """A difference of a measurement: of shares in points, else as it is.

    Args:
        value: the difference.
        name: of the measurement, which says whether it is a share.
    """
    return f"{value:+.4f}" if _NO_SHARES.search(name) else points(value, sign=True)
