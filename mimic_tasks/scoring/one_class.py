"""Common and Odd-One: the one class that an answer gives (METHODS 2.1)."""

import re
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass

from mimic_tasks.scoring.clauses import Clause, clause_at, clauses, sentences
from mimic_tasks.scoring.images import image_references
from mimic_tasks.scoring.response import answer_text
from mimic_tasks.scoring.scored import Doc, ScoredAnswer, Status, gt_names, no_answer, unreadable
from mimic_tasks.scoring.vocabulary import Mention, class_key, doc_classes, find_mentions

_THING = r"(?:object|class|classes|category|item|thing|element|one|answer|odd one)s?"
_NO_SUCH = re.compile(
    rf"\bno (?!other|more|further)(?:(?:single|one|common|shared|such|clear|obvious|odd|unique"
    rf"|particular) ){{0,3}}"
    rf"(?:object |class )?{_THING}\b|\bno (?:common|shared|odd)\b"
    r"|\bbut not in (?:all|every|each)\b"
    r"|\bnothing\b(?! (?:else|but|other))|\A\W*none\b(?! of (?:the|these|those) (?:other|rest|remaining))"
    r"|\b(?:do|does|did)(?: not|n't) (?:all )?(?:share|have (?:any |an? )?(?:\w+ ){0,3}?in common)\b"
    r"|\bnone of (?:the|these|those) (?:\w+ )?(?:are|is|appears?) (?:in|common)\b",
    re.I,
)
_ANSWER_CUE = r"\b(?:final )?answer\b ?(?:is\b|:|-|=)|\b(?:therefore|thus|hence|in conclusion)\b"
_CUE_COMMON = re.compile(
    rf"{_ANSWER_CUE}|\b(?:common|shared)(?: [\w-]+){{0,6}}? ?(?:is\b|are\b|:)|\bin common ?:?", re.I
)
_CUE_ODD = re.compile(
    rf"{_ANSWER_CUE}|\bodd(?:[ -]one)?(?:[ -]out)?(?: (?:object|class|item|thing)){{0,2}} ?(?:is\b|:)", re.I
)
_TURN = re.compile(
    r"(?<![^\W_])(?:as|unlike|instead of|rather than|compared (?:to|with)|than|except|besides|where"
    r"|vs|versus)(?![^\W_])",
    re.I,
)
_EVERYWHERE = re.compile(
    r"\b(?:all|every|each|both|throughout|common|shared?|consistently|always)\b|\b(?:most|majority"
    r"|mostly|many|more than half)\b",
    re.I,
)
_DIFFERS = re.compile(r"\b(?:different|differs|odd) from\b", re.I)
_MOSTLY = re.compile(r"\b(?:most|majority|mostly|many|more than half)\b", re.I)
_OTHERS = re.compile(
    r"\b(?:others?|rest|remaining|elsewhere)\b|\A ?(?:unlike|instead|rather|than|compared)\b", re.I
)
_FEW = re.compile(
    r"\b(?:only|just|minority|fewer|few|single|odd|unique|different|differs|one of the|less|exclusively)\b"
    r"|\bone (?:image|picture|photo)\b",
    re.I,
)
_SOME = re.compile(
    r"\b(?:some|several|few|half|minority|most|many|majority|only in|only (?:one|two|three|some"
    r"|a few|[0-9]+)|"
    r"just (?:one|two|three|[0-9]+)|all but|(?<!all )(?:one|two|three|four|five"
    r"|[0-9]+) (?:out )?of (?:the|them|these|those|all|[0-9]+|\w+ images))\b"
    r"|\b(?:missing|absent|lacking|except|none of)\b",
    re.I,
)
_NOT = re.compile(r"\b(?:not|never|neither|no|none|without)\b|n't\b", re.I)
_JOINED = re.compile(r"\A ?(?:and|or|also|plus|with|as well|/|&)\b", re.I)


@dataclass(frozen=True)
class _Named:
    """A mention and its clause; `text`: the clause without the class name."""

    mention: Mention
    clause: Clause
    text: str

    @property
    def name(self) -> str:
        return self.mention.class_name

    @property
    def of_some_images(self) -> bool:
        return self.clause.reach in ("one", "several")


def score_common(response: str, doc: Doc) -> ScoredAnswer:
    """Common: 1 where the answer gives exactly one class, and it is gt (METHODS 2.1).

    Plurals and synonyms count. What the answer denies ("no cat", "not in every image") or limits to some
    images ("Image 1 shows a dog", "dogs appear in some") is not given. Images described one by one give a
    class only if all show it alone; "no common object" gives none.

    Raises:
        UserError: gt is empty.
    """
    return _scored(response, doc, _CUE_COMMON, _common)


def score_oddone(response: str, doc: Doc) -> ScoredAnswer:
    """Odd-One: 1 where the answer gives exactly one class, and it is gt (METHODS 2.1).

    As in `score_common`, but what is about the other images, most or all ("the rest are dogs") is not
    given, and one image may hold the answer ("cat (image 2)").

    Raises:
        UserError: gt is empty.
    """
    return _scored(response, doc, _CUE_ODD, _oddone, limit=_is_odd)


