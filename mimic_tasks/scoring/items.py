"""One answer scored both ways, in the form that a samples file holds."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from mimic_tasks.scoring.ours import ScoredAnswer, score
from mimic_tasks.task_spec import spec_of


class SampleScores(NamedTuple):
    """An answer's scores.

    Attributes:
        scored: ours in full.
        ours: the metric's item: `score`, Listing also `counts` (recalled, generated, relevant).
        official: the same by the official rules; empty where they do not apply (k > 1).
    """

    scored: ScoredAnswer
    ours: dict[str, Any]
    official: dict[str, Any]

    def record(self) -> dict[str, Any]:
        """What was read in the answer, for the sample's record."""
        return {
            "parsed": self.scored.parsed,
            "status": self.scored.status,
            "score": self.scored.score,
            "score_official": self.official.get("score"),
        }


def score_both(kind: str, response: str, doc: Mapping[str, Any]) -> SampleScores:
    """Score an answer by our rules and by the official ones.

    Args:
        kind: the task.
        response: the model's answer.
        doc: as for `score`.

    Raises:
        UserError: a gt that does not fit the kind.
    """
    spec = spec_of(kind)
    scored = score(kind, response, doc)
    ours: dict[str, Any] = {"score": scored.score}
    if spec.measure == "corpus_f1":
        ours["counts"] = (scored.recalled, scored.generated, scored.relevant)
    return SampleScores(scored, ours, spec.official(response, str(doc["gt"])) if spec.official else {})
