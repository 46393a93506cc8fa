"""An answer cut into sentences and clauses, and the images that each clause is about."""

import re
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from mimic_tasks.scoring.images import Reach, Reference

_SENTENCE = re.compile(r"[.!?]+(?=\s|\Z)|[;\n]")
_CLAUSE = re.compile(
    r"[.!?]+(?=\s|\Z)|[;\n]|:|[()]|,(?![0-9])| [-\u2013\u2014]+ |[\u2014]"
    r"|(?<![^\W_])(?:and|while|whereas|but|because|since|although|though)(?![^\W_])",
    re.I,
)


_SUM = re.compile(r"\b(?:total|sum|altogether|overall)\b", re.I)


class Clause(NamedTuple):
    """text[start:end], with the images that it is about.

    `reach`: which images it is about, None if none; `label`: it is a row of a table ("Image 1: 2").
    `depth`: how many brackets it is in. `sentence`: the number of its sentence.
    """

    start: int
    end: int
    reach: Reach | None
    label: bool
    depth: int
    sentence: int


def sentences(text: str) -> list[tuple[int, int]]:
    """(start, end) of each sentence or line."""
    ends = [match.end() for match in _SENTENCE.finditer(text)]
    starts = [0, *ends]
    return [
        (start, end) for start, end in zip(starts, [*ends, len(text)], strict=True) if text[start:end].strip()
    ]


def clauses(
    text: str,
    references: tuple[Reference, ...],
    protected: Sequence[tuple[int, int]] = (),
    turn: re.Pattern[str] | None = None,
) -> list[Clause]:
    """The clauses of `text`; a clause that only names images lends them to the rest of its sentence.

    Args:
        text: the answer.
        references: as from `image_references`.
        protected: spans (class names, names of images) that are not cut, by start.
        turn: further words that begin a clause.
    """
    starts = [start for start, _ in protected]
    result: list[Clause] = []
    position = number = depth = index = 0
    lent: Reference | None = None
    cuts = sorted(
        [*_CLAUSE.finditer(text), *(turn.finditer(text) if turn else ())], key=lambda cut: cut.start()
    )
    for match in [*cuts, None]:
        end = match.start() if match else len(text)
        if match:
            inside = bisect_right(starts, match.start()) - 1
            if inside >= 0 and match.start() < protected[inside][1]:
                continue
        here: list[Reference] = []
        while index < len(references) and references[index].start < end:
            here.append(references[index])
            index += 1
        strongest = _strongest(here)
        if match and match.group() == ":" and strongest and here[-1].end >= end - 2:
            lent = strongest
        else:
            if _SUM.search(text, position, end):
                lent = None
            used = strongest or lent
            result.append(
                Clause(position, end, used.reach if used else None, bool(used and used.label), depth, number)
            )
            if strongest:
                lent = strongest if _only_names(text[position:end], here, position) else None
        if match:
            depth += {"(": 1, ")": -1}.get(match.group(), 0)
            depth = max(depth, 0)
            lent = None if match.group() == ")" else lent
            if match.group()[0] in ".!?;\n":
                number, lent = number + 1, None
            position = match.start() if match.group()[0].isalpha() else match.end()
    return result


def clause_at(parts: list[Clause], starts: list[int], position: int) -> Clause:
    """The clause that holds text[position]; `starts` are the clauses' starts."""
    return parts[max(bisect_right(starts, position) - 1, 0)]


def _strongest(references: list[Reference]) -> Reference | None:
    """What a clause with several references is about: each before others before one before several."""
    for reach in ("each", "others", "one", "several", "all"):
        for reference in references:
            if reference.reach == reach:
                return reference
    return None


def _only_names(clause: str, references: list[Reference], position: int) -> bool:
    """Does the clause hold at most two words beside the names of images ("In image 1")?"""
    ends = [0, *(reference.end - position for reference in references)]
    starts = [*(reference.start - position for reference in references), len(clause)]
    left = " ".join(clause[end:start] for end, start in zip(ends, starts, strict=True))
    return len(re.findall(r"[^\W_]+", left[:200])) <= 2
