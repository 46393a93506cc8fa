"""Yes or no for each image of a list, as models write it (METHODS 16.1)."""

import json
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any

from mimic_tasks.scoring.clauses import sentences
from mimic_tasks.scoring.image_numbers import CARDINAL, ORDINAL, NamedImages, named_images, position_of
from mimic_tasks.scoring.images import IMAGE, image_references
from mimic_tasks.scoring.vocabulary import class_key, find_mentions

_YES = r"(?:yes|yeah|yep|yup|true|y|\u662f|\u6709)(?![^\W_])|[\u2713\u2714\u2705\u2611]"
_NO = r"(?:no|nope|false|n|none|\u5426|\u4e0d|\u65e0|\u7121)(?![^\W_])|[\u2717\u2718\u274c\u2715\u2716]"
_VERDICT = rf"(?<![^\W_])(?:(?P<yes>{_YES})|(?P<no>{_NO}))"
_LIST = re.compile(rf"\W*?(?:{_VERDICT}|(?<![^\W_])and(?![^\W_]))", re.I)
_ROW = re.compile(
    rf"(?<![^\W_])(?P<image>{IMAGE} ?(?:#|number |no\. ?)?)?"
    rf"\(?(?P<number>{CARDINAL}|(?P<ordinal>{ORDINAL}))\)?"
    rf"(?: (?:{IMAGE}|one)(?![^\W_]))? ?(?P<between>(?:[:=.)|-]|\u2013|\u2014|->|\u2192| is )*) ?{_VERDICT}",
    re.I,
)
_END_OF_SENTENCE = re.compile(rf"(?:{IMAGE}|\b(?:the|in|of|for|no|number))[ #(]*\Z", re.I)
_ITEM_NUMBER = re.compile(r"(?:(?<=\s)|^)[-*(]? ?([0-9]{1,2})[.):]+(?= |$)", re.M)
_CUE = re.compile(r"\b(?:final )?(?:answers?|results?|list)\b(?: (?:is|are)\b| ?[:=]){1,2}", re.I)
_LEADING = re.compile(rf"\W*?{_VERDICT}(?=\W|\Z)", re.I)
_YES_WORD = re.compile(rf"(?<![^\W_])(?:{_YES})", re.I)
_NEGATION = re.compile(
    rf"(?<![^\W_])(?:{_NO}|not|never|neither|nor|without|absent|missing|lacks?|lacking|cannot)(?![^\W_])|n't\b"
    r"|[\u2717\u2718\u274c\u2715\u2716]",
    re.I,
)
_NO_DOUBT = re.compile(r"\b(?:no|without (?:a|any)) doubt\b|\bnot only\b", re.I)
_AFFIRMATION = re.compile(
    r"\b(?:shows?|shown|contains?|has|have|includes?|features?|depicts?|there (?:is|are)|visible|present|seen"
    r"|appears?|do|does|is|are|can)\b",
    re.I,
)
_ONLY = re.compile(r"\b(?:only|just|sole|solely|exclusively)\b", re.I)
_NONE = re.compile(
    rf"\b(?:none|neither|no|not any)(?: (?:one )?of)?(?: (?:the|these|those))?(?: [0-9]+)? (?:{IMAGE}|them)\b"
    r"|\bnot? (?:for|in|to) (?:all|any|each|every|either)\b"
    r"|(?:\b(?:no|not|never)\b|n't\b)[^.;\n]{0,60}"
    rf"\b(?:any|either)(?: one)?(?: of)?(?: (?:the|these|those))? {IMAGE}\b",
    re.I,
)
_ALONE = {"none": "no", "neither": "no", "all": "yes", "both": "yes", "all of them": "yes"}

Entries = list[str | None]


