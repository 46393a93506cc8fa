"""Class names as models write them: COCO synonyms, and where a text mentions a class.

Matching is by full words, never by substring, so `carrot` is not a car and `cattle` is not a cat
(METHODS 2.1, defect b). Words that could mean several classes or none (glass, bag, computer) are left out.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from mimic_tasks import coco_classes
from mimic_tasks.scoring.plurals import plural
from mimic_tasks.scoring.words import KINDS_OF, SAME_AS, TRAPS

COCO_CLASSES = tuple(row.name for row in coco_classes.COCO_CLASSES)
"""The 80 object classes of MS-COCO, in the order of its category ids."""

_WORD = re.compile(r"[^\W_]+")
_PLAIN_NAME = re.compile(r"[^\W_]+(?:[ _-]+[^\W_]+)*")
_IN_BRACKETS = re.compile(r"[ _]*\([^()]*\)")
_CHARACTERS = re.compile(r"[^\n]{1,3}\Z")
_JOINER = re.compile(r"[ \t_\-\u2010\u2011]*\Z")
_APOSTROPHES = str.maketrans({"\u2019": "'", "\u02bc": "'", "`": "'"})
_CUE = re.compile(
    r"\b(?:no|not|without|neither|nor|never|none|nothing|cannot|zero|0|isnt|arent|dont|doesnt)\b|\b\w+n't\b",
    re.I,
)
_SCOPE_END = re.compile(
    r"[.,;:!?()\n]|\b(?:but|only|just|except|besides|instead|rather|other than|apart from|is|are|was|were|"
    r"its?|it's|that|which|while|whereas|because|doubt|sure|certain)\b",
    re.I,
)
_OR = re.compile(r"\s*,?\s*(?:(?:or|nor|and/or)\s+(?:(?:an?|any|the)\s+)?|and\s+(?:any\s+)?)\Z", re.I)
_COMMA = re.compile(r"\s*,\s*(?:any\s+)?\Z", re.I)
_AFTERWARDS = re.compile(
    r"\s+(?:(?:is|are|was|were)(?:\s+not|n't)\s+(?:present|visible|there|shown|seen|found|in any)\b"
    r"|(?:do|does)(?:\s+not|n't)\s+appear\b|(?:is|are)\s+(?:absent|missing)\b)"
    r"(?![^.;\n]{0,80}\b(?:others?|rest|most|all|every|some|each|remaining)\b)",
    re.I,
)
_SCOPE_WORDS = 6


class Mention(NamedTuple):
    """A part of a text that names a class: text[start:end], affirmed or denied ("no cat")."""

    class_name: str
    start: int
    end: int
    negated: bool


def class_key(name: str) -> str:
    """What makes two spellings one name: case, spaces, hyphens and underscores do not count."""
    return "".join(_WORD.findall(_normal(name)))


def other_names(name: str) -> tuple[str, ...]:
    """Shorter names that a class name offers itself: `bat_(animal)` is a bat, `Barrel/bucket` either."""
    shorter = {_IN_BRACKETS.sub("", name).strip(" _"), *name.split("/")} - {name}
    return tuple(sorted(one for one in shorter if class_key(one)))


def split_names(text: str, known: Iterable[str] = ()) -> list[str]:
    """The names joined by `, ` in a gt; a known name that holds a comma stays one."""
    parts, names = text.split(", "), []
    commas = {name for name in known if ", " in name}
    most = max((name.count(", ") for name in commas), default=0) + 1
    while parts:
        width = next((w for w in range(most, 1, -1) if ", ".join(parts[:w]) in commas), 1)
        names.append(", ".join(parts[:width]))
        parts = parts[width:]
    return names


def doc_classes(doc: Mapping[str, Any], gt_classes: Iterable[str] = ()) -> tuple[str, ...]:
    """The vocabulary of a doc: COCO's classes and those of the doc (`gt_classes`, `targets`, `boxes`).

    Where the doc has another word for one of COCO's classes (`Couch`, `Mobile phone`), the doc's is used.

    Args:
        doc: may hold `targets` (list of names) and `boxes` (list of dicts with the key "class").
        gt_classes: the class names in the doc's ground truth.

    Returns:
        Distinct names, COCO's first; a tuple, so that equal vocabularies share one cached table.
    """
    return _with_coco(frozenset({str(name) for name in gt_classes} | named_in(doc)))


def named_in(doc: Mapping[str, Any]) -> set[str]:
    """The class names in a doc's `targets` and `boxes`."""
    of_doc = {str(name) for name in _listed(doc, "targets")}
    for boxes in _listed(doc, "boxes"):  # one list for each image, or one flat list
        for box in boxes if isinstance(boxes, list | tuple) else (boxes,):
            if isinstance(box, Mapping) and "class" in box:
                of_doc.add(str(box["class"]))
    return of_doc


