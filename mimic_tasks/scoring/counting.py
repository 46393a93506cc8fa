"""Counting: the number that an answer gives, or with several classes all their numbers (METHODS 2)."""

import re
from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise

from mimic_eval.records import UserError
from mimic_tasks.scoring.clauses import clause_at, clauses
from mimic_tasks.scoring.images import image_references, without_image_names
from mimic_tasks.scoring.numerals import Numeral, read_numerals, stated_total
from mimic_tasks.scoring.plurals import plural
from mimic_tasks.scoring.response import answer_text
from mimic_tasks.scoring.scored import Doc, ScoredAnswer, Status, no_answer, unreadable
from mimic_tasks.scoring.several_counts import several_counts
from mimic_tasks.scoring.vocabulary import (
    Mention,
    class_key,
    doc_classes,
    find_mentions,
    named_in,
    split_names,
)

_LIST_NUMBER = re.compile(r"(?:(?<=[\s])|\A)\(?(?P<n>[0-9]{1,2})[.)] (?=[^\W\d_])")
_HASH = re.compile(r"#[0-9]+(?![^\W_])")
_TIMES = re.compile(r"(?<![^\W_])x ?(?=[0-9])|\u00d7", re.I)
_COUNTED = re.compile(
    r"(?: (?!(?:and|of|in|on|or|with|is|are|was|were|has|have|to|from|for|out|at|as"
    r"|no)\b)[^\W\d_][\w'-]*){0,3} ?",
    re.I,
)
_GIVEN_TO = re.compile(r" ?(?:[:=(x-]|\u2013|\u2014|\bis\b|\bare\b|\btotal\b)? ?[:(-]? ?", re.I)
_DIRECT_CHOICE = re.compile(r" ?(?:-|\u2013|\u2014|~|/|to|vs|and/or) ?", re.I)
_CHOICE = re.compile(
    r"(?: [^\W\d_]+){0,2} ?,? ?\b(?:or|maybe|perhaps|possibly)\b(?: (?:maybe|perhaps|possibly|even"
    r"|is it))* ?",
    re.I,
)
_BETWEEN = re.compile(r"\bbetween \Z", re.I)
_CORRECTION = re.compile(
    r"\b(?:no,? wait|wait,? no|wait|actually|correction|scratch that|i mean|or rather|let me recount)\b", re.I
)
_FIRST_THOUGHT = re.compile(r"\b(?:at first|initially|originally|(?:i|we) (?:first )?thought)\b", re.I)
_ARTICLE = re.compile(r"(?<![^\W_])(?:an?|single)(?: [\w-]+){0,3} \Z", re.I)


@dataclass(frozen=True)
class _Count:
    """A number of the answer: `part` of some images, a `rate` for each; `class_name` where it counts one."""

    numeral: Numeral
    class_name: str | None
    part: bool
    rate: bool
    label: bool
    depth: int


def score_counting(response: str, doc: Doc) -> ScoredAnswer:
    """Counting: the number, or with k > 1 (gt as `dog: 2, car: 1`) all k numbers, exactly (METHODS 2).

    k = 1: digits or words; "none" and "no dogs" are 0. A stated total wins; a count of all images beats what
    follows as its parts ("3 dogs: 2 in the first image, 1 in the second"). Numbers that name or count images,
    number a list, belong to a class that is not in the question (`targets`) or to a compound ("three-legged")
    are no counts. Parts alone are not added up: several are ambiguous, like several different numbers.
    k > 1: `dog: 2, car: 1` in any order, `2 dogs and a car`, or exactly k numbers in the question's order.

    Raises:
        UserError: gt is neither an integer nor `class: number` pairs.
    """
    gt = str(doc["gt"])
    wanted = _pairs(gt, doc) if ":" in gt else None
    text = answer_text(response).replace("|", ":")
    number = None if wanted else _integer(gt, gt)
    failed = unreadable(text)
    if failed is not None:
        return ScoredAnswer(None, failed, 0.0, class_accuracy=0.0 if wanted else None)
    text = _without_labels(text)
    if wanted:
        return several_counts(text, doc, wanted)
    status, value = _one_count(text, doc)
    return ScoredAnswer(value, status, float(status == "parsed" and value == number))


