"""Numbers as models write them in an answer to "how many?": digits, words, totals, and "none"."""

import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass

from mimic_tasks.scoring.number_words import WORDS, from_words

_NUMERAL = re.compile(
    r"(?<![^\W_])(?P<pairs>(?:(?P<many>" + WORDS + r"|[0-9]{1,3}|an?) )?(?:pairs?|couples?) of)(?![^\W_])"
    rf"|(?<![^\W_])(?<![^\W_]-)(?P<words>half a dozen|{WORDS}(?: dozen)?|a dozen|dozen)(?![^\W_]|-[^\W\d_])"
    r"|(?<![\w.])(?P<digits>(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+))"
    r"(?P<decimals>(?:\.[0-9]+)*)(?P<tail>%|[^\W_]+|(?=-[^\W\d_]))?"
    r"|\b(?P<none>no(?= [^\W\d_])(?! (?:one|doubt|idea|more|less|fewer|other|longer|number|way"
    r"|clear|wait)\b)|none\b"
    r"|(?:not|without) any\b|not (?:a|one) single\b)|(?P<notany>n't (?:[a-z]+ )?any\b|\bnot [a-z]+ any\b)"
    r"|\b(?P<nobody>no one|nobody)\b",
    re.I,
)
_PRONOUN = re.compile(r"(?<![^\W_])(?:no|any|every|some|which|another|the|this|that|other) \Z", re.I)
_BOUND = re.compile(
    r"(?:\b(?:minus|negative|at least|at most|more than|less than|fewer than|over|under|up to|minimum of|"
    r"maximum of|as many as|no more than|half)(?: an?)?|[<>\u2264\u2265\u00b1])\s*\Z",
    re.I,
)
_BOUND_AFTER = re.compile(
    r" ?(?:or|and) (?:more|fewer|less|above|over|higher|greater|up)\b| ?plus\b| ?\u00b1", re.I
)
_NOT = re.compile(r"(?:\bnot|n't|\bnever)\s+(?:exactly\s+|quite\s+|just\s+)?\Z", re.I)
_SINGULAR_PAIRS = re.compile(
    r" ?(?:[^\W\d_]+ )?(?:scissors|skis|sunglasses|eyeglasses|glasses|goggles|pants|trousers|jeans"
    r"|shorts|tongs|pliers|"
    r"headphones)\b",
    re.I,
)
_RESULT = re.compile(
    r"=|\bequals?\b|\b(?:makes?|making|gives?|giving|get|adds? up to|adding up to|totals|totall?ing)\b"
    r"|\b(?:answer|result|count|number of [^\W\d_][\w ]{0,40}?) ?(?:is\b|are\b|:)"
    r"|(?<!in )\btotal(?: number| count)?(?: of [^\W\d_][\w ]{0,40}?)? (?:is|are|of|comes to)\b"
    r"|(?:\A|[.,;!?\n] ?)(?:and )?(?:so|thus|therefore|hence|in conclusion)\b",
    re.I,
)
_TOTAL = re.compile(r"\b(?:in total|in all|altogether|all together|overall|total|combined|sum)\b", re.I)
_FAR = 60
_MOST_DIGITS = 15


@dataclass(frozen=True)
class Numeral:
    """A number at text[start:end]; `value` is None where it is no count (-3, 3.5, 50 %, "at least 3").

    `negated`: the text denies it ("not 3"). "no dogs" and "none" are the number 0; `nobody`: so is "no one",
    but only of people.
    """

    value: int | None
    start: int
    end: int
    negated: bool
    nobody: bool = False


