"""Answers that name images by their position: their truths in another order of the images (METHODS 16.1).

The truth of PQA is ``yes`` or ``no`` for each image (``no, yes, no``), that of Retrieval the number of an
image, counted from 1.
"""

import re
from collections import defaultdict
from collections.abc import Sequence

from mimic_eval.records import Positional, UserError

UNREAD = "?"
"""The entry of an image for which an answer of PQA gives none."""

_ENTRIES = re.compile(rf"(?:yes|no|\{UNREAD})(?:, (?:yes|no|\{UNREAD}))*")


def entries_of(answer: str) -> list[str]:
    """The entry of each image of an answer of PQA in the truth's form.

    Raises:
        UserError: it is in another form.
    """
    if not _ENTRIES.fullmatch(answer):
        raise UserError(f"an answer of PQA is yes or no for each image, as in 'yes, no', got {answer!r:.60}")
    return answer.split(", ")


def image_of(answer: str) -> int:
    """The image, from 0, that an answer of Retrieval in the truth's form names.

    Raises:
        UserError: it is in another form.
    """
    if not re.fullmatch("[1-9][0-9]{0,3}", answer):
        raise UserError(f"an answer of Retrieval is the number of an image, from 1, got {answer!r:.60}")
    return int(answer) - 1


def _entries_in_order(answer: str, order: Sequence[int]) -> str:
    entries = entries_of(answer)
    _check(answer, len(entries) == len(order), order)
    return ", ".join(entries[image] for image in order)


def _yes_positions(answer: str) -> tuple[int, ...]:
    return tuple(i for i, entry in enumerate(entries_of(answer)) if entry == "yes")


def _constant_entries(docs: Sequence[Sequence[str]]) -> float:
    """The most frequent entry at each position of docs of each number of images."""
    shares: defaultdict[tuple[int, int], dict[str, float]] = defaultdict(lambda: {"yes": 0.0, "no": 0.0})
    for truths in docs:
        for truth in truths:
            entries = entries_of(truth)
            for position, entry in enumerate(entries):
                shares[len(entries), position][entry] += 1 / len(truths)
    return sum(max(of_entry.values()) / n for (n, _), of_entry in shares.items()) / len(docs)


def _image_in_order(answer: str, order: Sequence[int]) -> str:
    image = image_of(answer)
    _check(answer, image < len(order), order)
    return str(list(order).index(image) + 1)


def _named_image(answer: str) -> tuple[int, ...]:
    return (image_of(answer),)


def _constant_image(docs: Sequence[Sequence[str]]) -> float:
    """The most frequent number."""
    shares: defaultdict[str, float] = defaultdict(float)
    for truths in docs:
        for truth in truths:
            shares[truth] += 1 / len(truths)
    return max(shares.values()) / len(docs)


def _check(answer: str, fits: bool, order: Sequence[int]) -> None:
    if not fits:
        raise UserError(f"the answer {answer!r:.60} does not go with {len(order)} images")


PQA = Positional(in_order=_entries_in_order, named=_yes_positions, constant=_constant_entries)
RETRIEVAL = Positional(in_order=_image_in_order, named=_named_image, constant=_constant_image)
