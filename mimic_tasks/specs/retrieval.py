"""Retrieval by position: which of the images shows a class that one of them has (METHODS 16.1)."""

from collections.abc import Iterator, Sequence

from mimic_eval.records import UserError
from mimic_tasks.planning.controls import Controls
from mimic_tasks.planning.presence import RetrievalPlanner
from mimic_tasks.scoring.positions import RETRIEVAL, image_of
from mimic_tasks.scoring.retrieval import score_retrieval
from mimic_tasks.sweeps.matching.presence import RetrievalMatcher
from mimic_tasks.task_spec import Doc, TaskSpec, outside
from mimic_tasks.verify import class_counts


def _verify(doc: Doc, areas: Sequence[int] | None) -> Iterator[tuple[bool, str]]:
    (target,) = doc["targets"]
    numbers = [str(i) for i, counts in enumerate(class_counts(doc), start=1) if target in counts]
    yield numbers == [doc["gt"]], "gt is the number of the one image with a box of the class"


def _control_faults(doc: Doc, controls: Controls) -> Iterator[str]:
    yield from outside("distractors", doc["distractors"], controls.distractors)


def _truth_fault(gt: str, targets: Sequence[str]) -> str | None:
    try:
        image_of(gt)
    except UserError:
        return "the truth of Retrieval is the number of an image, from 1"
    return None


SPEC = TaskSpec(
    name="retrieval",
    title="Retrieval",
    wordings=(
        "Only one of these images shows any {things}. Which one? Answer with its number, counting from 1.",
        "In which image are there any {things}? Exactly one has them. "
        "Give the number of that image; the first image is number 1.",
        "Find the one image with any {things} in it. "
        "Reply with its position among the images: 1 is the first.",
    ),
    asks_about="targets",
    score=score_retrieval,
    positional=RETRIEVAL,
    new_tokens_per_class=0,
    planners=(RetrievalPlanner,),
    matcher=RetrievalMatcher,
    verify=_verify,
    control_faults=_control_faults,
    truth_fault=_truth_fault,
    names_classes=False,
    minimum_images=2,
    controls=("distractors", "hard"),
    sweep_controls=("n_images", "hard"),
    answer_controls=("n_images",),
    answer_hint="The number of an image, from 1.",
)
