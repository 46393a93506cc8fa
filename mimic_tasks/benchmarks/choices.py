"""Our reading of an answer: a letter anywhere if it is unambiguous, or an option's text (METHODS 15)."""

import re
import string
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mimic_eval.records import without_marks

LETTERS = string.ascii_uppercase
_OPTION = re.compile(r"^[ \t]*\(?([A-Z])(?:[.:)]|\)[.:]?)[ \t]*(.*?)[ \t]*$", re.MULTILINE)
_FINAL = re.compile(r"final answer(?: is)?\s*[:\-]?|answer\s*(?:is|:)\s*[:\-]?", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:,\d{3})*(?:\.\d+)?(?![\w])")
_ARTICLES = re.compile(r"\b(?:a|an|the)\b ?")
_NEGATION = re.compile(r"\b(?:not|no|never|neither|none|cannot)\b|n't\b")
_MOST_EXTRA_WORDS = 8
_NO_WORD = r"(?!(?<=A) (?!(?:and|or|is|because|as|since)\b)[a-z])(?!(?<=I) [a-z'])"
"""Not the article of "A dog", nor the pronoun of "I see"."""


class Read(NamedTuple):
    """What an answer says: a letter or a text, or None if it cannot be read; and how that was seen."""

    value: str | None
    status: str


def options_in(text: str) -> tuple[str, ...]:
    """The options that a text lists line by line as ``A. cat``, ``(A) cat`` or ``A: cat``; empty if none.

    The last complete list counts: lines A, B, C ... in this order.
    """
    return tuple(match[2] for match in _listed(text))


def option_spans(text: str, count: int) -> list[tuple[int, int]] | None:
    """Where the texts of a list of `count` options are; None if there is no such list."""
    listed = _listed(text)
    return [match.span(2) for match in listed] if len(listed) == count and count else None


def _listed(text: str) -> list[re.Match[str]]:
    best: list[re.Match[str]] = []
    current: list[re.Match[str]] = []
    for match in _OPTION.finditer(text):
        if match[1] == "A":
            current = []
        if match[1] != LETTERS[len(current)]:
            continue
        current.append(match)
        if len(current) > 1:
            best = current
    return best


def read_choice(response: str, options: Sequence[str]) -> Read:
    """The letter that an answer chooses.

    A statement (``the answer is (B)``) counts before a letter in brackets or at the start of a line, that
    before a letter alone, and that before an option's text. In each step there must be one letter only, else
    the answer is ambiguous. The words A and I in a sentence are no letters.

    Args:
        response: the model's.
        options: their texts, at most 26.
    """
    valid = LETTERS[: len(options)]
    text = response.strip().strip("*_`\"' \n")
    if not text:
        return Read(None, "empty")
    alone = re.fullmatch(r"(?:(?:option|choice)\s+)?[(\[]?([A-Za-z])[)\].:,]*", text, re.IGNORECASE)
    if alone and alone[1].upper() in valid:
        return Read(alone[1].upper(), "letter")
    stated = rf"(?:answer|option|choice)s?\s*(?:is|:|would be)?\s*[:\-]?\s*[*_\"'(\[]*([{valid}])\b(?!['\w])"
    patterns = (
        rf"(?i:(?:final|correct|right) ){stated.replace('answer', '(?i:answer)', 1)}",
        stated.replace("answer", "(?i:answer)", 1),
        rf"[(\[]([{valid}])[)\]]|^\s*[*_]*([{valid}])[.:)]",
        rf"(?<![\w'])([{valid}])(?![\w']){_NO_WORD}",
    )
    for pattern in patterns:
        letters = _distinct(
            "".join(groups) if isinstance(groups, tuple) else groups
            for groups in re.findall(pattern, text, re.MULTILINE)
        )
        if len(letters) == 1:
            return Read(letters[0], "letter")
        if len(letters) > 1:
            return Read(None, "ambiguous")
    return _by_text(text, options)


def _by_text(text: str, options: Sequence[str]) -> Read:
    answer = normalised(text)
    known = [normalised(without_marks(option)) for option in options]  # an image has no text
    if answer in known and known.count(answer) == 1:
        return Read(LETTERS[known.index(answer)], "option text")
    named = [i for i, option in enumerate(known) if option and _contains(answer, option)]
    named = [i for i in named if not any(i != j and _contains(known[j], known[i]) for j in named)]
    if len(named) == 1 and not _NEGATION.search(answer.replace(known[named[0]], "")):
        return Read(LETTERS[named[0]], "option text")
    return Read(None, "ambiguous" if len(named) > 1 else "unparsed")


def read_open(response: str, truth: str) -> Read:
    """What an answer to an open question says, to be compared with the truth in the same form.

    After ``Final answer:`` or ``answer is`` only what follows counts. A number is the only one in the answer.
    Any other truth must be the answer, or stand in it as whole words among few others without a negation.

    Returns:
        The truth's form if the answer is right.
    """
    answer = normalised(_FINAL.split(response)[-1])
    want = normalised(truth)
    if not answer:
        return Read(None, "empty")
    if _NUMBER.fullmatch(truth.strip()):
        numbers = _distinct(f"{float(n.replace(',', '')):g}" for n in _NUMBER.findall(answer))
        if len(numbers) != 1:
            return Read(None, "ambiguous" if numbers else "unparsed")
        return Read(numbers[0], "number")
    few = len(answer.split()) <= len(want.split()) + _MOST_EXTRA_WORDS
    if answer != want and few and _contains(answer, want) and not _NEGATION.search(answer.replace(want, "")):
        return Read(want, "within the answer")
    return Read(answer, "text")


def open_truth(truth: str) -> str:
    """An open question's truth in the form of `read_open`."""
    number = _NUMBER.fullmatch(truth.strip())
    return f"{float(number[0].replace(',', '')):g}" if number else normalised(truth)


def normalised(text: str) -> str:
    """Lower case, without articles, punctuation at the ends, and repeated spaces."""
    plain = " ".join(text.lower().split())
    plain = _ARTICLES.sub("", plain) or plain
    return plain.strip(string.punctuation + " ") or plain.strip()


def _contains(text: str, words: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(words)}(?!\w)", text) is not None


def _distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))
