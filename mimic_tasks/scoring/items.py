"""One answer scored both ways, in the form that a samples file holds."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from mimic_tasks.scoring.official import official_contains, official_counting, official_listing
from mimic_tasks.scoring.ours import Scored, score
from stats import f1_from_counts


class SampleScores(NamedTuple):
    """An answer's scores.

    Attributes:
        scored: ours in full.
        ours: the metric's item: `score`, Listing also `counts` (recalled, generated, relevant).
        official: the same by the official rules; empty where they do not apply (k > 1).
    """

    scored: Scored
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
    scored, gt = score(kind, response, doc), str(doc["gt"])
    if kind == "listing":
        official = official_listing(response, gt)
        f1 = f1_from_counts(*official).f1
        counts = (scored.recalled, scored.generated, scored.relevant)
        return SampleScores(
            scored,
            {"score": scored.score, "counts": counts},
            {"score": f1, "counts": tuple(official)},
        )
    if kind == "counting":
        several = ":" in gt
        right = {} if several else {"score": float(official_counting(response, gt).correct)}
    else:
        right = {"score": float(official_contains(response, gt))}
    return SampleScores(scored, {"score": scored.score}, right)
