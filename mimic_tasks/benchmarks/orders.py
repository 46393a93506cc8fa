"""Another order of a doc's images or options, and which docs have one (METHODS 15, "Orders").

Three kinds, never mixed: ``images`` (the text refers to no place, so any order asks the same), ``options``
(the truth's letter moves along, and images in options with it), ``references`` (images move, and the text's
references to them are rewritten, so that it says the same of the same picture).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mimic_eval.records import interleaved
from mimic_tasks.benchmarks.choices import LETTERS, option_spans
from mimic_tasks.benchmarks.spec import Question

KINDS = ("images", "options", "references")

_SLOT = re.compile("\ue000(\\d+)\ue001")
_ORDINALS = (
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth",
)  # fmt: skip
_NOUN = r"(?:images?|pictures?|photos?|photographs?|figures?|panels?)"
_NUMBERED = re.compile(rf"\b({_NOUN}\s*#?\s*)(\d+)\b", re.IGNORECASE)
_ORDINAL = re.compile(rf"\b({'|'.join(_ORDINALS)})(\s+{_NOUN})\b", re.IGNORECASE)
_PLACE = re.compile(
    rf"\b(?:{'|'.join(_ORDINALS)}|last|left|right|middle|next|previous|former|latter|before|after|order\w*|"
    r"sequen\w+|chronolog\w+|frames?|video|start|end|beginning|top|bottom|upper|lower|respectively)\b"
    rf"|\b{_NOUN}\s*[#(]?\s*(?:\d|[A-H]\b)|\b\d+(?:st|nd|rd|th)\b",
    re.IGNORECASE,
)
_OF_OPTIONS = re.compile(r"\b(?:above|below|both|former|latter)\b|\b[A-H]\s*(?:and|or|&)\s*[A-H]\b")
_NAMED_LETTER = re.compile(r"\b(?:[Oo]ption|[Cc]hoice|[Aa]nswer)\s+\(?[A-H]\b")


@dataclass(frozen=True)
class OrderedDoc:
    """A doc in one order.

    Attributes:
        parts: texts, and the number of an image in the set's order for each image.
        options: their texts in this order.
        letters: the option of the stored order at each letter.
        truth: the right letter in this order, or an open question's truth.
        position: of what the answer is about, from 0: the right letter, or its image; None if unknown.
    """

    parts: tuple[str | int, ...]
    options: tuple[str, ...]
    letters: tuple[int, ...]
    truth: str
    position: int | None


def slots(text: str, images: int) -> str:
    """The text with a numbered slot for each image where `interleaved` puts it."""
    numbers = iter(range(images))
    parts = interleaved(text, images).parts
    return "".join(f"\ue000{next(numbers)}\ue001" if part is None else part for part in parts)


def why_not(kind: str, question: Question, images: int) -> str | None:
    """Why a doc has no other order of a kind; None if it has."""
    if question.truth is None:
        return "no truth"
    text = slots(question.text, images)
    spans = option_spans(text, len(question.options))
    if kind == "options":
        if len(question.options) < 2:
            return "open question"
        if spans is None:
            return "options not listed line by line"
        if any(_OF_OPTIONS.search(option) for option in question.options):
            return "an option refers to others"
        return "the text names a letter" if _NAMED_LETTER.search(text) else None
    if images < 2:
        return "one image"
    if not _block(text, spans):
        return "images apart, in a sentence or in an option"
    rest = _ORDINAL.sub(" ", _NUMBERED.sub(" ", text))
    if kind == "images":
        return "the text names places or an order" if _PLACE.search(text) else None
    named = _named(text)
    if not named:
        return "no reference to an image's place"
    if _PLACE.search(rest) or not all(0 <= image < images for image in named):
        return "a reference that cannot be rewritten"
    return None


def length(kind: str, question: Question, images: int) -> int:
    """How many things are ordered."""
    return len(question.options) if kind == "options" else images


def in_order(kind: str, question: Question, images: int, order: Sequence[int]) -> OrderedDoc:
    """A doc in an order; `why_not` must have allowed it.

    Args:
        kind: of `KINDS`.
        question: the doc.
        images: how many it has.
        order: the stored image or option at each position.
    """
    text, options = slots(question.text, images), question.options
    letters, truth = tuple(range(len(options))), str(question.truth)
    if kind == "options":
        spans = option_spans(text, len(options)) or []
        contents = [text[start:end] for start, end in spans]
        for number in reversed(range(len(spans))):
            start, end = spans[number]
            text = text[:start] + contents[order[number]] + text[end:]
        letters = tuple(order)
        options = tuple(options[i] for i in order)
        letter = letters.index(LETTERS.index(truth))
        return OrderedDoc(_parts(text), options, letters, LETTERS[letter], letter)
    places = {image: number for number, image in enumerate(order)}
    position: int | None = None
    if kind == "references":
        answer = options[LETTERS.index(truth)] if options else truth
        about = _named(answer)
        position = places[about[0]] if len(set(about)) == 1 and about[0] in places else None
        text = _rewritten(text, places)
        options = tuple(_rewritten(option, places) for option in options)
    text = _SLOT.sub(lambda slot: f"\ue000{order[int(slot[1])]}\ue001", text)
    if not options and kind == "references":
        truth = _rewritten(truth, places)
    return OrderedDoc(_parts(text), options, letters, truth, position)


def _parts(text: str) -> tuple[str | int, ...]:
    pieces = _SLOT.split(text)
    parts = [int(piece) if i % 2 else piece for i, piece in enumerate(pieces)]
    return tuple(part for part in parts if part != "")


def _block(text: str, spans: Sequence[tuple[int, int]] | None) -> bool:
    """Whether all images stand side by side, before, after or between sentences, and in no option."""
    matches = list(_SLOT.finditer(text))
    start, end = matches[0].start(), matches[-1].end()
    if _SLOT.sub("", text[start:end]).strip():
        return False
    if any(low <= start < high for low, high in spans or ()):
        return False
    before, after = text[:start].rstrip(" "), text[end:].lstrip(" ")
    return not before or before[-1] in "\n.?!:" or not after or after[0] == "\n"


def _named(text: str) -> list[int]:
    """The images that a text refers to by number or ordinal, from 0."""
    numbers = [int(match[2]) - 1 for match in _NUMBERED.finditer(text)]
    return numbers + [_ORDINALS.index(match[1].lower()) for match in _ORDINAL.finditer(text)]


def _rewritten(text: str, places: dict[int, int]) -> str:
    def number(match: re.Match[str]) -> str:
        return f"{match[1]}{places[int(match[2]) - 1] + 1}"

    def ordinal(match: re.Match[str]) -> str:
        word = _ORDINALS[places[_ORDINALS.index(match[1].lower())]]
        return (word.capitalize() if match[1][0].isupper() else word) + match[2]

    return _ORDINAL.sub(ordinal, _NUMBERED.sub(number, text))
