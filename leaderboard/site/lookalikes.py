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

    Signs that look alike become one, and case, spaces, marks on letters and unseen signs count for nothing:
    ``Cafe``, ``café``, ``C a f e`` and ``Cаfе`` with Cyrillic letters are the same.
    """
    prototypes = _prototypes()
    plain = "".join(prototypes.get(sign, sign) for sign in unicodedata.normalize("NFKD", text)).casefold()
    plain = "".join(prototypes.get(sign, sign) for sign in unicodedata.normalize("NFKD", plain))
    return "".join(sign for sign in plain if unicodedata.category(sign)[0] not in "MCZ")


@cache
def _prototypes() -> dict[str, str]:
    """For each sign the one, or the few, that it is shown as.

    The library's data name for each sign those that look like it, in both directions: signs that are linked
    are one group, ASCII's small and capital letters too, and its first in Unicode's order stands for them.
    """
    first: dict[str, str] = {}

    def find(sign: str) -> str:
        while first.setdefault(sign, sign) != sign:
            sign = first[sign]
        return sign

    several: dict[str, str] = {}
    pairs = [(sign, item["c"]) for sign, found in confusables_data.items() for item in found]
    pairs += [(sign, sign.lower()) for sign in ascii_uppercase]
    for sign, other in ((a.strip(_MARKS), b.strip(_MARKS)) for a, b in pairs):
        if len(sign) == len(other) == 1:
            low, high = sorted((find(sign), find(other)))
            first[high] = low
        elif len(sign) == 1 and other:
            several[sign] = other
    return {sign: find(sign) for sign in first} | {
        sign: "".join(map(find, other)) for sign, other in several.items()
    }
