"""English number words: their patterns and values."""

import re

SMALL = (
    *("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_VALUES = {word: i + 1 for i, word in enumerate(SMALL)} | {word: 10 * (i + 2) for i, word in enumerate(_TENS)}
_VALUES["zero"] = 0
_PART = re.compile(r"hundred|thousand|dozen|" + "|".join(sorted(_VALUES, key=len, reverse=True)))

UNIT = "(?:" + "|".join(sorted(SMALL, key=len, reverse=True)) + ")"
_TEEN = rf"(?:(?:{'|'.join(_TENS)})(?:[\s-]?(?:{'|'.join(SMALL[:9])})(?![^\W_]))?|{UNIT})"
_HUNDREDS = rf"(?:(?:{_TEEN}|a)[\s-]hundred(?:[\s-](?:and\s)?{_TEEN})?|{_TEEN})"
WORDS = rf"(?:(?:{_HUNDREDS}|a)[\s-]thousand(?:[\s-](?:and\s)?{_HUNDREDS})?|{_HUNDREDS}|zero)"
"""Pattern of a number in words below a million."""


def from_words(phrase: str) -> int:
    """The value of a phrase that `WORDS` matches, "dozen" included; "half a dozen" is 6."""
    total = current = 0
    for part in _PART.findall(phrase):
        if part == "hundred":
            current = max(current, 1) * 100
        elif part == "thousand":
            total, current = max(current, 1) * 1000, 0
        elif part == "dozen":
            current = 6 if phrase.startswith("half") else max(current, 1) * 12
        else:
            current += _VALUES[part]
    return total + current