def _one_count(text: str, doc: Doc) -> tuple[Status, int | None]:
    mentions = find_mentions(text, doc_classes(doc))
    targets = {class_key(str(name)) for name in doc.get("targets") or ()}
    plain = without_image_names(text, _spans(mentions))
    numerals = [n for n in read_numerals(plain) if not _in_a_name(n, mentions)]
    counts = [
        count
        for count in _counts(text, plain, tuple(numerals), mentions)
        if not targets or count.class_name is None or class_key(count.class_name) in targets
    ]
    counts = [c for c in counts if not c.numeral.nobody or not targets or "person" in targets]
    if not numerals:
        return ("parsed", 1) if _is_one(text, mentions, targets) else (no_answer(text), None)
    if not counts:
        return ("parsed", 1) if _is_one(text, mentions, targets) else ("unparsed", None)
    chosen = _chosen(plain, counts)
    values = {count.numeral.value for count in chosen if not count.numeral.negated}
    if not values:
        return ("negated" if chosen else "ambiguous"), None
    if len(values) > 1 or _is_a_choice(plain, counts, chosen):
        return "ambiguous", None
    (value,) = values
    return ("unparsed", None) if value is None else ("parsed", value)


def _chosen(text: str, counts: list[_Count]) -> list[_Count]:
    """The counts that state the answer: one value where it is clear."""
    counts = _corrected(text, counts)
    total = stated_total(text, tuple(count.numeral for count in counts if not count.part and not count.rate))
    if total is not None:
        return [count for count in counts if count.numeral is total]
    first = text.partition("\n")[0]
    integral = not counts[0].part and not counts[0].rate
    if integral and _is_bare(first) and counts[0].numeral.end <= len(first) and not _is_bare_list(text):
        return counts[:1]
    overall = [count for count in counts if not count.part and not count.rate]
    if overall:
        return _overall(text, overall, [count for count in counts if count.part])
    parts = [count for count in counts if count.part]
    return _sole_part(parts)


def _overall(text: str, overall: list[_Count], parts: list[_Count]) -> list[_Count]:
    """Of the counts of all images those that name their class, are outside brackets, or sum up the rest."""
    named = [count for count in overall if count.class_name is not None]
    outside = [count for count in overall if count.depth == 0]
    if len({count.class_name for count in named}) > 1:
        return overall
    chosen = named or outside or overall
    values = [count.numeral.value or 0 for count in overall]
    if (
        len({count.numeral.value for count in chosen}) > 1
        and len(values) > 2
        and any(c.isalpha() for c in text)
    ):
        if values[0] == sum(values[1:]):
            return overall[:1]
        if values[-1] == sum(values[:-1]):
            return overall[-1:]
    stated_first = parts and chosen[0].numeral.start < parts[0].numeral.start
    if (
        parts
        and not stated_first
        and (chosen[0].numeral.value or 0) < sum(p.numeral.value or 0 for p in parts)
    ):
        return [*chosen, *parts]
    return chosen


def _sole_part(parts: list[_Count]) -> list[_Count]:
    """The only part, or in a sentence the only one that is not 0; else nothing is stated of all images."""
    some = [count for count in parts if count.numeral.value != 0]
    if len(parts) == 1 or not some:
        return parts
    if len(some) == 1 and not any(count.label for count in parts):
        return some
    return []


def _counts(
    text: str, plain: str, numerals: tuple[Numeral, ...], mentions: tuple[Mention, ...]
) -> list[_Count]:
    spans = _spans(mentions)
    parts = clauses(text, image_references(text, spans), spans)
    starts = [clause.start for clause in parts]
    mention_starts = [mention.start for mention in mentions]
    counts = []
    for numeral in numerals:
        clause = clause_at(parts, starts, numeral.start)
        counts.append(
            _Count(
                numeral,
                _counted_class(plain, numeral, mentions, mention_starts),
                clause.reach in ("one", "others"),
                clause.reach == "each",
                clause.label,
                clause.depth,
            )
        )
    return counts


