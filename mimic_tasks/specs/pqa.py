"""PQA: is a class in each of the images? One entry for each, in their order (METHODS 16.1)."""

from collections.abc import Iterator, Sequence

from mimic_eval.records import UserError
from mimic_tasks.planning.controls import Controls
from mimic_tasks.planning.presence import PqaPlanner
from mimic_tasks.scoring.positions import PQA, UNREAD, entries_of
from mimic_tasks.scoring.pqa import score_pqa
from mimic_tasks.sweeps.matching.presence import PqaMatcher
from mimic_tasks.task_spec import Doc, TaskSpec, outside
from mimic_tasks.verify import class_counts


def _verify(doc: Doc, areas: Sequence[int] | None) -> Iterator[tuple[bool, str]]:
    (target,) = doc["targets"]
    entries = ["yes" if target in counts else "no" for counts in class_counts(doc)]
    yield doc["gt"] == ", ".join(entries), "gt says of each image whether it has a box of the class"


def _control_faults(doc: Doc, controls: Controls) -> Iterator[str]:
    yield from outside("spread", doc["spread"], controls.spread)
    yield from outside("distractors", doc["distractors"], controls.distractors)


def _truth_fault(gt: str, targets: Sequence[str]) -> str | None:
    try:
        unread = UNREAD in entries_of(gt)
    except UserError:
        unread = True
    return "the truth of PQA is yes or no for each image, with ', ' between them" if unread else None


def _entries(doc: Doc) -> list[str]:
    return entries_of(doc["gt"])


SPEC = TaskSpec(
    name="pqa",
    title="PQA",
    wordings=(
        "Does each image show any {things}? Answer yes or no for each image, in order, separated by commas.",
        "For each of the images in turn: are there any {things} in it? "
        "Give one yes or no per image, separated by commas.",
        "Go through the images in order and say whether any {things} can be seen. "
        "Answer with a list of yes or no, one entry for each image.",
    ),
    asks_about="targets",
    score=score_pqa,
    measure="graded",
    further_metrics=("exact_list",),
    positional=PQA,
    new_tokens_per_class=0,
    new_tokens_per_image=8,
    planners=(PqaPlanner,),
    matcher=PqaMatcher,
    verify=_verify,
    control_faults=_control_faults,
    truth_fault=_truth_fault,
    names_classes=False,
    minimum_images=2,
    controls=("spread", "distractors", "hard"),
    sweep_controls=("n_images", "hard"),
    answer_values=_entries,
    answer_hint="yes or no for each image, separated by commas.",
)
