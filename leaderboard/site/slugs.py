"""Names of pages: readable, in small ASCII letters, different from each other on any file system."""

import re
import unicodedata
from collections.abc import Sequence
from itertools import chain, count
from typing import NamedTuple

LONGEST = 80
_RESERVED = re.compile(r"con|prn|aux|nul|com\d|lpt\d|index")
"""Names that Windows keeps for devices, and the one that servers take for a folder."""


class Wanted(NamedTuple):
    """What a page would like to be named after.

    Attributes:
        id: hexadecimal, different for each page: what its name ends with where the text alone is not enough.
        text: what a reader calls it.
        sender: the name of a submission, or empty for the site's maker.
    """

    id: str
    text: str
    sender: str = ""


def slugs(wanted: Sequence[Wanted]) -> dict[str, str]:
    """The name of each page, by id: letters, digits, ``-`` and ``_``.

    A page keeps its name when pages are added behind it: of equal texts the first has the plain name, the
    others end with a part of their id, and so does a text with letters that are not of ASCII, or too long.
    Names of submissions lead theirs, followed by ``--``, which no other name holds: nobody can take the
    address of another.

    Args:
        wanted: oldest first.
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for one in wanted:
        plain, complete = _plain(one.text)
        lead = f"{one.sender.lower()}--" if one.sender else ""
        plain = f"{lead}{plain}"
        tries = chain([plain] * complete, (f"{plain}-{one.id[:8]}{'-' * bool(n)}{n or ''}" for n in count()))
        names[one.id] = next(name for name in tries if name not in taken)
        taken.add(names[one.id])
    return names


def _plain(text: str) -> tuple[str, bool]:
    """The text in letters, digits and single ``-``, and whether they are all that it says."""
    letters = unicodedata.normalize("NFKD", text[: 4 * LONGEST]).lower()
    ascii_only = "".join(one for one in letters if one.isascii() or not one.isalnum())
    name = re.sub(r"[^a-z0-9]+", "-", ascii_only).strip("-")
    cut = name[:LONGEST].strip("-")
    complete = cut == name and len(text) <= 4 * LONGEST and not any(map(_is_lost, letters))
    return cut or "page", complete and bool(cut) and not _RESERVED.fullmatch(cut)


def _is_lost(character: str) -> bool:
    return not character.isascii() and character.isalnum()
