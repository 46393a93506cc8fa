"""Odd-One: the one class that is in a minority of the images only."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from mimic_eval.records import Box
from mimic_tasks.planning.controls import Controls
from mimic_tasks.planning.oddone import OddOnePlanner
from mimic_tasks.scoring.official import official_contains
from mimic_tasks.scoring.one_class import score_oddone
from mimic_tasks.sweeps.matching.presence import OddOneMatcher
from mimic_tasks.task_spec import Doc, TaskSpec, outside
from mimic_tasks.verify import class_counts, confusable_faults


def _official(response: str, gt: str) -> dict[str, Any]:
    return {"score": float(official_contains(response, gt))}


def _verify(doc: Doc, areas: Sequence[int] | None) -> Iterator[tuple[bool, str]]:
    n = doc["n_images"]
    images_with = Counter(name for counts in class_counts(doc) for name in counts)
    yield 2 * images_with[doc["gt"]] < n, "the answer is in fewer than half of the images"
    for threshold, seen in _seen_at_thresholds(doc["boxes"], areas):
        count = Counter(name for names in seen for name in names)
        rare = [name for name in count if 2 * count[name] <= n]
        yield (
            rare == [doc["gt"]] == list(doc["targets"]),
            f"only the answer is in half of the images or fewer{threshold}",
        )


def _seen_at_thresholds(
    images: Sequence[Sequence[Box]], areas: Sequence[int] | None
) -> Iterator[tuple[str, list[set[str]]]]:
    """The classes of each picture at each threshold of METHODS 2, with its name for a message."""
    yield "", [{box["class"] for box in boxes} for boxes in images]
    yield " (from 5 % of the picture)", [{b["class"] for b in boxes if not b["small"]} for boxes in images]
    if areas is not None:
        yield (
            " (from 1 % of the picture)",
            [
                {b["class"] for b in boxes if 100 * b["width"] * b["height"] >= area}
                for boxes, area in zip(images, areas, strict=True)
            ],
        )


def _control_faults(doc: Doc, controls: Controls) -> Iterator[str]:
    yield from outside("minority", doc["spread"], controls.minority)
    yield from confusable_faults(doc, controls)


SPEC = TaskSpec(
    name="oddone",
    title="Odd-One",
    wordings=(
        "Which object class is present in only a minority of these images, while every other object class is "
        "in most of them? Answer with its name only.",
        "One object class appears in fewer than half of the images, the others in more than half. Which one? "
        "Answer with its name only.",
        "Name the odd one out: the object class that only a minority of the images show. Give only the name.",
    ),
    score=score_oddone,
    official=_official,
    planners=(OddOnePlanner,),
    matcher=OddOneMatcher,
    verify=_verify,
    control_faults=_control_faults,
    minimum_images=3,
    controls=("minority", "confusable"),
    sweep_controls=("n_images", "minority", "confusable"),
)