def read_entries(text: str, n: int, targets: Sequence[str], classes: Sequence[str]) -> Entries | None:
    """``yes`` or ``no`` for each of `n` images, None for an image that the answer leaves out.

    A list of n entries after "answer:" counts first, then rows ("Image 1: yes", "2. no"), then a list that
    is the whole text or its last or first line, then n sentences that begin with yes or no, then what is
    said of named images, of the others, or of all.

    Args:
        text: the answer as plain text (`answer_text`).
        n: images of the doc.
        targets: the class of the question.
        classes: the vocabulary of the doc.

    Returns:
        None if it says nothing of any image, has a wrong number of entries, or contradicts itself.
    """
    alone = _ALONE.get(text.lower().strip(" .!\n"))
    if alone and (n == 2 or text.lower().strip(" .!\n") not in ("both", "neither")):
        return [alone] * n
    text = with_numbered_items(text, n)
    cues = list(_CUE.finditer(text))
    if cues and (entries := _list(text[cues[-1].end() :], n)):
        return entries
    rows = _rows(text, n)
    if rows is not None and None not in rows:
        return rows
    lines = [line for line in text.split("\n") if line.strip()]
    for part in (text, *lines[-1:], *lines[:1], *re.split("[:!]", text)[-1:]):
        if entries := _list(part, n):
            return entries
    if _is_list(text):
        return None  # of another length
    leading = [match for start, end in sentences(text) if (match := _LEADING.match(text[start:end]))]
    if len(leading) == n and not named_images(text, n):
        return ["yes" if match["yes"] else "no" for match in leading]
    said = _said(text, n, targets, classes)
    if rows is None or said is None:
        return said or rows
    return [row or other for row, other in zip(rows, said, strict=True)]


def with_numbered_items(text: str, n: int) -> str:
    """The text with "image 1:" for "1." where its items are numbered from 1 to `n`."""
    numbers = [int(number) for number in _ITEM_NUMBER.findall(text)]
    return _ITEM_NUMBER.sub(r"image \1:", text) if numbers == list(range(1, n + 1)) else text


def json_entries(response: str, n: int) -> Entries | None:
    """The entries of an answer that is JSON: a list, an object by image, or a list of objects.

    Args:
        response: as the model gave it.
        n: images of the doc.
    """
    text = re.sub(r"\A\s*```[a-z]*|```\s*\Z", "", response.strip(), flags=re.I).strip()
    if text[:1] not in ("{", "["):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    for values in _lists(value):
        entries = [_verdict(one) for one in values]
        if len(entries) == n and None not in entries:
            return entries
    return None


def _lists(value: Any) -> Iterator[list[Any]]:
    """Each list in JSON, and each object's values in the order of their numbers."""
    if isinstance(value, dict):
        numbers = [re.search("[0-9]+", str(key)) for key in value]
        if all(numbers) and value:
            at = [int(match[0][:6]) for match in numbers if match]
            yield [one for _, one in sorted(zip(at, value.values(), strict=True), key=lambda pair: pair[0])]
        for inside in value.values():
            yield from _lists(inside)
    elif isinstance(value, list):
        yield value


def _verdict(value: Any) -> str | None:
    if isinstance(value, dict):
        verdicts = [verdict for one in value.values() if (verdict := _verdict(one)) and one not in (0, 1)]
        verdicts += [_verdict(one) or "" for one in value.values() if isinstance(one, bool)]
        return verdicts[0] if len(set(verdicts)) == 1 else None
    if isinstance(value, bool) or value in (0, 1):
        return "yes" if value else "no"
    match = re.fullmatch(_VERDICT + r"\W*", value.strip(), re.I) if isinstance(value, str) else None
    return None if match is None else "yes" if match["yes"] else "no"


def _verdicts(text: str) -> list[str] | None:
    """The verdicts of a text that holds nothing else."""
    entries, position = [], 0
    while match := _LIST.match(text, position):
        position = match.end()
        if match["yes"] or match["no"]:
            entries.append("yes" if match["yes"] else "no")
    rest = text[position:].strip(" \n.,;:!|)\"'").lower()
    return entries if entries and rest in ("", "respectively", "in order", "in that order") else None


