"""Common: the one class that is in every image."""

from collections.abc import Iterator, Sequence
from typing import Any

from mimic_tasks.planning.common import CommonPlanner
from mimic_tasks.scoring.official import official_contains
from mimic_tasks.scoring.one_class import score_common
from mimic_tasks.sweeps.matching.presence import CommonMatcher
from mimic_tasks.task_spec import Doc, TaskSpec
from mimic_tasks.verify import class_counts, confusable_faults


def _official(response: str, gt: str) -> dict[str, Any]:
    return {"score": float(official_contains(response, gt))}


def _verify(doc: Doc, areas: Sequence[int] | None) -> Iterator[tuple[bool, str]]:
    counts = class_counts(doc)
    everywhere = [name for name in counts[0] if all(name in of_image for of_image in counts)]
    yield everywhere == [doc["gt"]] == list(doc["targets"]), "exactly one class is in every image"


SPEC = TaskSpec(
    name="common",
    title="Common",
    wordings=(
        "Which object class is present in every one of these images? Answer with its name only.",
        "One object class appears in all of the images. Which one? Answer with its name only.",
        "Name the object class that all of these images have in common. Give only the name.",
    ),
    score=score_common,
    official=_official,
    planners=(CommonPlanner,),
    matcher=CommonMatcher,
    verify=_verify,
    control_faults=confusable_faults,
    minimum_images=2,
    controls=("confusable",),
    sweep_controls=("n_images", "confusable"),
)
