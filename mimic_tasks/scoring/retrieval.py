"""Retrieval by position: which image shows the class (METHODS 16.1)."""

import re

from mimic_eval.records import UserError
from mimic_tasks.scoring.clauses import clause_at, clauses, sentences
from mimic_tasks.scoring.image_numbers import CARDINAL, ORDINAL, NamedImages, named_images, position_of
from mimic_tasks.scoring.images import IMAGE, image_references, without_image_names
from mimic_tasks.scoring.positions import image_of
from mimic_tasks.scoring.response import answer_text
from mimic_tasks.scoring.scored import Doc, ScoredAnswer, Status, no_answer, unreadable
from mimic_tasks.scoring.vocabulary import class_key, doc_classes, find_mentions
from mimic_tasks.scoring.yes_no import read_entries, with_numbered_items

_NO_OTHER = re.compile(
    rf"\b(?:no|none|not any)(?: of the)? other(?: {IMAGE}| ones?)? ?(?:than|but|except)\b", re.I
)
_MARK = re.compile(r"<(image|img|picture)[ _-]?([0-9]{1,3})>", re.I)
_BARE = re.compile(
    r"(?:(?:it is|it's|the|number|no\.?|nr\.?|num\.?|option|choice|position|a:)[ :#(]{0,3})*"
    rf"(?P<number>{ORDINAL}|{CARDINAL})"
    rf"(?: ?(?:/|of|out of) ?(?:the )?(?:[0-9]+)(?: {IMAGE})?)?",
    re.I,
)
_SEVERAL = re.compile(rf"{CARDINAL}(?:\W{{1,9}}(?:(?:and|or)\W{{1,9}})?{CARDINAL})+", re.I)
_LONGEST_STATEMENT = 200
_CUE = re.compile(
    rf"\b(?:final )?(?:answer|{IMAGE}|number|index|choice|option)(?: (?:number|index|id|no\.?))?"
    r" ?(?:is\b|[:=])\s*",
    re.I,
)
_NOT = re.compile(
    r"\b(?:no|not|never|neither|nor|none|without|lacks?|lacking|absent|missing|cannot)\b|n't\b", re.I
)
_EXCEPT = re.compile(r"\b(?:except|other than|besides|apart from|but|only|no other|nowhere else)\b", re.I)
_TURN = re.compile(r"(?<![^\W_])(?:unlike|instead of|rather than|compared (?:to|with)|than)(?![^\W_])", re.I)
_CONTRAST = re.compile(r"\W*(?:unlike|instead|rather|compared|than)\b", re.I)
_END = re.compile(
    rf"\b(?:is|number|image|in|answer)\W{{0,5}}(?P<number>{CARDINAL}|{ORDINAL})\W{{0,9}}\Z", re.I
)
_START = re.compile(
    rf"\W{{0,9}}(?P<number>{CARDINAL})(?: ?(?:[.,:;)\n]|-|\u2013|\u2014)| because\b| \()", re.I
)


def score_retrieval(response: str, doc: Doc) -> ScoredAnswer:
    """Retrieval: 1 where the answer names one image, and it is the right one.

    Numbers, words ("the third image", "last") and descriptions image by image are read; what the answer
    denies ("not image 2") is not named. A number that no image of the doc has is not parsed.

    Args:
        response: the model's answer.
        doc: needs `gt`; `n_images`, `targets` and `boxes` are used where present.

    Raises:
        UserError: gt is not the number of an image.
    """
    right = image_of(str(doc["gt"])) + 1
    n = doc.get("n_images") or len(doc.get("boxes") or ()) or None
    if n is not None and right > n:
        raise UserError(f"gt must be the number of one of {n} images, got {doc['gt']!r}")
    number, status = _read(response, doc, n)
    scores: list[float | None] = [None] * (n or right)
    scores[right - 1] = float(number == right)
    parsed = None if number is None else str(number)
    return ScoredAnswer(parsed, status, float(number == right), position_scores=tuple(scores))


