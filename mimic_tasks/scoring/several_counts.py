"""Counting with k > 1: a number for each class of the question."""

import re
from bisect import bisect_left, bisect_right
from itertools import pairwise

from mimic_tasks.scoring.images import without_image_names
from mimic_tasks.scoring.numerals import Numeral, read_numerals, stated_total
from mimic_tasks.scoring.scored import Doc, ScoredAnswer, no_answer
from mimic_tasks.scoring.vocabulary import Mention, class_key, doc_classes, find_mentions

_SEPARATOR = re.compile(r"[;\n\u2022]|(?<![0-9]),|,(?![0-9]{3}(?![0-9]))|\band\b|&|(?<=[^\W_])\. ", re.I)
_BRACKETS = re.compile(r"\([^()]*[^()\d][^()]*\)")
_CONCLUSION = re.compile(
    r"(?:\A|[.\n;] ?)(?:in )?(?:total|overall|altogether|final answer|answer|so|therefore)\b ?:?", re.I
)
_ARTICLE = re.compile(r"(?<![^\W_])an? (?:[\w-]+ )?\Z", re.I)


def several_counts(text: str, doc: Doc, wanted: dict[str, int]) -> ScoredAnswer:
    """Read `text` as k numbers by class; a class with two different numbers, or none, is unread.

    Args:
        text: the answer.
        doc: as for `score`.
        wanted: the classes of the question in its order, and their right numbers.
    """
    classes = doc_classes(doc, wanted)
    names = {class_key(name): name for name in wanted}
    named = [(mention.start, mention.end) for mention in find_mentions(text, classes)]
    text = _conclusion(without_image_names(text, named), classes, names)
    mentions = find_mentions(text, classes)
    numerals = tuple(n for n in read_numerals(text) if not _inside(n, mentions))
    if not any(class_key(mention.class_name) in names for mention in mentions):
        values = [None if numeral.negated else numeral.value for numeral in numerals]
        if not values:
            return ScoredAnswer(None, "negated" if mentions else no_answer(text), 0.0, class_accuracy=0.0)
        if len(values) != len(wanted) or None in values or mentions:
            return ScoredAnswer(None, "ambiguous", 0.0, class_accuracy=0.0)
        read: dict[str, set[int | None]] = {name: {value} for name, value in zip(wanted, values, strict=True)}
        stray = False
    else:
        read, stray = _by_class(text, mentions, numerals, names)
    counts = {
        name: value
        for name, values in read.items()
        if len(values) == 1
        for value in values
        if value is not None
    }
    right = sum(counts.get(name) == number for name, number in wanted.items())
    complete = len(counts) == len(wanted) and not stray
    ordered = {name: counts[name] for name in wanted if name in counts}
    return ScoredAnswer(
        ordered or None,
        "parsed" if complete else "ambiguous",
        float(complete and right == len(wanted)),
        class_accuracy=right / len(wanted),
    )


def _conclusion(text: str, classes: tuple[str, ...], names: dict[str, str]) -> str:
    """What follows the last "Total:" or "Answer:" if it names all classes; remarks in brackets blanked."""
    mentions = find_mentions(text, classes)
    spans = [(mention.start, mention.end) for mention in mentions]

    def blanked(match: re.Match[str]) -> str:
        i = bisect_right(spans, (match.start(), len(text))) - 1
        within = i >= 0 and match.start() < spans[i][1]
        return match.group() if within else " " * len(match.group())

    text = _BRACKETS.sub(blanked, text)
    cuts = [match.end() for match in _CONCLUSION.finditer(text)]
    if cuts and {class_key(m.class_name) for m in mentions if m.start >= cuts[-1]} >= names.keys():
        return text[cuts[-1] :]
    return text


def _by_class(
    text: str, mentions: tuple[Mention, ...], numerals: tuple[Numeral, ...], names: dict[str, str]
) -> tuple[dict[str, set[int | None]], bool]:
    """({class: numbers given to it}, whether a number has no class and is no total).

    Between separators, classes and numbers must alternate: `dog: 2` or `2 dogs`. "A car" is one.
    """
    read: dict[str, set[int | None]] = {}
    stray = False
    mention_starts = [mention.start for mention in mentions]
    cuts = [
        match.end()
        for match in _SEPARATOR.finditer(text)
        if not _within(match.start(), mentions, mention_starts)
    ]
    numeral_starts = [numeral.start for numeral in numerals]
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        inside = list(mentions[bisect_left(mention_starts, start) : bisect_left(mention_starts, end)])
        given = list(numerals[bisect_left(numeral_starts, start) : bisect_left(numeral_starts, end)])
        if not inside:
            stray = stray or bool(
                given and stated_total(text[start:end], read_numerals(text[start:end])) is None
            )
            continue
        if len(given) > len(inside) and len({numeral.value for numeral in given}) == 1:
            given = given[:1]
        if not given and len(inside) == 1 and _ARTICLE.search(text, start, inside[0].start):
            given = [Numeral(1, inside[0].start, inside[0].start, False)]
        paired = len(given) == len(inside) and _alternate(inside, given)
        for i, mention in enumerate(inside):
            name = names.get(class_key(mention.class_name))
            if name is not None and (paired or given):
                value = given[i].value if paired and not given[i].negated else None
                read.setdefault(name, set()).add(value)
    return read, stray


def _within(position: int, mentions: tuple[Mention, ...], starts: list[int]) -> bool:
    i = bisect_right(starts, position) - 1
    return i >= 0 and position < mentions[i].end


def _inside(numeral: Numeral, mentions: tuple[Mention, ...]) -> bool:
    i = bisect_left(mentions, numeral.end, key=lambda mention: mention.end)
    return i < len(mentions) and mentions[i].start <= numeral.start < numeral.end <= mentions[i].end


def _alternate(mentions: list[Mention], numerals: list[Numeral]) -> bool:
    order = sorted(
        [(mention.start, "class") for mention in mentions] + [(n.start, "number") for n in numerals]
    )
    return all(one[1] != other[1] for one, other in pairwise(order))
