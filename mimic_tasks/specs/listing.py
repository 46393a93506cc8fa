"""Listing: every class of a category that is in at least one of the images."""

from collections.abc import Iterator, Sequence
from typing import Any

from mimic_tasks.planning.controls import Controls
from mimic_tasks.planning.listing import ListingPlanner
from mimic_tasks.scoring.listing import score_listing
from mimic_tasks.scoring.official import official_listing
from mimic_tasks.sweeps.matching.listing import ListingMatcher
from mimic_tasks.task_spec import Doc, TaskSpec, outside
from stats import f1_from_counts


def _official(response: str, gt: str) -> dict[str, Any]:
    counts = official_listing(response, gt)
    return {"score": f1_from_counts(*counts).f1, "counts": tuple(counts)}


def _verify(doc: Doc, areas: Sequence[int] | None) -> Iterator[tuple[bool, str]]:
    yield doc["gt"] == ", ".join(sorted(doc["targets"])), "gt lists the targets in alphabetical order"


def _control_faults(doc: Doc, controls: Controls) -> Iterator[str]:
    yield from outside("listed", len(doc["targets"]), controls.listed)
    category = doc.get("category")
    if controls.category not in (None, category):
        yield f"--category {controls.category} was requested, the doc has {category}"


def _truth_fault(gt: str, targets: Sequence[str]) -> str | None:
    if not all(name.strip() for name in gt.split(", ")):
        return "the truth of Listing is class names with ', ' between them"
    if targets and gt != ", ".join(sorted(targets)):
        return f"it does not list the doc's targets ({', '.join(sorted(targets)):.80})"
    return None


def _category(doc: Doc) -> list[str]:
    return [doc["category"]]


def _targets(doc: Doc) -> list[str]:
    return list(doc["targets"])


SPEC = TaskSpec(
    name="listing",
    title="Listing",
    wordings=(
        'Which object classes of the category "{category}" can be seen in these images? '
        "Answer with their names only, separated by commas.",
        'List every object class of the category "{category}" that appears in at least one of the images. '
        "Give only the names, separated by commas.",
        'Looking at all the images, name all the object classes of the category "{category}" that you see. '
        "Separate the names by commas.",
    ),
    asks_about="category",
    score=score_listing,
    official=_official,
    official_frame="Question: {question}. Please provide the list of category names directly.\nAnswer:",
    measure="corpus_f1",
    new_tokens=32,
    new_tokens_per_class=0,
    planners=(ListingPlanner,),
    matcher=ListingMatcher,
    verify=_verify,
    control_faults=_control_faults,
    truth_fault=_truth_fault,
    controls=("listed", "category"),
    sweep_controls=("n_images", "spread", "distractors", "listed", "category"),
    answer_controls=("listed",),
    class_values=_category,
    answer_values=_targets,
    answer_hint="Class names, separated by commas.",
)
