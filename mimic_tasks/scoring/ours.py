"""Our scores: read an answer as a person would, by whole words, and say when it cannot be read (METHODS 2.1).

Only an answer with status "parsed" can be right; every other status scores 0 and counts as unparsed.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from mimic_eval.records import TASK_KINDS, UserError, nearest
from mimic_tasks.scoring.numerals import Numeral, read_numerals, stated_total, without_image_names
from mimic_tasks.scoring.vocabulary import Mention, class_key, doc_classes, find_mentions
from stats import f1_from_counts

Status = Literal["parsed", "empty", "refused", "unparsed", "ambiguous", "negated"]
Parsed = int | str | tuple[str, ...] | dict[str, int] | None
Doc = Mapping[str, Any]


@dataclass(frozen=True)
class Scored:
    """What one answer was read as, and its score.

    `parsed`: the normalised answer: an int (Counting, k = 1), {class: number} (k > 1; also the part that
    could be read of an answer that is not parsed), a class name (Common, Odd-One), class names in
    alphabetical order (Listing; items that are no class by their text); else None.
    `score`: within [0, 1]. `class_accuracy`: share of right classes, Counting with k > 1 only.
    `recalled`, `generated`, `relevant`: Listing only, for the corpus micro F1.
    """

    parsed: Parsed
    status: Status
    score: float
    class_accuracy: float | None = None
    recalled: int | None = None
    generated: int | None = None
    relevant: int | None = None


_CANNOT = (
    r"(?:cannot|can not|can't|could not|couldn't|am unable to|am not able to|'m unable to|'m not able to|"
    r"are unable to|won't|will not)"
)
_REFUSAL = re.compile(
    rf"\b(?:i|we)\s*(?:(?:am|'m)\s+sorry,?\s+(?:but\s+)?(?:i|we)\s*)?{_CANNOT}\s+(?:\w+\s+)?"
    r"(?:tell|determine|say|answer|identify|provide|help|assist|know|count|process|view|access|recogni[sz]e|"
    r"see\s+(?:the|any|these|those|your|an?|this)?\s*(?:images?|pictures?|photos?))\b"
    r"|\b(?:i|we)\s+(?:do not|don't|dont)\s+(?:really\s+)?know\b|\b(?:i|we)\s+have\s+no\s+idea\b"
    r"|\bas an ai\b|\bi apologi[sz]e\b|\b(?:it is|it's)\s+(?:not possible|impossible)\s+to\b"
    rf"|\A\W*(?:(?:i am|i'm)\s+)?(?:very\s+|so\s+)?sorry\b|\A\W*(?:{_CANNOT}|unable to|not able to)\b"
    r"|\A\W*(?:don't know|dont know|no idea|idk|unknown|n/a)\W*\Z",
    re.I,
)
_HEDGE = re.compile(
    r"\b(?:not sure|unsure|unclear|unknown|not certain|(?:hard|difficult) to (?:say|tell)|"
    r"(?:cannot|can't) be determined)\b",
    re.I,
)
_FIRST = re.compile(r"[^\n]*?(?:[.!?](?=\s|\Z)|\n|\Z)")
_NUMBERING = re.compile(r"^[ \t]*[0-9]{1,2}[.)][ \t]+(?=[^\W\d_])", re.M)
_SEPARATOR = re.compile(r"[;\n\u2022]|(?<![0-9]),|,(?![0-9]{3}(?![0-9]))|\band\b|&", re.I)
_ITEM_BREAK = re.compile(
    r"[,;\n]|(?<![^\W_])and(?![^\W_])|&|[\u2022\u00b7]|(?:(?<=\s)|\A)(?:\(?[0-9]{1,3}[.)]|[-*\u2013+])(?=\s)",
    re.I,
)
_NOTHING = re.compile(
    r"\W*(?:none|nothing|no(?:\s+\w+){1,2}|(?:there (?:is|are) )?none of (?:them|these|the \w+))\W*", re.I
)
_COUNTED = re.compile(r"(?:[ \t]+(?!(?:and|of|in|on|or|with)\b)[^\W\d_]+){0,2}[ \t]*", re.I)
_FILLERS = frozenset({"etc", "so on", "more", "others", "or", "and"})
_LONGEST_ITEM = 6


def score(kind: str, response: str, doc: Doc) -> Scored:
    """Score one answer of a task of `kind` (one of counting, listing, common, oddone).

    Args:
        kind: the task.
        response: the model's answer, any string.
        doc: needs `gt` (string); `targets` and `boxes` add to the vocabulary where present.

    Raises:
        UserError: an unknown kind; a gt that does not fit the kind.
    """
    if kind not in _SCORERS:
        raise UserError(nearest("task", kind, TASK_KINDS))
    return _SCORERS[kind](response, doc)


def score_counting(response: str, doc: Doc) -> Scored:
    """Counting: the number, or with k > 1 (gt as `dog: 2, car: 1`) all k numbers, exactly (METHODS 2).

    k = 1: digits or words; "none" and "no dogs" are 0; a stated total wins; numbers that name images or
    belong to another class than the asked one (`targets`) are no counts; several different numbers are
    ambiguous. k > 1: `dog: 2, car: 1` in any order, `2 dogs and 1 car`, or exactly k bare numbers in the
    asked order.

    Raises:
        UserError: gt is neither an integer nor `class: number` pairs.
    """
    gt = str(doc["gt"])
    wanted = _pairs(gt) if ":" in gt else None
    text = _plain(response)
    number = None if wanted else _integer(gt, gt)
    failed = _unreadable(text)
    if failed is not None:
        return Scored(None, failed, 0.0, class_accuracy=0.0 if wanted else None)
    if wanted:
        text = _NUMBERING.sub(lambda match: " " * len(match.group()), text)
        return _several_counts(without_image_names(text), doc, wanted)
    status, value = _one_count(without_image_names(text), doc)
    return Scored(value, status, float(status == "parsed" and value == number))


def score_common(response: str, doc: Doc) -> Scored:
    """Common: 1 where exactly one class is named, and it is gt (METHODS 2.1).

    The whole answer is read first; if it names several classes, its first sentence or line only. Plurals
    and synonyms count; a denied class ("no cat") does not.

    Raises:
        UserError: gt is empty.
    """
    gt = _named(doc)[0]
    text = _plain(response)
    failed = _unreadable(text)
    if failed is not None:
        return Scored(None, failed, 0.0)
    mentions = find_mentions(text, doc_classes(doc, [gt]))
    names = _said(mentions)
    if len(names) > 1:
        first = _FIRST.match(text)
        end = first.end() if first else 0
        names = _said(mention for mention in mentions if mention.end <= end)
        if len(names) != 1:
            return Scored(None, "ambiguous", 0.0)
    if not names:
        return Scored(None, "negated" if mentions else _no_answer(text), 0.0)
    (name,) = names
    return Scored(name, "parsed", float(class_key(name) == class_key(gt)))


def score_oddone(response: str, doc: Doc) -> Scored:
    """Odd-One: read and scored as `score_common`."""
    return score_common(response, doc)


def score_listing(response: str, doc: Doc) -> Scored:
    """Listing: F1 of the classes named against gt (class names joined by `, `) (METHODS 2).

    Items are what stands between commas, semicolons, line ends, bullets, numbering and "and". An item may
    name several classes; denied ones are dropped; repeats count once. An item of up to 6 words without a
    known class is one wrong item; longer ones are prose and ignored.

    Raises:
        UserError: gt is empty.
    """
    gt = _named(doc)
    wanted = {class_key(name) for name in gt}
    text = _plain(response)
    failed = _unreadable(text)
    if failed is not None:
        return Scored(None, failed, 0.0, recalled=0, generated=0, relevant=len(wanted))
    mentions = find_mentions(text, doc_classes(doc, gt))
    listed = {class_key(name): name for name in _said(mentions)}
    right = len(wanted & listed.keys())
    if not _NOTHING.fullmatch(text):
        listed.update((class_key(item), item) for item in _unknown_items(text, mentions))
    if not listed:
        denied = mentions or _NOTHING.fullmatch(text)
        return Scored(
            None,
            "negated" if denied else _no_answer(text),
            0.0,
            recalled=0,
            generated=0,
            relevant=len(wanted),
        )
    f1 = f1_from_counts(right, len(listed), len(wanted)).f1
    return Scored(
        tuple(sorted(listed.values())),
        "parsed",
        f1,
        recalled=right,
        generated=len(listed),
        relevant=len(wanted),
    )


def _one_count(text: str, doc: Doc) -> tuple[Status, int | None]:
    numerals = read_numerals(text)
    if not numerals:
        return _no_answer(text), None
    numerals = _about_targets(text, numerals, doc)
    total = stated_total(text, numerals)
    first = text.partition("\n")[0]
    if total is not None:
        numerals = (total,)
    elif len(first.split()) <= 2 and len(read_numerals(first)) == 1:
        numerals = numerals[:1]
    if not numerals:
        return "unparsed", None
    said = [numeral.value for numeral in numerals if not numeral.negated]
    if not said:
        return "negated", None
    if len(set(said)) > 1:
        return "ambiguous", None
    return ("unparsed", None) if said[0] is None else ("parsed", said[0])


def _about_targets(text: str, numerals: tuple[Numeral, ...], doc: Doc) -> tuple[Numeral, ...]:
    """Without the numbers of classes that were not asked about: the 2 of "3 dogs and 2 cats"."""
    targets = {class_key(str(name)) for name in doc.get("targets") or ()}
    if not targets:
        return numerals
    mentions = find_mentions(text, doc_classes(doc))
    starts = [mention.start for mention in mentions]
    kept = []
    for numeral in numerals:
        i = bisect_left(starts, numeral.end)
        counted = i < len(mentions) and _COUNTED.fullmatch(text, numeral.end, starts[i])
        if not counted or class_key(mentions[i].class_name) in targets:
            kept.append(numeral)
    return tuple(kept)


def _several_counts(text: str, doc: Doc, wanted: dict[str, int]) -> Scored:
    """k > 1: numbers by class; a class with two different numbers, or none, is unread."""
    names = {class_key(name): name for name in wanted}
    numerals = read_numerals(text)
    mentions = find_mentions(text, doc_classes(doc, wanted))
    if not any(class_key(mention.class_name) in names for mention in mentions):
        values = [None if numeral.negated else numeral.value for numeral in numerals]
        if not values:
            return Scored(None, "negated" if mentions else _no_answer(text), 0.0, class_accuracy=0.0)
        if len(values) != len(wanted) or None in values or mentions:
            return Scored(None, "ambiguous", 0.0, class_accuracy=0.0)
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
    return Scored(
        ordered or None,
        "parsed" if complete else "ambiguous",
        float(complete and right == len(wanted)),
        class_accuracy=right / len(wanted),
    )


def _by_class(
    text: str, mentions: tuple[Mention, ...], numerals: tuple[Numeral, ...], names: dict[str, str]
) -> tuple[dict[str, set[int | None]], bool]:
    """({asked class: numbers given to it}, whether a number stands without a class and is no total).

    Between separators, classes and numbers must alternate: `dog: 2` or `2 dogs`.
    """
    read: dict[str, set[int | None]] = {}
    stray = False
    cuts = [match.end() for match in _SEPARATOR.finditer(text)]
    mention_starts = [mention.start for mention in mentions]
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
        paired = len(given) == len(inside) and _alternate(inside, given)
        for i, mention in enumerate(inside):
            name = names.get(class_key(mention.class_name))
            if name is not None and (paired or given):
                value = given[i].value if paired and not given[i].negated else None
                read.setdefault(name, set()).add(value)
    return read, stray


def _alternate(mentions: list[Mention], numerals: list[Numeral]) -> bool:
    order = sorted(
        [(mention.start, "class") for mention in mentions] + [(n.start, "number") for n in numerals]
    )
    return all(one[1] != other[1] for one, other in pairwise(order))


def _unknown_items(text: str, mentions: tuple[Mention, ...]) -> list[str]:
    """Short items of a list that name no class, by their text; headings, numbers and fillers left out."""
    items = []
    cuts = [match.span() for match in _ITEM_BREAK.finditer(text)]
    starts = [0, *(end for _, end in cuts)]
    ends = [*(start for start, _ in cuts), len(text)]
    place = 0
    for start, end in zip(starts, ends, strict=True):
        while place < len(mentions) and mentions[place].end <= start:
            place += 1
        if place < len(mentions) and mentions[place].start < end:
            continue
        item = text[start:end].strip()
        words = re.findall(r"[^\W_]+", item.lower())
        if words and words[0] in ("a", "an", "the"):
            words = words[1:]
        label = " ".join(words)
        if (
            0 < len(words) <= _LONGEST_ITEM
            and not item.endswith(":")
            and label not in _FILLERS
            and not label.isnumeric()
        ):
            items.append(label)
    return items


def _unreadable(text: str) -> Status | None:
    if not text:
        return "empty"
    return "refused" if _REFUSAL.search(text) else None


def _no_answer(text: str) -> Status:
    return "refused" if _HEDGE.search(text) else "unparsed"


def _said(mentions: Iterable[Mention]) -> set[str]:
    return {mention.class_name for mention in mentions if not mention.negated}


def _plain(response: str) -> str:
    """Without Markdown's emphasis and outer space; curly apostrophes straightened."""
    return response.replace("\u2019", "'").replace("**", "").replace("__", "").strip()


def _named(doc: Doc) -> list[str]:
    names = [name.strip() for name in str(doc["gt"]).split(", ") if class_key(name)]
    if not names:
        raise UserError(f"gt must name a class, got {doc['gt']!r}")
    return names


def _pairs(gt: str) -> dict[str, int]:
    pairs = {}
    for pair in gt.split(", "):
        name, _, number = pair.rpartition(":")
        if not class_key(name):
            raise UserError(f"gt of several counts must read like 'dog: 2, car: 1', got {gt!r}")
        pairs[name.strip()] = _integer(number, gt)
    return pairs


def _integer(number: str, gt: str) -> int:
    if not re.fullmatch(r"\s*[0-9]{1,15}\s*", number):
        raise UserError(
            f"gt of a counting doc must be an integer >= 0 or read like 'dog: 2, car: 1', got {gt!r}"
        )
    return int(number)


_SCORERS: dict[str, Callable[[str, Doc], Scored]] = {
    "counting": score_counting,
    "listing": score_listing,
    "common": score_common,
    "oddone": score_oddone,
}
