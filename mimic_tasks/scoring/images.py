"""Where an answer refers to images: "image 1", "the second", "each picture", "2 of the 4 images"."""

import re
from bisect import bisect_left
from collections.abc import Sequence
from typing import Literal, NamedTuple

from mimic_tasks.scoring.number_words import UNIT

Reach = Literal["one", "several", "each", "all", "others"]

IMAGE = r"(?:images?|pictures?|photos?|photographs?|pics?|imgs?|frames?|figures?|figs?|scenes?|panels?)"
_N = rf"(?:[0-9]+|{UNIT})(?![^\W_])"
_AND = r" ?(?:, ?and\b|,|\band\b|&|\bto\b|-|\u2013|\bthrough\b|\bor\b) ?"
_ORDINAL = (
    r"(?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|last|final|next|previous|leftmost|"
    r"rightmost|left|right|middle|top|bottom|[0-9]+(?:st|nd|rd|th))"
)
_WHICH = r"(?:(?:the|these|those|all|of|different|given|provided|other|remaining|separate|single|distinct) )"
_ENDS = (
    r"(?= ?(?:[,.;:)\n]|\Z)| (?:has|have|had|shows?|contains?|features?|depicts?|displays?|is|are"
    r"|and|an?|no|none|"
    rf"nothing|with|there|only|also|does|do|{_N})\b)"
)
_REFERENCES = re.compile(
    rf"(?<![^\W_])(?:"
    rf"(?P<each>(?:each|every|per)(?: single)?(?: one)?(?: of (?:the |these "
    rf"|those )?)?(?:{_N} )?(?:{IMAGE}\b|\b)|apiece\b)"
    rf"|(?P<others>(?:all )?(?:of )?(?:the )?(?:others\b|rest\b(?: of (?:the |these )?{IMAGE}\b)?"
    rf"|(?:other|remaining)(?: {_N})?(?: {IMAGE}| ones)\b))"
    rf"|(?P<all>(?:all|both)(?: of)?(?: the| these| those)?"
    rf"(?:(?: {_N})?(?: given| provided)? {IMAGE}\b)?)(?![^\W_])"
    rf"|(?P<several>{IMAGE}(?<=s) ?(?:#|numbers? )?{_N}(?:{_AND}{_N})*"
    rf"|{_ORDINAL} {_N} {IMAGE}\b"
    rf"|(?!(?:1|one)(?![^\W_])){_N}(?: out)?(?: of)? {_WHICH}{{0,4}}(?:{_N} )?{_WHICH}{{0,2}}{IMAGE}\b"
    rf"|(?:some|most|many|few|half|majority)(?: of)? (?:the |these |those )?{IMAGE}\b)"
    rf"|(?P<one>{IMAGE}[ _]?(?:no\. ?|number |nr\. ?|#)?(?:\({_N}\)|{_N})"
    rf"|{IMAGE} (?-i:[A-Z])(?![^\W_])"
    rf"|(?:the )?{_ORDINAL} (?:{IMAGE}|one)\b"
    rf"|the {_ORDINAL}{_ENDS}"
    rf"|(?:1|one)(?: (?:out )?of)? {_WHICH}{{0,4}}(?:{_N} )?{IMAGE}\b"
    rf"|(?:another|(?:the|this|that|a|an) (?:other|single|different)|this|that) (?:{IMAGE}|one)\b"
    rf"|in (?:the )?(?:one|another|other){_ENDS})"
    rf"|(?P<which>(?:the|which|other|another) one\b)"
    r")",
    re.I,
)


class Reference(NamedTuple):
    """text[start:end] refers to images: `one`, `several`, `each`, `all`, or the `others`.

    `label`: a colon, dash or equals sign follows, as in the row of a table ("Image 1: 2").
    """

    reach: Reach
    start: int
    end: int
    label: bool


def image_references(text: str, names: Sequence[tuple[int, int]] = ()) -> tuple[Reference, ...]:
    """All references to images in `text`, in reading order; `names`: spans of class names, which are none."""
    return tuple(
        Reference(
            match.lastgroup,  # type: ignore[arg-type]
            match.start(),
            match.end(),
            text[match.end() :][:3].strip()[:1] in (":", "-", "=", "|"),
        )
        for match in _REFERENCES.finditer(text)
        if match.lastgroup != "which" and not _overlaps(match, names)
    )


def without_image_names(text: str, names: Sequence[tuple[int, int]] = ()) -> str:
    """`text` with what names or counts images ("Image 1", "in 3 images") blanked, same length."""
    return _REFERENCES.sub(
        lambda match: match.group() if _overlaps(match, names) else " " * len(match.group()), text
    )


def _overlaps(match: re.Match[str], names: Sequence[tuple[int, int]]) -> bool:
    """Does a class name begin within the match, or hold its start?"""
    i = bisect_left(names, (match.end(), 0)) - 1
    return i >= 0 and names[i][1] > match.start()
