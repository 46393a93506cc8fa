"""Our scores: read an answer as a person would, by whole words, and say when it cannot be read (METHODS 2.1).

Only an answer with status "parsed" can be right; every other status scores 0 and counts as unparsed.
"""

from collections.abc import Callable

from mimic_eval.records import TASK_KINDS, UserError, nearest
from mimic_tasks.scoring.counting import score_counting
from mimic_tasks.scoring.listing import score_listing
from mimic_tasks.scoring.one_class import score_common, score_oddone
from mimic_tasks.scoring.scored import Doc, Scored, Status

__all__ = ["Scored", "Status", "score", "score_common", "score_counting", "score_listing", "score_oddone"]


def score(kind: str, response: str, doc: Doc) -> Scored:
    """Score one answer of a task of `kind` (one of counting, listing, common, oddone).

    Args:
        kind: the task.
        response: the model's answer, any string; reasoning in it is not read.
        doc: needs `gt` (string); `targets` and `boxes` add to the vocabulary where present.

    Raises:
        UserError: an unknown kind; a gt that does not fit the kind.
    """
    if kind not in _SCORERS:
        raise UserError(nearest("task", kind, TASK_KINDS))
    return _SCORERS[kind](response, doc)


_SCORERS: dict[str, Callable[[str, Doc], Scored]] = {
    "counting": score_counting,
    "listing": score_listing,
    "common": score_common,
    "oddone": score_oddone,
}
