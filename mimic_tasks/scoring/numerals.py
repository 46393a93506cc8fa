"""Numbers as models write them in an answer to "how many?": digits, words, totals, and "none"."""

import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass

_SMALL = (
    *("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_VALUES = {word: i + 1 for i, word in enumerate(_SMALL)} | {
    word: 10 * (i + 2) for i, word in enumerate(_TENS)
}
_VALUES["zero"] = 0

_UNIT = "(?:" + "|".join(sorted(_SMALL, key=len, reverse=True)) + ")"
_TEEN = rf"(?:(?:{'|'.join(_TENS)})(?:[\s-]?(?:{'|'.join(_SMALL[:9])})(?![^\W_]))?|{_UNIT})"
_HUNDREDS = rf"(?:(?:{_TEEN}|a)[\s-]hundred(?:[\s-](?:and\s+)?{_TEEN})?|{_TEEN})"
_WORDS = rf"(?:(?:{_HUNDREDS}|a)[\s-]thousand(?:[\s-](?:and\s+)?{_HUNDREDS})?|{_HUNDREDS}|zero)"
_NUMERAL = re.compile(
    rf"(?<![^\W_])(?P<words>(?:{_WORDS}(?:[\s-]dozen)?|a\s+dozen|dozen))(?![^\W_])"
    r"|(?<![\w.])(?P<digits>(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+))"
    r"(?P<decimals>(?:\.[0-9]+)*)(?P<tail>%|[^\W_]+)?"
    r"|\b(?P<none>no(?=\s+[a-z])(?!\s+(?:one|doubt|idea|more|less|fewer|other|longer|number|way|clear)\b)|none\b|"
    r"(?:not|without)\s+any\b)|(?P<notany>n't\s+any\b)",
    re.I,
)
_BOUND = re.compile(
    r"\b(?:minus|negative|at least|at most|more than|less than|fewer than|over|under|up to|half)"
    r"\s+(?:an?\s+)?\Z",
    re.I,
)
_NOT = re.compile(r"(?:\bnot|n't|\bnever)\s+(?:exactly\s+|quite\s+)?\Z", re.I)

_IMAGE = r"(?:images?|pictures?|photos?|photographs?|pics?|imgs?|frames?|figures?|figs?|scenes?|panels?)"
_NUMBER = rf"(?:[0-9]+|{_UNIT})(?![^\W_])"
_AND = r"[ \t]*(?:,\s*and\b|,|\band\b|&|\bto\b|-|\u2013|\bthrough\b|\bor\b)[ \t]*"
_IMAGE_NAMES = re.compile(
    rf"(?<![^\W_]){_IMAGE}(?<=s)[ \t]*(?:#|numbers?)?[ \t]*{_NUMBER}(?:{_AND}{_NUMBER})*"
    rf"|(?<![^\W_]){_IMAGE}[ \t_]*(?:no\.|number|nr\.|\#)?[ \t]*\(?{_NUMBER}\)?"
    rf"|(?<![^\W_.]){_NUMBER}(?:[ \t]+of)?"
    rf"(?:[ \t]+(?:the|these|those|all|different|given|other|remaining)){{0,4}}[ \t]+{_IMAGE}\b"
    r"|\b(?:the|this|that|each|every|another|which|other)\s+one\b",
    re.I,
)
_RESULT = re.compile(
    r"=|\bequals?\b|\b(?:makes|gives|adds? up to|adding up to)\b"
    r"|\b(?:answer|total|sum|total number of [a-z ]{1,40}|total [a-z]{1,20})\s*"
    r"(?:is\b|are\b|of\b|:|comes to\b)",
    re.I,
)
_TOTAL = re.compile(r"\b(?:in total|in all|altogether|all together|overall|total|combined|sum)\b", re.I)
_FAR = 40
_MOST_DIGITS = 15


@dataclass(frozen=True)
class Numeral:
    """A number at text[start:end]; `value` is None where it is no count (-3, 3.5, 50 %, "at least 3").

    `negated`: the text denies it ("not 3"). "no dogs" and "none" are the number 0.
    """

    value: int | None
    start: int
    end: int
    negated: bool


def without_image_names(text: str) -> str:
    """`text` with numbers that name or count images ("Image 1", "in 3 images") blanked, same length."""
    return _IMAGE_NAMES.sub(lambda match: " " * len(match.group()), text)


def read_numerals(text: str) -> tuple[Numeral, ...]:
    """All numbers in `text`, in reading order; numbers inside words and ordinals (`3rd`) are not numbers."""
    text = text.replace("\u2019", "'")
    numerals = []
    for match in _NUMERAL.finditer(text):
        before = text[max(0, match.start() - 24) : match.start()]
        negated = bool(_NOT.search(before))
        if match["none"] or match["notany"]:
            numerals.append(Numeral(0, match.start(), match.end(), False))
            continue
        if match["words"]:
            value: int | None = _from_words(match["words"].lower())
        elif (match["tail"] or "%") != "%":
            continue
        else:
            value = _from_digits(match, text)
        if _BOUND.search(before):
            value = None
        numerals.append(Numeral(value, match.start(), match.end(), negated))
    return tuple(numerals)


def stated_total(text: str, numerals: tuple[Numeral, ...]) -> Numeral | None:
    """The number that the text itself calls the result: "= 5", "5 in total", "the answer is 5".

    Args:
        text: the text that `numerals` were read from.
        numerals: as from `read_numerals`.

    Returns:
        The last stated result; else what the totals agree on; None where nothing is stated or they differ.
    """
    results = [_after(text, numerals, cue.end()) for cue in _RESULT.finditer(text)]
    stated = [numeral for numeral in results if numeral is not None]
    if stated:
        return stated[-1]
    for cue in _TOTAL.finditer(text):
        numeral = _before(text, numerals, cue.start()) or _after(text, numerals, cue.end())
        if numeral is not None:
            stated.append(numeral)
    return stated[-1] if len({numeral.value for numeral in stated}) == 1 else None


def _after(text: str, numerals: tuple[Numeral, ...], place: int) -> Numeral | None:
    """The first number after `place` in the same sentence and near, unless a sum starts with it."""
    i = bisect_left(numerals, place, key=lambda numeral: numeral.start)
    if i == len(numerals) or numerals[i].start - place > _FAR:
        return None
    if re.search(r"[.!?;\n]", text[place : numerals[i].start]):
        return None
    return None if re.match(r"\s*\+", text[numerals[i].end : numerals[i].end + 8]) else numerals[i]


def _before(text: str, numerals: tuple[Numeral, ...], place: int) -> Numeral | None:
    """The last number before `place` in the same clause and near."""
    i = bisect_right(numerals, place, key=lambda numeral: numeral.end) - 1
    if i < 0 or place - numerals[i].end > _FAR:
        return None
    return None if re.search(r"[.,;:!?\n]", text[numerals[i].end : place]) else numerals[i]


def _from_digits(match: re.Match[str], text: str) -> int | None:
    digits = match["digits"].replace(",", "")
    before = text[: match.start()][-2:]
    negative = before[-1:] in ("-", "\u2212") and not before[:-1].isalnum()
    plus = re.match(r"\+(?!\s*[0-9])", text[match.end() : match.end() + 8])
    fraction = match["decimals"].count(".") > 1 or match["decimals"].strip(".0")
    if negative or plus or fraction or match["tail"] or len(digits) > _MOST_DIGITS:
        return None
    return int(digits)


def _from_words(phrase: str) -> int:
    total = current = 0
    parts = re.findall(r"hundred|thousand|dozen|" + "|".join(sorted(_VALUES, key=len, reverse=True)), phrase)
    for part in parts:
        if part == "hundred":
            current = max(current, 1) * 100
        elif part == "thousand":
            total, current = max(current, 1) * 1000, 0
        elif part == "dozen":
            current = max(current, 1) * 12
        else:
            current += _VALUES[part]
    return total + current
