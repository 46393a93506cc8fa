"""What every reader of answers returns, and what they share."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mimic_eval.records import UserError
from mimic_tasks.scoring.vocabulary import Mention, class_key, named_in, split_names

Status = Literal["parsed", "empty", "refused", "unparsed", "ambiguous", "negated"]
Parsed = int | str | tuple[str, ...] | dict[str, int] | None
Doc = Mapping[str, Any]


@dataclass(frozen=True)
class ScoredAnswer:
    """What one answer was read as, and its score.

    `parsed`: the normalised answer: an int (Counting, k = 1), {class: number} (k > 1; also the part that
    could be read of an answer that is not parsed), a class name (Common, Odd-One), class names in
    alphabetical order (Listing; items that are no class by their text), an answer in the truth's form (kinds
    with positional answers); else None.
    `score`: within [0, 1]. `class_accuracy`: share of right classes, Counting with k > 1 only.
    `recalled`, `generated`, `relevant`: Listing only, for the corpus micro F1.
    `further`: scores by the names of `TaskSpec.further_metrics`. `position_scores`: of a kind with positional
    answers, the score at each image's position, None where nothing is asked.
    """

    parsed: Parsed
    status: Status
    score: float
    class_accuracy: float | None = None
    recalled: int | None = None
    generated: int | None = None
    relevant: int | None = None
    further: Mapping[str, float] = field(default_factory=dict)
    position_scores: tuple[float | None, ...] | None = None


_CANNOT = (
    r"(?:cannot|can not|can't|could not|couldn't|am unable to|am not able to|'m unable to|'m not able to|"
    r"are unable to|won't|will not)"
)
_REFUSAL = re.compile(
    rf"\b(?:i|we) ?(?:(?:am|'m) sorry,? (?:but )?(?:i|we) ?)?{_CANNOT} (?:\w+ )?"
    r"(?:tell|determine|say|answer|identify|provide|help|assist|know|count|process|view|access|recogni[sz]e|"
    r"see (?:(?:the|any|these|those|your|an?|this) )?(?:images?|pictures?|photos?))\b"
    r"|\b(?:i|we) (?:do not|don't|dont) (?:really )?know\b|\b(?:i|we) have no idea\b"
    r"|\bas an ai\b|\bi apologi[sz]e\b|\b(?:it is|it's) (?:not possible|impossible) to\b"
    rf"|\A\W*(?:(?:i am|i'm) )?(?:very |so )?sorry\b|\A\W*(?:{_CANNOT}|unable to|not able to)\b"
    r"|\A\W*(?:don't know|dont know|no idea|idk|unknown|n/a)\W*\Z",
    re.I,
)
_LONGEST = 100_000
_HEDGE = re.compile(
    r"\b(?:not sure|unsure|unclear|unknown|not certain|(?:hard|difficult) to (?:say|tell)|"
    r"(?:cannot|can't) be determined)\b",
    re.I,
)


def unreadable(text: str) -> Status | None:
    """Why an answer is not read: "empty", "refused", or "unparsed" beyond 100,000 characters; else None."""
    if not text:
        return "empty"
    if len(text) > _LONGEST:
        return "unparsed"
    return "refused" if _REFUSAL.search(text) else None


def no_answer(text: str) -> Status:
    """Why a text without an answer has none: "refused" where it says that it does not know."""
    return "refused" if _HEDGE.search(text) else "unparsed"


def affirmed(mentions: Iterable[Mention]) -> set[str]:
    """The classes that are named and not denied."""
    return {mention.class_name for mention in mentions if not mention.negated}


def gt_names(doc: Doc) -> list[str]:
    """The class names of a gt joined by `, `.

    Raises:
        UserError: it names none.
    """
    names = [name.strip() for name in split_names(str(doc["gt"]), named_in(doc)) if class_key(name)]
    if not names:
        raise UserError(f"gt must name a class, got {doc['gt']!r}")
    return names
