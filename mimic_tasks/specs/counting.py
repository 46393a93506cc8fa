"""Counting: how many instances of each of k classes are in all images together."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from mimic_eval.records import UserError
from mimic_tasks.planning.base import Stock
from mimic_tasks.planning.controls import Controls, Range
from mimic_tasks.planning.counting import BalancedPlanner, UnbalancedPlanner
from mimic_tasks.scoring.counting import score_counting
from mimic_tasks.scoring.official import official_counting
from mimic_tasks.sweeps.matching.base import Matcher
from mimic_tasks.sweeps.matching.counting import BalancedMatcher, UnbalancedMatcher, VariedKMatcher
from mimic_tasks.sweeps.spec import SweepCell
from mimic_tasks.task_spec import Doc, TaskSpec, outside
from mimic_tasks.verify import class_counts


def _official(response: str, gt: str) -> dict[str, Any]:
    return {} if ":" in gt else {"score": float(official_counting(response, gt).correct)}


def _matcher(stock: Stock, cells: Sequence[SweepCell]) -> Matcher:
    splits = {cell.controls.split for cell in cells}
    if len(splits) > 1:
        raise UserError("split cannot vary in a sweep: balanced docs have totals that unbalanced ones lack")
    if len({cell.controls.k for cell in cells}) > 1:
        return VariedKMatcher(stock, cells)
    return BalancedMatcher(stock, cells) if splits == {"balanced"} else UnbalancedMatcher(stock, cells)


def _verify(doc: Doc, areas: Sequence[int] | None) -> Iterator[tuple[bool, str]]:
    targets, counts = list(doc["targets"]), class_counts(doc)
    totals = {name: sum(of_image[name] for of_image in counts) for name in targets}
    yield len(targets) == doc["k"] and all(totals.values()), "each of the k classes has an instance"
    gt = ", ".join(f"{name}: {total}" for name, total in totals.items())
    yield doc["gt"] == (gt if len(targets) > 1 else str(totals[targets[0]])), "gt is the count"


def _control_faults(doc: Doc, controls: Controls) -> Iterator[str]:
    yield from outside("spread", doc["spread"], controls.spread)
    yield from outside("distractors", doc["distractors"], controls.distractors)
    yield from outside("k", doc["k"], Range(controls.k, controls.k))
    if doc["split"] not in (("balanced", "unbalanced") if controls.split == "both" else (controls.split,)):
        yield f"--split {controls.split} was requested, the doc is {doc['split']}"
    if doc["split"] == "balanced":
        yield from outside("total", sum(map(int, _numbers(doc))), controls.total)


def _truth_fault(gt: str, targets: Sequence[str]) -> str | None:
    counts = re.findall(r"(?:^|, )(?:.+?: )?([0-9]+)(?=, |$)", gt)
    form = re.fullmatch(r"[0-9]+|.+?: [0-9]+(, .+?: [0-9]+)*", gt, re.DOTALL)
    if not form or (targets and len(counts) != len(targets)):
        return "the truth of Counting is an integer, or one for each class of the question"
    return None


def _numbers(doc: Doc) -> list[str]:
    """The number of each class of the question."""
    return [part.rpartition(": ")[2] for part in doc["gt"].split(", ")]


SPEC = TaskSpec(
    name="counting",
    title="Counting",
    wordings=(
        "How many {things} are there in total across all the images? Answer with a single number.",
        "Count the {things} in all of these images together. What is the total? Answer with a number only.",
        "Looking at every image, what is the total number of {things}? Reply with one number.",
    ),
    several_wordings=(
        "How many of each of these are there in total across all the images: {classes}? Answer as {form}.",
        "Count each of the following over all the images together: {classes}. Answer as {form}.",
    ),
    asks_about="targets",
    score=score_counting,
    official=_official,
    planners=(BalancedPlanner, UnbalancedPlanner),
    matcher=_matcher,
    verify=_verify,
    control_faults=_control_faults,
    truth_fault=_truth_fault,
    names_classes=False,
    controls=("spread", "distractors", "total", "hard", "k", "split"),
    sweep_controls=("n_images", "spread", "distractors", "k", "total", "split", "hard"),
    answer_controls=("total",),
    answer_values=_numbers,
    answer_hint="A number. Several classes: class: number, separated by commas.",
)
