"""The docs of a task as the samples of runs describe them, and what follows from the docs alone."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from leaderboard.pairing import Doc, order_of
from leaderboard.site.store import json_text
from leaderboard.site.texts import printable

CONTROLS = {"n_images": "N", "spread": "s", "distractors": "d", "k": "k", "cell": "cell"}
"""The columns that a score is drawn against, and their short names (METHODS 1)."""

LONGEST = 400
"""Characters of an answer or a question that a page shows."""

Key = tuple[str, int]


class DocFacts(NamedTuple):
    """A doc as described by a run's samples; `orders` holds the order of images of each answer."""

    doc: str
    number: int
    kind: str
    question: str
    gt: str
    controls: dict[str, str]
    image_ids: list[str]
    orders: list[list[int]]


class TaskDocs:
    """The docs of a task.

    Attributes:
        facts: of each doc.

    Args:
        docs: what a run did with each, by `leaderboard.pairing.docs_of`.
    """

    def __init__(self, docs: Mapping[Key, Doc]) -> None:
        self.facts = [_facts(key, doc) for key, doc in docs.items()]
        self._constants: dict[Any, float | None] = {}

    @cached_property
    def digest(self) -> str:
        """Names them by what they are."""
        return hashlib.sha256(json_text(self.facts).encode()).hexdigest()[:32]

    @cached_property
    def identity(self) -> str:
        """Each doc with its orders, as JSON: what runs on the same docs have in common."""
        return json.dumps(sorted([one.doc, one.orders] for one in self.facts))

    @cached_property
    def groups(self) -> dict[str, dict[str, npt.NDArray[np.int64]]]:
        """By control and value, the numbers of the docs in `facts`; values in the order of `in_order`."""
        groups: dict[str, dict[str, list[int]]] = {name: {} for name in CONTROLS}
        for i, one in enumerate(self.facts):
            for name, value in one.controls.items():
                groups[name].setdefault(value, []).append(i)
        return {name: {value: np.array(of[value]) for value in in_order(of)} for name, of in groups.items()}

    def constant(self, key: Any, made: Callable[[], float | None]) -> float | None:
        """What the best constant answer scores.

        Args:
            key: all but the docs that it depends on.
            made: computes it.
        """
        if key not in self._constants:
            self._constants[key] = made()
        return self._constants[key]


class SeenDocs:
    """Docs that were described before: runs of a task on the same docs have one `TaskDocs`."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[list[Any], TaskDocs]] = {}

    def of(self, task: str, docs: Mapping[Key, Doc]) -> TaskDocs:
        """The docs of a run.

        Args:
            task: lmms-eval's task name.
            docs: what the run did with each, by `leaderboard.pairing.docs_of`.
        """
        described = [_described(key, doc) for key, doc in docs.items()]
        last = self._last.get(task)
        if last is None or last[0] != described:
            self._last[task] = last = (described, TaskDocs(docs))
        return last[1]


def _described(key: Key, doc: Doc) -> tuple[Any, ...]:
    """All of a doc that `TaskDocs` and the constant answers depend on."""
    first, *others = doc.samples
    controls = first.controls
    return (
        key,
        doc.doc_id,
        first.kind,
        first.question,
        first.gt,
        *[repr(controls.get(name)) for name in CONTROLS],
        first.image_ids,
        order_of(first),
        [(one.gt, order_of(one)) for one in others],
    )


def _facts(key: Key, doc: Doc) -> DocFacts:
    sample = doc.samples[0]
    controls = {
        name: str(value)[:80] for name in CONTROLS if (value := sample.controls.get(name)) is not None
    }
    return DocFacts(
        doc=_name(key),
        number=doc.doc_id,
        kind=sample.kind,
        question=cut(sample.question or ""),
        gt=cut(sample.gt or ""),
        controls=controls,
        image_ids=[str(image)[:80] for image in sample.image_ids or ()],
        orders=[list(order_of(sample)) for sample in doc.samples],
    )


def _name(key: Key) -> str:
    text, number = str(key[0])[:80], key[1]
    return text if number == 1 else f"{text}~{number}"


def cut(text: str) -> str:
    """At most `LONGEST` characters, none of them unprintable."""
    made = printable(text[: LONGEST + 1])
    return made if len(made) <= LONGEST else made[:LONGEST] + " …"


def board_id(task: str, data: str, docs: TaskDocs) -> str:
    """What runs must have in common to be compared: the task, its data, its docs and their orders."""
    identity = f"[{json.dumps(task)}, {json.dumps(data)}, {docs.identity}]"
    return hashlib.sha256(identity.encode()).hexdigest()[:32]


def in_order(values: Iterable[str]) -> list[str]:
    """Numbers by size, also the numbers in the names of cells; then texts."""
    return sorted(values, key=lambda value: [_sign(part) for part in value.replace("=", ",").split(",")])


def _sign(part: str) -> tuple[int, float, str]:
    try:
        return (0, float(part), "")
    except ValueError:
        return (1, 0.0, part)
