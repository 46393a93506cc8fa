"""Which images an answer names: "image 3", "the third picture", "images 1 and 4", "the last one"."""

import re
from bisect import bisect_left
from typing import NamedTuple

from mimic_tasks.scoring.images import IMAGE, image_references
from mimic_tasks.scoring.number_words import UNIT, from_words

_UNITS = (
    *("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"),
    *("eleventh", "twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth", "seventeenth"),
    *("eighteenth", "nineteenth"),
)
_TENS = {"twent": 20, "thirt": 30, "fort": 40, "fift": 50, "sixt": 60}
_ORDINALS = (
    {word: i + 1 for i, word in enumerate(_UNITS)}
    | {f"{stem}ieth": ten for stem, ten in _TENS.items()}
    | {f"{stem}y-{word}": ten + i + 1 for stem, ten in _TENS.items() for i, word in enumerate(_UNITS[:9])}
)
_WORD = "|".join(sorted((name.replace("-", "[ -]") for name in _ORDINALS), key=len, reverse=True))
ORDINAL = rf"(?:{_WORD}|last|final|[0-9]+(?:st|nd|rd|th))(?![^\W_])"
"""The pattern of a position in words."""

CARDINAL = rf"(?:[0-9]+|{UNIT})(?![^\W_])(?![.,][0-9])"
"""The pattern of a number of an image."""

_FURTHER = re.compile(
    rf"(?<![^\W_])(?:"
    rf"(?P<back>{ORDINAL})[ -](?:to|from)[ -](?:the )?last(?: (?:{IMAGE}|one)\b)?"
    rf"|(?P<penultimate>penultimate|next[ -]to[ -]last)(?: (?:{IMAGE}|one)\b)?"
    rf"|{IMAGE}(?:-|(?: (?:number|index|id|no\.?))? ?[:=] ?#?)(?P<number>{CARDINAL})(?= ?(?:[,.;)\n]|\Z))"
    rf"|(?P<ordinal>{_WORD}) (?:{IMAGE}|one)\b)"
    rf"|(?<![^\W_])#(?P<hash>[0-9]+)(?![^\W_])",
    re.I,
)
_MORE = re.compile(
    rf"(?: ?(?:, ?and\b|, ?or\b|,|\band\b|\bor\b|&|/) ?{CARDINAL})+"
    r"(?= ?(?:[,.;:)\n]|\Z)| (?:shows?|contains?|have|has|do|does|are|is|both|only|all)\b)",
    re.I,
)
_COUNT = re.compile(rf"{CARDINAL}|.*\bof\b", re.I)
_NUMBERS = re.compile(rf"{ORDINAL}|{CARDINAL}", re.I)
_RANGE = re.compile(r" ?(?:to|-|\u2013|through) ?", re.I)


class NamedImages(NamedTuple):
    """text[start:end] names these images, counted from 1."""

    images: tuple[int, ...]
    start: int
    end: int


def position_of(text: str, n: int | None) -> int | None:
    """The number that one word or numeral stands for: ``3``, ``three``, ``third``, ``3rd``, ``last``.

    Args:
        text: it alone.
        n: images of the doc; None if not known: then ``last`` is none.
    """
    word = text.lower().strip()
    digits = re.match("[0-9]{1,4}(?![0-9])", word)
    if digits:
        return int(digits[0])
    if word in ("last", "final"):
        return n
    if word.replace(" ", "-") in _ORDINALS:
        return _ORDINALS[word.replace(" ", "-")]
    return from_words(word) if re.fullmatch(UNIT, word) else None


def named_images(text: str, n: int | None) -> list[NamedImages]:
    """Where `text` names particular images, in reading order; an image need not be one of the doc's.

    Args:
        text: of an answer.
        n: images of the doc; None if not known.
    """
    named: list[NamedImages] = []
    for match in _FURTHER.finditer(text):
        if match["back"] or match["penultimate"]:
            back = position_of(match["back"], n) if match["back"] else 2
            number = n - back + 1 if n is not None and back is not None and back <= n else None
        else:
            number = position_of(match["number"] or match["ordinal"] or match["hash"], n)
        if number is not None:
            named.append(NamedImages((number,), match.start(), match.end()))
    starts = [one.start for one in named]
    for reference in image_references(text):
        i = bisect_left(starts, reference.end) - 1
        if reference.reach not in ("one", "several") or (i >= 0 and named[i].end > reference.start):
            continue
        more = _MORE.match(text, reference.end) if reference.reach == "one" else None
        end = more.end() if more else reference.end
        images = _numbers(text[reference.start : end], n)
        if images:
            named.append(NamedImages(images, reference.start, end))
    return sorted(named, key=lambda one: one.start)


def _numbers(phrase: str, n: int | None) -> tuple[int, ...]:
    """The images that a reference means; none if it only counts them ("2 of the images")."""
    if _COUNT.match(phrase):
        return ()
    if not re.match(IMAGE, phrase, re.I):
        phrase = re.sub(r" one\Z", "", phrase, flags=re.I)  # "the third one", "the middle one"
    matches = list(_NUMBERS.finditer(phrase))
    values = [position_of(match.group(), n) for match in matches]
    numbers = [value for value in values if value is not None]
    if not numbers or len(numbers) < len(values):
        return ()
    first = matches[0].group().lower()
    if len(numbers) == 2 and re.fullmatch("first|1st|last|final", first):  # "the first two images"
        count = numbers[1]
        if first in ("first", "1st"):
            return tuple(range(1, count + 1))
        return tuple(range((n or 0) - count + 1, (n or 0) + 1)) if n and count <= n else ()
    if len(numbers) == 2 and _RANGE.fullmatch(phrase[matches[0].end() : matches[1].start()]):
        return tuple(range(numbers[0], numbers[1] + 1)) if numbers[1] - numbers[0] <= 64 else ()
    return tuple(dict.fromkeys(numbers))