def _read(response: str, doc: Doc, n: int | None) -> tuple[int | None, Status]:
    text = _NO_OTHER.sub("only", answer_text(_MARK.sub(r"\1 \2", response)))
    failed = unreadable(text)
    if failed is not None:
        return None, failed
    if re.match(r"[-\u2212][0-9]", text):
        return None, "unparsed"
    for part in _stated(text):
        bare = _BARE.fullmatch(part)
        if bare:
            return _checked(position_of(bare["number"], n), n)
        if _SEVERAL.fullmatch(part):
            numbers = {position_of(number, n) for number in re.findall(CARDINAL, part, re.I)}
            return _checked(numbers.pop(), n) if len(numbers) == 1 else (None, "ambiguous")
    cues = list(_CUE.finditer(text))
    if cues:
        named = _affirmed(text, named_images(text, n), doc, after=cues[-1].end())
        if len(named) == 1:
            return _checked(named.pop(), n)
    targets = [str(name) for name in doc.get("targets") or ()]
    if n is not None:
        text = with_numbered_items(text, n)
        entries = read_entries(text, n, targets, doc_classes(doc, targets) if targets else ())
        if entries is not None and entries.count("yes") == 1 and "no" in entries:
            return entries.index("yes") + 1, "parsed"
        if entries is not None and set(entries) == {"no"}:
            return None, "negated"
    return _described(text, doc, n)


def _stated(text: str) -> list[str]:
    """The parts that may be nothing but the number: all, after the last cue, and the first and last line."""
    parts = [text]
    for cue in list(_CUE.finditer(text))[-1:]:
        parts.append(text[cue.end() :])
        parts += [text[cue.end() : end] for start, end in sentences(text) if start <= cue.start() < end]
    lines = [line for line in text.split("\n") if line.strip()]
    parts += lines[:1] + lines[-1:]
    marks = "".join(sorted({character for part in parts for character in part if not character.isalnum()}))
    bare = [part.strip(marks) for part in parts]
    return [part for part in bare if 0 < len(part) <= _LONGEST_STATEMENT]


def _described(text: str, doc: Doc, n: int | None) -> tuple[int | None, Status]:
    """The image that sentences name."""
    named = named_images(text, n)
    if named:
        affirmed = _affirmed(text, named, doc)
        if len(affirmed) == 1:
            return _checked(affirmed.pop(), n)
        return None, "ambiguous" if affirmed else "negated"
    for pattern in (_END, _START):
        match = pattern.search(text) if pattern is _END else pattern.match(text)
        if match:
            return _checked(position_of(match["number"], n), n)
    if re.match(r"\W*(?:none|neither|no (?:image|picture|photo)s?)\b", text, re.I):
        return None, "negated"
    return None, no_answer(text)


def _affirmed(text: str, named: list[NamedImages], doc: Doc, *, after: int = 0) -> set[int]:
    """The images that are named and not denied; of several, those of clauses that name the class."""
    spans = [(one.start, one.end) for one in named]
    parts = clauses(text, image_references(text), spans, _TURN)
    starts = [part.start for part in parts]
    targets = {class_key(str(name)) for name in doc.get("targets") or ()}
    mentions = find_mentions(text, doc_classes(doc, list(doc.get("targets") or ()))) if targets else ()
    about = {
        clause_at(parts, starts, mention.start).start
        for mention in mentions
        if class_key(mention.class_name) in targets and not mention.negated
    }
    affirmed: set[int] = set()
    with_class: set[int] = set()
    denied: dict[int, bool] = {}
    plain = without_image_names(text)
    for one in named:
        if one.start < after:
            continue
        clause = clause_at(parts, starts, one.start)
        if clause.start not in denied:
            denied[clause.start] = _denies(plain[clause.start : clause.end])
        if not denied[clause.start]:
            affirmed |= set(one.images)
            with_class |= set(one.images) if clause.start in about else set()
    return with_class if len(affirmed) > 1 and len(with_class) == 1 else affirmed


def _denies(clause: str) -> bool:
    """The images of a clause are those that do not show the class."""
    if _CONTRAST.match(clause):
        return True
    return bool(_NOT.search(clause) and not _EXCEPT.search(clause))


def _checked(number: int | None, n: int | None) -> tuple[int | None, Status]:
    inside = number is not None and number >= 1 and (n is None or number <= n)
    return (number, "parsed") if inside else (None, "unparsed")
