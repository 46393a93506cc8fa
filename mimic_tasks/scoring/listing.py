"""Listing: the classes that an answer lists (METHODS 2)."""

import re
from bisect import bisect_left, bisect_right

from mimic_tasks.coco_classes import COCO_CLASSES
from mimic_tasks.scoring.images import IMAGE, without_image_names
from mimic_tasks.scoring.response import answer_text
from mimic_tasks.scoring.scored import Doc, ScoredAnswer, affirmed, gt_names, no_answer, unreadable
from mimic_tasks.scoring.vocabulary import Mention, class_key, doc_classes, find_mentions
from mimic_tasks.scoring.words import DESCRIBES, PROSE
from stats import f1_from_counts

_BREAK = re.compile(
    r"[,;\n|()]|/(?=\s|\w)|[.!?]+(?=\s|\Z)|(?<![^\W_])(?:and|or|plus|but|while|whereas)(?![^\W_])|&|[\u2022\u00b7]"
    r"|(?:(?<=\s)|\A)(?:\(?[0-9]{1,3}[.)]|[-*\u2013\u2014+])(?=\s)",
    re.I,
)
_NOTHING = re.compile(
    r"\W*(?:none|nothing|no(?: \w+){1,2}|(?:there (?:is|are) )?none of (?:them|these|the \w+))\W*"
    r"|\W*(?:there (?:is|are) )?no \w+(?: (?:are|is))?(?: (?:visible|present|seen|shown))?"
    rf"(?: in (?:any of )?(?:the|these) {IMAGE})?\W*",
    re.I,
)
_ANSWER = re.compile(r"(?:\A|[.\n] ?)(?:the )?(?:final )?answer(?: is)? ?[:-]? ", re.I)
_REMARK = re.compile(
    r"(?:\n|(?<=[.!?]) )\W*(?:note|notes|explanation|reason|reasoning|rationale|justification|description|"
    r"comment|disclaimer|confidence)s? ?:",
    re.I,
)
_LABEL = re.compile(r"(?:\A|\n)\W*(?:category|task|topic|question|confidence|note) ?:[^\n]*(?=\n)", re.I)
_PROSE = frozenset(PROSE.split())
_DESCRIBES = frozenset(DESCRIBES.split())
_LOCATION = re.compile(
    r"(?<![^\W_])(?:on|in|inside|at|under|underneath|near|behind|beside|next to|in front of|against"
    r"|over|above|by)"
    r" (?:an?|the|some|its|his|her|their) (?:[\w-]+ ){0,2}\Z",
    re.I,
)
_CATEGORIES = {class_key(row.name): row.supercategory for row in COCO_CLASSES}
_LONGEST_ITEM = 4


def score_listing(response: str, doc: Doc) -> ScoredAnswer:
    """Listing: F1 of the classes named against gt (class names joined by `, `) (METHODS 2).

    Named classes that are not denied count once. A short item of the list without a known class is one wrong
    item; prose, headings, fillers ("Sure, here is the list:", "in the images", "etc."), adjectives and what
    is in brackets after a class are none. A class of another COCO category is no item where it only says
    where one is ("a cat on a couch").

    Raises:
        UserError: gt is empty.
    """
    gt = gt_names(doc)
    wanted = {class_key(name) for name in gt}
    text = answer_text(response)
    failed = unreadable(text)
    if failed is not None:
        return ScoredAnswer(None, failed, 0.0, recalled=0, generated=0, relevant=len(wanted))
    classes = doc_classes(doc, gt)
    text = _listed_part(text, classes)
    mentions = find_mentions(text, classes)
    remarks = _remarks(text, mentions)
    listed = {
        class_key(name): name
        for name in affirmed(
            m for m in mentions if not _within(m.start, remarks) and not _is_location(text, m, wanted)
        )
    }
    right = len(wanted & listed.keys())
    nothing = _NOTHING.fullmatch(text)
    if not nothing:
        names = {class_key(str(doc.get("category") or ""))}
        listed.update(
            (class_key(item), item)
            for item in _unknown_items(text, mentions, remarks)
            if class_key(item) not in names
        )
    if not listed:
        status = "negated" if mentions or nothing else no_answer(text)
        return ScoredAnswer(None, status, 0.0, recalled=0, generated=0, relevant=len(wanted))
    f1 = f1_from_counts(right, len(listed), len(wanted)).f1
    return ScoredAnswer(
        tuple(sorted(listed.values())),
        "parsed",
        f1,
        recalled=right,
        generated=len(listed),
        relevant=len(wanted),
    )