def find_mentions(text: str, classes: tuple[str, ...]) -> tuple[Mention, ...]:
    """Where `text` names a class of `classes`, in reading order, longest name first (`hot dog` is no dog).

    Case, plurals, COCO synonyms and hyphens, underscores or missing spaces between the words of a name do
    not matter (`hot-dog`, `cell_phone`, `teddybear`). A mention is `negated` where the text denies it:
    "no cat", "there isn't a cat", "neither cats nor dogs", "the cat is not present".

    Args:
        text: any string.
        classes: the vocabulary, as from `doc_classes`; a name in it beats a synonym of another.

    Returns:
        Mentions that do not overlap; `class_name` is spelled as in `classes`.
    """
    table = _table(classes)
    text = text.translate(_APOSTROPHES)
    words = [(_normal(match.group()), match.start(), match.end()) for match in _WORD.finditer(text)]
    matches: list[tuple[str, int, int]] = []
    position = 0
    while position < len(words):
        width, name = _longest(words, position, text, table)
        if name is not None:
            matches.append((name, words[position][1], words[position + width - 1][2]))
        position += width
    matches = [item for i, item in enumerate(matches) if not _is_colour(text, matches, i)]
    return _with_negation(text, matches)


class _Table(NamedTuple):
    """The class of each known phrase by its key; None marks a trap.

    `phrases`: words side by side. `signed`: names whose words other signs join (`Barrel/bucket`), which are
    read over such signs. `widest`: most words in a phrase.
    """

    phrases: dict[str, str | None]
    signed: dict[str, str]
    widest: int


def _longest(
    words: list[tuple[str, int, int]], position: int, text: str, table: _Table
) -> tuple[int, str | None]:
    """(words taken, class or None) of the longest phrase at `position`; (1, None) where there is none."""
    best: tuple[int, str | None] = (1, None)
    joined, plain = "", True
    for width in range(1, min(table.widest, len(words) - position) + 1):
        word, start, _ = words[position + width - 1]
        if width > 1:
            end = words[position + width - 2][2]
            plain = plain and bool(_JOINER.match(text, end, start))
            if not plain and not (table.signed and _CHARACTERS.match(text, end, start)):
                break
        joined += word
        if plain and joined in table.phrases:
            best = (width, table.phrases[joined])
        elif joined in table.signed:
            best = (width, table.signed[joined])
    return best


def _is_colour(text: str, matches: list[tuple[str, int, int]], i: int) -> bool:
    """`orange` right before another name is its colour: "an orange cat"."""
    _, start, end = matches[i]
    return (
        text[start:end].lower() == "orange"
        and i + 1 < len(matches)
        and text[end : matches[i + 1][1]].isspace()
    )


def _with_negation(text: str, matches: list[tuple[str, int, int]]) -> tuple[Mention, ...]:
    gaps = [text[(matches[i - 1][2] if i else 0) : start] for i, (_, start, _) in enumerate(matches)]
    # Does a bare-comma chain from i end in "or"? Then "no cats, dogs, or birds" denies all three.
    ends_in_or = [False] * (len(matches) + 1)
    for i in range(len(matches) - 1, -1, -1):
        ends_in_or[i] = bool(_OR.match(gaps[i])) or (bool(_COMMA.match(gaps[i])) and ends_in_or[i + 1])
    mentions: list[Mention] = []
    for i, (name, start, end) in enumerate(matches):
        negated = _denied(gaps[i]) or bool(_AFTERWARDS.match(text, end))
        if not negated and i and mentions[-1].negated:
            negated = ends_in_or[i]
        mentions.append(Mention(name, start, end, negated))
    return tuple(mentions)


