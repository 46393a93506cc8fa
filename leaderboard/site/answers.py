"""What a run answered to a doc: a row of the files of answers."""

from typing import NamedTuple


class DocAnswer(NamedTuple):
    """The answer of a run to a doc in one image order.

    Attributes:
        doc: the doc's key: its hash (of its first order), and its number where several docs are equal.
        order: number of the image order, 0 for the only one.
        status: how the answer was read; ``unscored`` if there is none.
        score: ours, within [0, 1], or None if unscored.
        official: by the official rules, or None if they give no score.
        response: the raw answer, cut; the reason if unscored.
        answer: normalised, as flips compare it.
        counts: of Listing: recalled, generated, relevant; unscored: none recalled of none generated.
        matched_set: of a sweep, the doc's matched set.
    """

    doc: str
    order: int
    status: str
    score: float | None
    official: float | None
    response: str
    answer: str
    counts: list[int] | None
    matched_set: int | None = None