def _listed_part(text: str, classes: tuple[str, ...]) -> str:
    """Without what precedes the last "Answer:", with remarks at the end and names of images cut off."""
    text = _LABEL.sub("\n", text)
    answers = [match.end() for match in _ANSWER.finditer(text)]
    if answers and text[answers[-1] :].strip():
        text = text[answers[-1] :]
    remark = _REMARK.search(text)
    text = text[: remark.start()] if remark else text
    protected = [(mention.start, mention.end) for mention in find_mentions(text, classes)]
    return without_image_names(text, protected)


def _remarks(text: str, mentions: tuple[Mention, ...]) -> list[tuple[int, int]]:
    """What is in brackets right after a class name: "Cat (orange)", "dog (in image 2)"."""
    ends = [mention.end for mention in mentions]
    remarks: list[tuple[int, int]] = []
    for match in re.finditer(r"\([^()\n]*\)?", text):
        if _within(
            match.start(),
            [(m.start, m.end) for m in mentions[max(0, bisect_right(ends, match.start()) - 1) :][:2]],
        ):
            continue
        i = bisect_right(ends, match.start()) - 1
        named = i >= 0 and not text[ends[i] : match.start()].strip()
        if named and not re.match(r"\( ?(?:and|or|also|plus)\b", match.group(), re.I):
            remarks.append(match.span())
    return remarks


def _within(position: int, spans: list[tuple[int, int]]) -> bool:
    i = bisect_right(spans, (position, position + 10**9)) - 1
    return i >= 0 and spans[i][0] <= position < spans[i][1]


def _is_location(text: str, mention: Mention, wanted: set[str]) -> bool:
    """Whether the mention only says where something is, and is of another category than the question's?"""
    categories = {_CATEGORIES.get(key) for key in wanted}
    category = _CATEGORIES.get(class_key(mention.class_name))
    if category is None or category in categories or None in categories:
        return False
    return bool(_LOCATION.search(text[max(0, mention.start - 60) : mention.start]))


def _unknown_items(text: str, mentions: tuple[Mention, ...], remarks: list[tuple[int, int]]) -> list[str]:
    """Short items of a list that name no class, by their text."""
    items = []
    starts = [mention.start for mention in mentions]
    cuts = [match.span() for match in _BREAK.finditer(text)]
    begins = [0, *(end for _, end in cuts)]
    ends = [*(start for start, _ in cuts), len(text)]
    for start, end in zip(begins, ends, strict=True):
        i = bisect_left(starts, end) - 1
        if (i >= 0 and mentions[i].end > start) or _within(start, remarks):
            continue
        item = text[start:end].rpartition(":")
        label = _item(item[2] if item[2].strip() else "")
        if label:
            items.append(label)
    return items


def _item(text: str) -> str:
    """A noun phrase as an item, else ""."""
    words = re.findall(r"[^\W_]+(?:'[^\W_]+)?", text[:200].lower())
    if words and words[0] in ("a", "an", "the"):
        words = words[1:]
    if not 0 < len(words) <= _LONGEST_ITEM or len(text) > 100:
        return ""
    if not _PROSE.isdisjoint(words) or _DESCRIBES.issuperset(words) or " ".join(words).isnumeric():
        return ""
    return " ".join(words)