def _denied(gap: str) -> bool:
    """Does the last negation in `gap`, the text before a mention, reach the mention?"""
    reach = None
    for cue in _CUE.finditer(gap):
        reach = gap[cue.end() :]
    return reach is not None and not _SCOPE_END.search(reach) and len(_WORD.findall(reach)) <= _SCOPE_WORDS


@lru_cache(maxsize=1024)
def _table(classes: tuple[str, ...]) -> _Table:
    table: dict[str, str | None] = {}
    signed: dict[str, str] = {}
    same = [_same_as(class_key(name)) for name in classes]
    rounds: list[list[tuple[str, ...]]] = [
        [(name,) for name in classes],
        [(plural(name),) for name in classes],
        _unshared([other_names(name) for name in classes]),
        [words for _, words in same],
        [_words_of(KINDS_OF, head) for head, _ in same],
    ]
    for forms in rounds:
        for name, words in zip(classes, forms, strict=True):
            for word in words:
                for form in (word, plural(word)):
                    table.setdefault(class_key(form), name)
                    if not _PLAIN_NAME.fullmatch(form):
                        signed.setdefault(class_key(form), name)
                        table.setdefault(class_key(form.replace("&", " and ")), name)
                    elif " and " in form:
                        signed.setdefault(class_key(form.replace(" and ", " ")), name)
    for trap in TRAPS.split(", "):
        for form in (trap, plural(trap)):
            table.setdefault(class_key(form), None)
    table.pop("", None)
    signed.pop("", None)
    widest = max(len(_WORD.findall(name)) for name in (*classes, *_LONGEST_PHRASES))
    return _Table(table, signed, widest + 1)


def _unshared(names: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Without the names that several classes offer: a bow may be `bow_(weapon)` or another."""
    offered = Counter(class_key(name) for one in names for name in set(one))
    return [tuple(name for name in one if offered[class_key(name)] == 1) for one in names]


@lru_cache(maxsize=8192)
def _same_as(key: str) -> tuple[str, tuple[str, ...]]:
    """(COCO class, all words for it) of the group that holds the word with this key, else ("", ())."""
    head = _group_of().get(key, "")
    return head, (
        (head, *_words_of(SAME_AS, head), *(("persons",) if head == "person" else ())) if head else ()
    )


@lru_cache(maxsize=1024)
def _with_coco(of_doc: frozenset[str]) -> tuple[str, ...]:
    others = of_doc - _COCO_SET
    keys = {class_key(form) for name in others for form in (name, *other_names(name))}
    replaced = {_same_as(key)[0] for key in keys}
    coco = (name for name in COCO_CLASSES if name in of_doc or name not in replaced)
    return (*coco, *sorted(others))


def _normal(text: str) -> str:
    return (text if text.isascii() else unicodedata.normalize("NFKC", text)).casefold()


def _words_of(words: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(words[name].split(", ")) if name in words else ()


def _listed(doc: Mapping[str, Any], column: str) -> tuple[Any, ...]:
    values = doc.get(column)
    return tuple(values) if isinstance(values, list | tuple) else ()


@lru_cache(maxsize=1)
def _group_of() -> dict[str, str]:
    """{key of a word or its plural: the COCO class it is another word for}."""
    groups = {class_key(name): name for name in COCO_CLASSES}
    for name in COCO_CLASSES:
        for word in (name, *_words_of(SAME_AS, name)):
            groups.setdefault(class_key(word), name)
            groups.setdefault(class_key(plural(word)), name)
    return groups


_COCO_SET = frozenset(COCO_CLASSES)
_LONGEST_PHRASES = (*TRAPS.split(", "), "tv remote control")
