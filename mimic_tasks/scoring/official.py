"""The official release's scores, bug for bug, so that they compare with published numbers (METHODS 2.1).

Two known defects are reproduced on purpose: the filter's leading space makes the first listed item never
match, and Common / Odd-One accept any substring. Our scores are in `mimic_tasks.scoring.ours`.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from stats import F1, f1_from_counts


class OfficialCount(NamedTuple):
    """What the official parser read from a counting answer, and whether it equals gt."""

    prediction: str
    correct: bool


class ListingCounts(NamedTuple):
    """Items of one listing answer: in both, in the answer, in the ground truth."""

    recalled: int
    generated: int
    relevant: int


def official_counting(response: str, gt: str) -> OfficialCount:
    """Score a counting answer (k = 1) as the official release does (METHODS 2.1).

    `word_to_num` raises ValueError (no number word, a repeated or misplaced scale word, `isdigit`
    characters that `int` refuses such as `²`, too many digits) and IndexError (a scale word with nothing
    before it, as in "thousand two"). Nothing else came out of fuzzing it with its vocabulary, and it
    prints nothing. Both mean "not a number" here.

    Args:
        response: the model's answer, without the filter's space (it is prepended here).
        gt: the ground truth.

    Returns:
        The parsed prediction ("wrong answer" where nothing was read) and whether it equals gt.
    """
    prediction = _official_number(f" {response}")
    return OfficialCount(prediction, prediction.lower().strip() == gt.lower().strip())


def official_contains(response: str, gt: str) -> bool:
    """Score a Common or Odd-One answer: gt is a substring of the response, case ignored (METHODS 2.1)."""
    return gt.lower().strip() in f" {response}".lower().strip()


def official_listing(response: str, gt: str) -> ListingCounts:
    """Count a listing answer's items: both split on ", ", only case is normalised (METHODS 2.1).

    The response keeps the filter's space, so its first item never equals one of gt. An empty answer is
    one generated item, and repeats count.
    """
    predicted = f" {response}".lower().split(", ")
    wanted = gt.lower().split(", ")
    return ListingCounts(sum(item in predicted for item in wanted), len(predicted), len(wanted))


def official_listing_f1(counts: Iterable[ListingCounts]) -> F1:
    """Precision, recall and F1 of the counts summed over the corpus (METHODS 2.1)."""
    recalled = generated = relevant = 0
    for doc in counts:
        recalled += doc.recalled
        generated += doc.generated
        relevant += doc.relevant
    return f1_from_counts(recalled, generated, relevant)


def _official_number(response: str) -> str:
    from word2number import w2n

    for mark in ",.!?;:'":
        response = response.strip(mark)
    try:
        return str(int(response))
    except ValueError:
        pass
    try:
        return str(w2n.word_to_num(response))
    except (ValueError, IndexError):
        pass
    digits = re.search(r"\d+", response)
    return digits.group() if digits else "wrong answer"
