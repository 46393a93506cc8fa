"""A kind of task as one frozen record, from which planning, checks, prompts and scores take their facts."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Literal

from mimic_eval.records import TASKS, Box, Positional, UserError, nearest, task_kinds

if TYPE_CHECKING:
    from mimic_tasks.planning import Controls, Range
    from mimic_tasks.planning.base import Planner, Stock
    from mimic_tasks.scoring.scored import ScoredAnswer
    from mimic_tasks.sweeps.matching.base import Matcher
    from mimic_tasks.sweeps.spec import SweepCell

Doc = Mapping[str, Any]
_METRICS = {"binary": "exact_match", "graded": "mean_score", "corpus_f1": "f1"}


def one_class_fault(gt: str, targets: Sequence[str]) -> str | None:
    """Why a truth is not the one class that is a doc's target; None if it is."""
    return None if not targets or list(targets) == [gt] else f"it is not the doc's target ({_names(targets)})"


def outside(option: str, value: int, requested: "Range | None") -> Iterator[str]:
    """What is wrong with a doc's value of a control: nothing, or one sentence."""
    if requested and not requested.low <= value <= requested.high:
        yield f"--{option} {requested} was requested, the doc has {value}"


def _no_faults(doc: Doc, controls: "Controls") -> Iterator[str]:
    return iter(())


def _answer_class(doc: Doc) -> Iterable[str]:
    return list(doc["targets"])


def _answer(doc: Doc) -> Iterable[str]:
    return [str(doc["gt"])]


