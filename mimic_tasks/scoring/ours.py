"""Our scores: read an answer as a person would, by full words, and say when it cannot be read (METHODS 2.1).

Only an answer with status "parsed" can be right; every other status scores 0 and counts as unparsed.
"""

from mimic_tasks.scoring.counting import score_counting
from mimic_tasks.scoring.listing import score_listing
from mimic_tasks.scoring.one_class import score_common, score_oddone
from mimic_tasks.scoring.scored import Doc, ScoredAnswer, Status
from mimic_tasks.task_spec import spec_of

__all__ = [
    "ScoredAnswer",
    "Status",
    "score",
    "score_common",
    "score_counting",
    "score_listing",
    "score_oddone",
]


def score(kind: str, response: str, doc: Doc) -> ScoredAnswer:
    """Score one answer of a task of `kind`.

    Args:
        kind: the task.
        response: the model's answer, any string; reasoning in it is not read.
        doc: needs `gt` (string); `targets` and `boxes` add to the vocabulary where present.

    Raises:
        UserError: an unknown kind; a gt that does not fit the kind.
    """
    return spec_of(kind).score(response, doc)
