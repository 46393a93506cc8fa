"""Texts that look alike, by Unicode's skeletons (UTS 39)."""

import unicodedata
from functools import cache
from string import ascii_uppercase

from confusable_homoglyphs.confusables import confusables_data

_MARKS = "\u200e\u200f"
"""Signs of direction, which the library's data have around letters that are written to the left."""


@cache
def skeleton(text: str) -> str:
    """The same for texts that a reader may take for each other (UTS 39, section 4, and coarser).

    Characters that look alike become one; case, spaces, marks on letters and invisible characters are
    ignored: ``Cafe``, ``café``, ``C a f e`` and ``Cаfе`` with Cyrillic letters are the same.
    """
    prototypes = _prototypes()
    plain = "".join(
        prototypes.get(character, character) for character in unicodedata.normalize("NFKD", text)
    ).casefold()
    plain = "".join(
        prototypes.get(character, character) for character in unicodedata.normalize("NFKD", plain)
    )
    return "".join(character for character in plain if unicodedata.category(character)[0] not in "MCZ")


@cache
def _prototypes() -> dict[str, str]:
    """For each character the one, or the few, that represent it.

    The library's data name for each character those that look like it, in both directions: linked characters
    are one group, ASCII's small and capital letters too, and its first in Unicode's order stands for them.
    """
    first: dict[str, str] = {}

    def prototype(character: str) -> str:
        while first.setdefault(character, character) != character:
            character = first[character]
        return character

    several: dict[str, str] = {}
    pairs = [(character, item["c"]) for character, similar in confusables_data.items() for item in similar]
    pairs += [(character, character.lower()) for character in ascii_uppercase]
    for character, other in ((a.strip(_MARKS), b.strip(_MARKS)) for a, b in pairs):
        if len(character) == len(other) == 1:
            low, high = sorted((prototype(character), prototype(other)))
            first[high] = low
        elif len(character) == 1 and other:
            several[character] = other
    return {character: prototype(character) for character in first} | {
        character: "".join(map(prototype, other)) for character, other in several.items()
    }