@dataclass(frozen=True, kw_only=True)
class TaskSpec:
    """A kind of task (METHODS 2).

    Attributes:
        name: lower-case letters and digits: the first part of task names, paths and `task` columns.
        title: for people.
        wordings: of the question, with ``{things}`` (plural of the class), ``{category}``, ``{classes}`` and
            ``{form}`` (``class: number, ...``) as placeholders.
        several_wordings: of a question that names several classes.
        asks_about: what the question names: the target classes, their category, or nothing of the truth.
        score: our score of a response to a doc. Raises `UserError` for a gt that is not of this kind.
        official: the official release's item of (response, gt): `score`, corpus F1 also `counts`; empty where
            it does not apply. None: the release does not have this kind.
        official_frame: the official text around the question, or None for the usual frame.
        measure: what scores are: right or wrong, a share, or counts for a micro F1 over the corpus.
        further_metrics: other scores of an answer, each with a name of `mimic_eval.records.METRICS`.
        positional: how the truth follows the order of the images; None if it does not depend on it. The
            answers of such a kind are read as texts in the truth's form.
        new_tokens: length limit of an answer.
        new_tokens_per_class: tokens added for each class of the build's k beyond the first.
        new_tokens_per_image: tokens added for each image of a doc.
        planners: draw docs; several if docs come in splits, half each.
        matcher: draws matched sets for the cells of a sweep, or None if there are no sweeps of this kind.
        verify: each rule of the kind with whether a doc satisfies it. Arguments: the doc's columns, and the
            pixels of each of its pictures or None.
        control_faults: what a verified doc has that the controls do not allow, one sentence each.
        truth_fault: why gt cannot be a truth of this kind, from gt and the doc's targets; None if it can.
        names_classes: gt holds class names.
        minimum_images: fewest images of a doc.
        controls: controls of a build that concern this kind, beside `n_images`.
        sweep_controls: controls that a sweep may fix or vary.
        answer_controls: those of them that move the distribution of answers when they vary.
        class_values: the values of a doc in the histogram of classes of a sweep's balance report.
        answer_values: its values in the histogram of answers.
        answer_hint: instruction for a person who answers.
    """

    name: str
    title: str
    wordings: tuple[str, ...]
    score: "Callable[[str, Doc], ScoredAnswer]"
    planners: "tuple[type[Planner], ...]"
    verify: Callable[[Doc, Sequence[int] | None], Iterator[tuple[bool, str]]]
    several_wordings: tuple[str, ...] = ()
    asks_about: Literal["targets", "category", "nothing"] = "nothing"
    official: Callable[[str, str], dict[str, Any]] | None = None
    official_frame: str | None = None
    measure: Literal["binary", "graded", "corpus_f1"] = "binary"
    further_metrics: tuple[str, ...] = ()
    positional: Positional | None = None
    new_tokens: int = 16
    new_tokens_per_class: int = 12
    new_tokens_per_image: int = 0
    matcher: "Callable[[Stock, Sequence[SweepCell]], Matcher] | None" = None
    control_faults: "Callable[[Doc, Controls], Iterator[str]]" = _no_faults
    truth_fault: Callable[[str, Sequence[str]], str | None] = one_class_fault
    names_classes: bool = True
    minimum_images: int = 1
    controls: tuple[str, ...] = ()
    sweep_controls: tuple[str, ...] = ()
    answer_controls: tuple[str, ...] = ()
    class_values: Callable[[Doc], Iterable[str]] = _answer_class
    answer_values: Callable[[Doc], Iterable[str]] = _answer
    answer_hint: str = "One class name."

    def __post_init__(self) -> None:
        if not (self.name.isalnum() and self.name.isascii() and self.name == self.name.lower()):
            raise UserError(
                f"a task's name must be lower-case letters and digits (it is the part of a path and of a "
                f"column before '_'), got '{self.name}'"
            )

    @property
    def metric(self) -> str:
        """The name of the metric that is reported: ``exact_match``, ``mean_score`` or ``f1``."""
        return _METRICS[self.measure]

    def max_new_tokens(self, k: int = 1, images: int = 0) -> int:
        """Length limit of an answer in a build of at most `k` classes a question and `images` a doc."""
        return self.new_tokens + self.new_tokens_per_class * (k - 1) + self.new_tokens_per_image * images

    def question(self, rng: Random, *, classes: Sequence[str] = (), category: str | None = None) -> str:
        """One of the wordings, filled in.

        Args:
            rng: draws the wording.
            classes: the target classes in the order of the question, for a kind that names them.
            category: the super-category, for a kind that names it.
        """
        if self.asks_about != "targets":
            return rng.choice(self.wordings).format(category=category)
        if len(classes) == 1:
            from mimic_tasks.scoring.plurals import plural

            return rng.choice(self.wordings).format(things=plural(classes[0]))
        form = ", ".join(f"{name}: number" for name in classes)
        return rng.choice(self.several_wordings).format(classes=", ".join(classes), form=form)

    def named(self, targets: Sequence[str], category: str | None) -> tuple[str, ...]:
        """The classes or the category that a doc's question names; empty if it names neither."""
        if self.asks_about == "targets":
            return tuple(targets)
        return (category,) if self.asks_about == "category" and category else ()

    def relevant_boxes(self, boxes: Sequence[Box], targets: Sequence[str]) -> tuple[Box, ...]:
        """The boxes of one image that the question is about; all where it names nothing (METHODS 7)."""
        if self.asks_about == "targets":
            return tuple(box for box in boxes if box["class"] in targets)
        return tuple(box for box in boxes if self.asks_about == "nothing" or box["target"])


def spec_of(kind: str) -> TaskSpec:
    """The record of a kind of task.

    Raises:
        UserError: an unknown kind, with the nearest known one; a package's entry that is no such record.
    """
    if kind not in TASKS:
        raise UserError(nearest("task", kind, task_kinds()))
    spec = TASKS.get(kind)
    if not isinstance(spec, TaskSpec) or spec.name != kind:
        raise UserError(f"task '{kind}' must be a TaskSpec with name='{kind}', got {spec!r:.60}")
    return spec


def _names(targets: Sequence[str]) -> str:
    return f"{', '.join(targets):.80}"