def read_numerals(text: str) -> tuple[Numeral, ...]:
    """All numbers in `text`, in reading order.

    Numbers inside words, ordinals (`3rd`), parts of a compound (`three-legged`) and the pronoun in "the one"
    are not numbers.
    """
    numerals = []
    for match in _NUMERAL.finditer(text):
        before = text[max(0, match.start() - 24) : match.start()]
        negated = bool(_NOT.search(before))
        nobody = match["nobody"] is not None
        if nobody or match["none"] or match["notany"]:
            numerals.append(Numeral(0, match.start(), match.end(), False, nobody))
            continue
        if match["pairs"]:
            value: int | None = _from_pairs(match, text)
        elif match["words"]:
            if match["words"].lower() == "one" and _PRONOUN.search(before):
                continue
            value = from_words(match["words"].lower())
        elif match["tail"] not in (None, "%", "x", "X"):
            continue
        else:
            value = _from_digits(match, text)
        if _BOUND.search(before) or _BOUND_AFTER.match(text, match.end()):
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
    results = [_result(text, numerals, cue.start(), cue.end()) for cue in _RESULT.finditer(text)]
    stated = [numeral for numeral in results if numeral is not None]
    if stated:
        return stated[-1]
    for cue in _TOTAL.finditer(text):
        numeral = _before(text, numerals, cue.start()) or _after(text, numerals, cue.end())
        if numeral is not None:
            stated.append(numeral)
    return stated[-1] if len({numeral.value for numeral in stated}) == 1 else None


def _result(text: str, numerals: tuple[Numeral, ...], start: int, end: int) -> Numeral | None:
    """The number after a result's cue; of "3 = 2 + 1" the 3."""
    if text[start:end] == "=" and _starts_sum(text, numerals, end):
        i = bisect_right(numerals, start, key=lambda numeral: numeral.end) - 1
        before = i >= 0 and not text[numerals[i].end : start].strip()
        summed = before and re.search(r"\+ ?\Z", text[max(0, numerals[i].start - 3) : numerals[i].start])
        return numerals[i] if before and not summed else None
    return _after(text, numerals, end)


def _starts_sum(text: str, numerals: tuple[Numeral, ...], position: int) -> bool:
    i = bisect_left(numerals, position, key=lambda numeral: numeral.start)
    if i == len(numerals) or text[position : numerals[i].start].strip():
        return False
    return bool(re.match(r" ?\+", text[numerals[i].end : numerals[i].end + 3]))


def _after(text: str, numerals: tuple[Numeral, ...], position: int) -> Numeral | None:
    """The first number after `position` in the same sentence and near, unless a sum starts with it."""
    i = bisect_left(numerals, position, key=lambda numeral: numeral.start)
    if i == len(numerals) or numerals[i].start - position > _FAR:
        return None
    if (
        re.search(r"[.!?;(\n]", text[position : numerals[i].start])
        and not text[position : numerals[i].start].isspace()
    ):
        return None
    return None if re.match(r"\s*\+", text[numerals[i].end : numerals[i].end + 8]) else numerals[i]


def _before(text: str, numerals: tuple[Numeral, ...], position: int) -> Numeral | None:
    """The last number before `position` in the same clause and near."""
    i = bisect_right(numerals, position, key=lambda numeral: numeral.end) - 1
    if i < 0 or position - numerals[i].end > _FAR:
        return None
    return None if re.search(r"[.,;:!?(\n]", text[numerals[i].end : position]) else numerals[i]


def _from_pairs(match: re.Match[str], text: str) -> int:
    many = (match["many"] or "a").lower()
    count = int(many) if many.isdigit() else 1 if many in ("a", "an") else from_words(many)
    return count if _SINGULAR_PAIRS.match(text, match.end()) else 2 * count


def _from_digits(match: re.Match[str], text: str) -> int | None:
    digits = match["digits"].replace(",", "")
    before = text[: match.start()][-2:]
    negative = before[-1:] in ("-", "\u2212") and not before[:-1].isalnum()
    plus = re.match(r"\+(?!\s*[0-9])", text[match.end() : match.end() + 8])
    fraction = match["decimals"].count(".") > 1 or match["decimals"].strip(".0")
    if negative or plus or fraction or match["tail"] == "%" or len(digits) > _MOST_DIGITS:
        return None
    return int(digits)