def _counted_class(
    text: str, numeral: Numeral, mentions: tuple[Mention, ...], starts: list[int]
) -> str | None:
    """The class that a number counts: the dog of "3 brown dogs", "dog: 3" and "dogs (3)"."""
    i = bisect_left(starts, numeral.end)
    if i < len(mentions) and _COUNTED.fullmatch(text, numeral.end, starts[i]):
        return mentions[i].class_name
    if (
        i
        and mentions[i - 1].end <= numeral.start
        and _GIVEN_TO.fullmatch(text, mentions[i - 1].end, numeral.start)
    ):
        return mentions[i - 1].class_name
    return None


def _corrected(text: str, counts: list[_Count]) -> list[_Count]:
    """Without the numbers that the answer takes back ("At first I counted 2", "4, no wait, 3")."""
    last = 0
    for match in _CORRECTION.finditer(text):
        if match.start() < counts[-1].numeral.start:
            last = match.end()
    later = [count for count in counts if count.numeral.start >= last]
    for match in _FIRST_THOUGHT.finditer(text):
        i = bisect_left(later, match.end(), key=lambda count: count.numeral.start)
        if i + 1 < len(later) and later[i].numeral.start - match.end() < 60:
            later = later[:i] + later[i + 1 :]
            break
    return later


def _is_a_choice(text: str, counts: list[_Count], chosen: list[_Count]) -> bool:
    """Does the answer leave open which of two numbers it means ("3 to 4", "3 or maybe 4")?"""
    stated = {count.numeral.start for count in chosen}
    for one, other in pairwise(counts):
        if one.numeral.value == other.numeral.value or stated.isdisjoint(
            (one.numeral.start, other.numeral.start)
        ):
            continue
        gap = (one.numeral.end, other.numeral.start)
        before = text[max(0, one.numeral.start - 10) : one.numeral.start]
        if _DIRECT_CHOICE.fullmatch(text, *gap) or _CHOICE.fullmatch(text, *gap) or _BETWEEN.search(before):
            return True
    return False


def _is_one(text: str, mentions: tuple[Mention, ...], targets: set[str]) -> bool:
    """ "A dog.": the class of the question once, in the singular, with an article."""
    matching = [mention for mention in mentions if class_key(mention.class_name) in targets]
    if len(matching) != 1 or matching[0].negated:
        return False
    word = text[matching[0].start : matching[0].end]
    several = (
        class_key(word) == class_key(plural(matching[0].class_name)) != class_key(matching[0].class_name)
    )
    return not several and bool(_ARTICLE.search(text[max(0, matching[0].start - 60) : matching[0].start]))


def _spans(mentions: tuple[Mention, ...]) -> list[tuple[int, int]]:
    return [(mention.start, mention.end) for mention in mentions]


def _in_a_name(numeral: Numeral, mentions: tuple[Mention, ...]) -> bool:
    i = bisect_left(mentions, numeral.end, key=lambda mention: mention.end)
    return i < len(mentions) and mentions[i].start <= numeral.start


def _without_labels(text: str) -> str:
    """Numbers of a list ("1. ... 2. ..."), of things ("#3") and signs of multiplication, blanked."""
    text = _TIMES.sub(lambda match: " " * len(match.group()), text)
    text = _HASH.sub(lambda match: " " * len(match.group()), text)
    numbers = list(_LIST_NUMBER.finditer(text))
    if len(numbers) < 2 or any(int(match["n"]) != i for i, match in enumerate(numbers, start=1)):
        return text
    return _LIST_NUMBER.sub(lambda match: " " * len(match.group()), text)


def _is_bare(line: str) -> bool:
    return len(line[:80].split()) <= 2 and len(read_numerals(line[:80])) == 1


def _is_bare_list(text: str) -> bool:
    """Do lines below the first give other numbers alone?"""
    first, *rest = text.split("\n")
    value = read_numerals(first)[0].value
    return any(_is_bare(line) and read_numerals(line)[0].value != value for line in rest)


def _pairs(gt: str, doc: Doc) -> dict[str, int]:
    pairs = {}
    joined = {
        f"{name}: {number}" for name in named_in(doc) for number in re.findall(r": ([0-9]+)(?:, |\Z)", gt)
    }
    for pair in split_names(gt, joined):
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