def _scored(
    response: str,
    doc: Doc,
    cue: re.Pattern[str],
    given: Callable[[list[_Named]], set[str]],
    *,
    limit: Callable[[_Named], bool] = lambda one: True,
) -> ScoredAnswer:
    """Read the class that an answer gives.

    Args:
        response: the answer.
        doc: its doc.
        cue: what announces the class.
        given: the classes that an answer without an announced class gives.
        limit: which mentions after a cue count.
    """
    gt = gt_names(doc)[0]
    text = answer_text(response)
    failed = unreadable(text)
    if failed is not None:
        return ScoredAnswer(None, failed, 0.0)
    mentions = find_mentions(text, doc_classes(doc, [gt]))
    if not mentions:
        return ScoredAnswer(None, "negated" if _NO_SUCH.search(text) else no_answer(text), 0.0)
    if _NO_SUCH.search(_without(text, mentions)):
        return ScoredAnswer(None, "negated", 0.0)
    named = _named(text, mentions)
    names = (
        _after_cue(cue, text, [one for one in named if limit(one)])
        or _bare_first(text, named)
        or given(named)
    )
    if len(names) == 1:
        (name,) = names
        return ScoredAnswer(name, "parsed", float(class_key(name) == class_key(gt)))
    status: Status = "ambiguous" if names or any(not m.negated for m in mentions) else "negated"
    return ScoredAnswer(None, status, 0.0)


def _common(named: list[_Named]) -> set[str]:
    limited = {id(one) for one in named if _is_limited(one)}
    remaining = [one for one in named if not one.mention.negated and id(one) not in limited]
    everywhere = [one for one in remaining if not one.of_some_images or _EVERYWHERE.search(one.text)]
    names = _outside(everywhere)
    if len(names) > 1:
        names = _names([one for one in everywhere if _EVERYWHERE.search(one.text)]) or names
    if names:
        return names
    listed = [one for one in remaining if one.of_some_images]
    rows = {(one.clause.sentence, one.clause.start) for one in listed}
    return _names(listed) if len(rows) > 1 and len(_names(listed)) == 1 else set()


def _is_limited(one: _Named) -> bool:
    """Whether the clause limits the class to some images."""
    if _SOME.search(one.text):
        return True
    if one.clause.reach == "others":
        return True
    return bool(_NOT.search(one.text) and _EVERYWHERE.search(one.text))


def _oddone(named: list[_Named]) -> set[str]:
    remaining = [one for one in named if _is_odd(one)]
    names = _outside(remaining)
    if len(names) > 1:
        marked = _names([one for one in remaining if _FEW.search(one.text)])
        names = marked if len(marked) == 1 else names
    return names


def _is_odd(one: _Named) -> bool:
    """Whether the class is given for the odd image: not denied, and not given for the others, most or all."""
    denied = one.mention.negated or bool(_NOT.search(one.text))
    if one.clause.reach == "others" or _OTHERS.search(one.text):
        if _DIFFERS.search(one.text):
            return not denied
        return (
            denied
            and not _MOSTLY.search(one.text)
            and not re.match(r" ?(?:unlike|instead|rather|than)\b", one.text, re.I)
        )
    if _EVERYWHERE.search(one.text) and not _FEW.search(one.text):
        return denied and not one.mention.negated
    return not one.mention.negated


def _outside(named: list[_Named]) -> set[str]:
    """The classes named outside brackets; those inside where there are none, or where brackets add one."""
    outside = [one for one in named if one.clause.depth == 0 or _JOINED.match(one.text)]
    return _names(outside) or _names(named)


def _names(named: list[_Named]) -> set[str]:
    return {one.name for one in named}


def _after_cue(cue_of: re.Pattern[str], text: str, named: list[_Named]) -> set[str]:
    """The one class between the last "answer:" (or its like) and the end of its sentence, if there is one."""
    cues = list(cue_of.finditer(text))
    if not cues:
        return set()
    cue = cues[-1]
    end = next(
        (stop for _, stop in sentences(text) if stop > cue.end() and text[cue.end() : stop].strip(" .:\n")),
        None,
    )
    if end is None:
        return set()
    after = [one for one in named if cue.end() <= one.mention.start < end and not one.mention.negated]
    names = _outside(after)
    return names if len(names) == 1 else set()


def _bare_first(text: str, named: list[_Named]) -> set[str]:
    """The class of a first sentence that holds nothing but its name, unless others do so too."""
    bare = set()
    positions = [one.mention.start for one in named]
    for i, (start, end) in enumerate(sentences(text)):
        here = named[bisect_left(positions, start) : bisect_left(positions, end)]
        if len(here) == 1 and not here[0].mention.negated and _is_bare(text, start, end, here[0].mention):
            bare.add(here[0].name)
        elif i == 0:
            return set()
    return bare if len(bare) == 1 else set()


def _is_bare(text: str, start: int, end: int, mention: Mention) -> bool:
    rest = text[start : mention.start] + " " + text[mention.end : end]
    words = re.findall(r"[^\W_]+", rest[:80].lower())
    return len(rest) < 80 and all(
        word in ("a", "an", "the", "it", "is", "s") or word.isnumeric() for word in words
    )


def _named(text: str, mentions: tuple[Mention, ...]) -> list[_Named]:
    """Each mention with its clause; what is only in a question ("Is it a cat? No.") is left out."""
    spans = [(mention.start, mention.end) for mention in mentions]
    references = image_references(text, spans)
    protected = sorted([*spans, *((one.start, one.end) for one in references)])
    parts = clauses(text, references, protected, _TURN)
    starts = [clause.start for clause in parts]
    questions = [text[end - 1] == "?" for _, end in sentences(text)]
    ends = [end for _, end in sentences(text)]
    named = []
    for mention in mentions:
        if questions[bisect_left(ends, mention.end)] and not all(questions):
            continue
        clause = clause_at(parts, starts, mention.start)
        around = f"{text[clause.start : mention.start]}_{text[mention.end : clause.end]}"
        named.append(_Named(mention, clause, around))
    return named


def _without(text: str, mentions: tuple[Mention, ...]) -> str:
    """`text` with the class names cut out."""
    ends = [0, *(mention.end for mention in mentions)]
    starts = [*(mention.start for mention in mentions), len(text)]
    return "_".join(text[end:start] for end, start in zip(ends, starts, strict=True))