def _list(text: str, n: int) -> Entries | None:
    entries = _verdicts(text)
    return list(entries) if entries and len(entries) == n else None


def _is_list(text: str) -> bool:
    return _verdicts(text) is not None


def _rows(text: str, n: int) -> Entries | None:
    """The rows of a table; None if there are none, if two contradict each other, or name no image."""
    entries: Entries = [None] * n
    for match in _ROW.finditer(text):
        if "." in match["between"] and (
            match["image"] or match["ordinal"] or _END_OF_SENTENCE.search(text[: match.start()][-20:])
        ):
            continue  # the verdict is the next sentence's
        number, verdict = position_of(match["number"], n), "yes" if match["yes"] else "no"
        if number is None or not 1 <= number <= n or entries[number - 1] not in (None, verdict):
            return None
        entries[number - 1] = verdict
    return entries if any(entries) else None


def _said(text: str, n: int, targets: Sequence[str], classes: Sequence[str]) -> Entries | None:
    """What sentences say of named images, of the others and of all."""
    named = named_images(text, n)
    others = [one for one in image_references(text) if one.reach == "others"]
    about = [*named, *(NamedImages((), one.start, one.end) for one in others)]
    about.sort(key=lambda one: one.start)
    starts = [one.start for one in about]
    entries: Entries = [None] * n
    rest: str | None = None
    keys = {class_key(target) for target in targets}
    for start, end in sentences(text):
        of_sentence = about[bisect_left(starts, start) : bisect_left(starts, end)]
        part = text[start:end]
        polarities = _polarities(text, start, end, of_sentence, keys, classes)
        for one, verdict in polarities:
            rest = rest if one.images else verdict
            for image in one.images:
                if not 1 <= image <= n or entries[image - 1] not in (None, verdict):
                    return None
                entries[image - 1] = verdict
        if polarities and _ONLY.search(part):
            rest = "no" if polarities[0][1] == "yes" else "yes"
        if not about and _NONE.search(part):
            rest = "no"
        elif not about and any(one.reach in ("all", "each") for one in image_references(part)):
            rest = _polarity(part, keys, classes)
    filled = [entry or rest for entry in entries]
    return filled if any(filled) else None


def _polarities(
    text: str,
    start: int,
    end: int,
    named: Sequence[NamedImages],
    keys: set[str],
    classes: Sequence[str],
) -> list[tuple[NamedImages, str]]:
    """Each named image of a sentence with its yes or no, before or after it as the sentence begins."""
    starts, ends = [*(one.start for one in named), end], [start, *(one.end for one in named)]
    said = [_polarity(text[a:b], keys, classes) for a, b in zip(ends, starts, strict=True)]
    if said[0]:
        verdicts = [next(filter(None, reversed(said[: i + 1])), None) for i in range(len(named))]
    else:
        verdicts = [next(filter(None, said[i + 1 :]), None) for i in range(len(named))]
    return [(one, verdict) for one, verdict in zip(named, verdicts, strict=True) if verdict]


def _polarity(text: str, keys: set[str], classes: Sequence[str]) -> str | None:
    """``yes``, ``no``, or None where a part of a sentence says neither."""
    plain = _NO_DOUBT.sub(" ", text)
    leading = _LEADING.match(plain)
    if leading:
        return "yes" if leading["yes"] else "no"
    mentions = find_mentions(plain, tuple(classes)) if classes else ()
    about = [mention for mention in mentions if class_key(mention.class_name) in keys]
    if about:
        return "no" if all(mention.negated for mention in about) or _is_denied(plain) else "yes"
    if _YES_WORD.search(plain):
        return "yes"
    if _NEGATION.search(plain):
        return "no"
    if mentions:
        return "no"  # another class is described
    return "yes" if _AFFIRMATION.search(plain) else None


def _is_denied(text: str) -> bool:
    """A denial of the whole: "does not show any dogs", "dogs are not visible"."""
    return bool(re.search(r"\b(?:do|does|is|are|can|could)(?: not|n't|not)\b", text, re.I))
