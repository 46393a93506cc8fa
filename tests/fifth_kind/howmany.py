"""A throw-away kind of task: in how many of the images is there a dog? Scored by how near the number is."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from mimic_tasks.planning import PlannedDoc
from mimic_tasks.planning.counting import UnbalancedPlanner
from mimic_tasks.scoring import ScoredAnswer
from mimic_tasks.task_spec import TaskSpec


class HowManyPlanner(UnbalancedPlanner):
    """Docs of Counting whose truth is the number of images."""

    kind = "howmany"
    split = None

    def make(
        self, targets: tuple[int, ...], positive: list[int], distractors: list[int], rng: Random
    ) -> PlannedDoc:
        return replace(super().make(targets, positive, distractors, rng), gt=str(len(positive)))


def score(response: str, doc: Mapping[str, Any]) -> ScoredAnswer:
    numbers = re.findall("[0-9]+", response)
    if not numbers:
        return ScoredAnswer(None, "unparsed", 0.0)
    distance = abs(int(numbers[0]) - int(doc["gt"])) / (doc.get("n_images") or 1)
    return ScoredAnswer(int(numbers[0]), "parsed", max(0.0, 1.0 - distance))


def verify(doc: Mapping[str, Any], areas: Sequence[int] | None) -> Iterator[tuple[bool, str]]:
    yield doc["gt"] == str(doc["spread"]), "gt is the number of images with a target"


SPEC = TaskSpec(
    name="howmany",
    title="How-Many",
    wordings=("In how many of the images is there at least one of the {things}? Answer with a number.",),
    asks_about="targets",
    score=score,
    measure="graded",
    new_tokens=8,
    planners=(HowManyPlanner,),
    verify=verify,
    truth_fault=lambda gt, targets: None if gt.isdecimal() else "the truth is a number of images",
    names_classes=False,
    answer_hint="A number.",
)
