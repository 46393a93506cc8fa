"""What a public benchmark is: where its docs are, how one is asked, and how an answer is scored."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mimic_eval.records import INTERLEAVED

Row = Mapping[str, Any]
"""A doc in the columns of the set."""


@dataclass(frozen=True)
class Question:
    """A doc of a set.

    Attributes:
        number: the doc's identity in the set.
        sub_task: the part of the set that it belongs to.
        text: of the prompt as upstream has it, marks for images included.
        options: their texts, in the order of the letters A, B, ...; empty for an open question.
        truth: the right letter, or the text of an open question's answer; None if the set gives none.
        stored: the truth as the set has it.
    """

    number: str
    sub_task: str
    text: str
    options: tuple[str, ...]
    truth: str | None
    stored: str


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A set.

    Attributes:
        name: of the task, without ``mimic_``.
        title: for people.
        repo: dataset of the Hub.
        split: that is evaluated.
        configs: parts of the data set that the task joins; empty if it has none.
        image_column: a list of images, or the first part of the names of columns with one image each
            (``image_`` for image_1, image_2).
        one_each: `image_column` is such a first part.
        question: a doc, read.
        official: the official score of a response to a doc, within [0, 1] (METHODS 15).
        official_of: who scores so.
        overall: the part of the official overall score that a sub-task counts in, where that is an unweighted
            mean of parts; None for a sub-task outside of it. None: the mean of docs.
        open_score: our score of an answer to an open question; None: right or wrong by its words.
        measure: what our scores are: right or wrong, or shares.
        new_tokens: length limit of an answer.
        files: of a set in files of its form, what is needed of them, as patterns; else empty.
        read: the rows of such a set from its folder.
        note: what differs from upstream's task, for the docs.
    """

    name: str
    title: str
    repo: str
    split: str
    question: Callable[[Row], Question]
    official: Callable[[Row, str], float]
    official_of: str = "lmms-eval"
    configs: tuple[str, ...] = ()
    image_column: str = "images"
    one_each: bool = False
    overall: Callable[[str], str | None] | None = None
    open_score: Callable[[str, str], float] | None = None
    measure: Literal["binary", "graded"] = "binary"
    new_tokens: int = 16
    files: tuple[str, ...] = ()
    read: Callable[[Any], list[dict[str, Any]]] | None = None
    note: str = ""

    @property
    def metric(self) -> str:
        """The name of our score."""
        return "exact_match" if self.measure == "binary" else "mean_score"

    @property
    def tasks(self) -> tuple[str, str]:
        """The task in upstream's form, and the one with images at their marks."""
        return f"mimic_{self.name}", f"mimic_{self.name}{INTERLEAVED}"
