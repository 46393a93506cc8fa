"""The loop that draws a task's docs: all different, no answer too frequent, loud when the data runs out."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from mimic_eval.records import UserError
from mimic_eval.records.progress import progress_bar
from mimic_tasks.planning.base import Drawing, PlannedDoc, Planner, Stock, span
from mimic_tasks.planning.controls import MAX_SIZE, Controls, Range
from mimic_tasks.pool import Pool
from mimic_tasks.task_spec import spec_of

MAX_ANSWER_SHARE = 0.4
"""No answer makes up more of a default build, else a constant wins (METHODS 2)."""

_PROBED_SIZES = (*range(1, 9), 10, 12, 16, 24, 32, 48, MAX_SIZE)


@dataclass(frozen=True)
class TaskPlan:
    """The docs of one task, in file order.

    Attributes:
        kind: the task.
        docs: the planned docs, in a random order that the seed fixes.
        requested: how many were requested.
        shortage: None, or one sentence saying which constraint failed and what the data could give.
    """

    kind: str
    docs: tuple[PlannedDoc, ...]
    requested: int
    shortage: str | None

    def largest_answer_share(self) -> float:
        """The accuracy of the best constant answer."""
        return best_constant(self.docs) if self.docs else 0.0


def best_constant(docs: Sequence[PlannedDoc]) -> float:
    """The score of the best answer that is the same for all docs of a task (and number of images)."""
    positional = spec_of(docs[0].kind).positional
    if positional is not None:
        return positional.constant([[doc.gt] for doc in docs])
    return max(Counter(doc.gt for doc in docs).values()) / len(docs)


def plan_task(
    kind: str,
    pool: Pool,
    controls: Controls,
    *,
    docs: int,
    seed: int,
    max_reuse: int | None = None,
    progress: bool = False,
) -> TaskPlan:
    """Draw the docs of one task.

    The same pool, controls and seed give the same plan, whatever other tasks are planned beside it.

    Args:
        kind: the task.
        pool: what may be drawn.
        controls: what the docs must be like.
        docs: how many.
        seed: of every draw.
        max_reuse: how many docs of the task an image may serve, or None for any number.
        progress: show a bar on stderr.

    Raises:
        UserError: a size below the task's minimum.
    """
    controls.sizes(kind)
    stock = Stock(pool, max_reuse=max_reuse)
    rng = Random(f"{seed}/{kind}")
    task = _TaskDocs(cap=max(1, int(MAX_ANSWER_SHARE * docs)))
    capped = spec_of(kind).positional is None  # else the answers are dealt out below
    lines = [_Line(planner(stock, controls), share) for planner, share in _shares(kind, controls.split, docs)]
    with progress_bar(total=docs, what=f"Planning {kind}", unit="doc", hidden=not progress) as task.bar:
        task.fill(lines, rng, capped=capped)
        if controls.narrowed and capped:
            missing = [line for line in lines if line.missing]
            for line in missing:
                line.drawing.restart()
            task.fill(missing, rng, capped=False)
    shortages = [
        _shortage(line, max_reuse=max_reuse, capped=capped and not controls.narrowed)
        for line in lines
        if line.missing
    ]
    planned = task.docs
    if shortages and capped and not controls.narrowed:
        planned = _trimmed(planned)
        if len(planned) < len(task.docs):
            shortages.append(
                f"{len(planned)} of them are left, because no answer may make up more than "
                f"{MAX_ANSWER_SHARE:.0%} of a default build"
            )
    rng.shuffle(planned)
    if lines:
        planned = lines[0].planner.arranged(planned, rng)
    return TaskPlan(kind, tuple(planned), docs, "; ".join(shortages) or None)


class _Line:
    """One planner's part of a task: what it has still to draw."""

    def __init__(self, planner: Planner, share: int) -> None:
        self.planner = planner
        self.share = share
        self.missing = share
        self.drawing = Drawing(planner)


class _TaskDocs:
    """The docs of a task so far."""

    def __init__(self, *, cap: int) -> None:
        self.docs: list[PlannedDoc] = []
        self.bar: Any = None
        self._cap = cap
        self._answers: Counter[str] = Counter()

    def fill(self, lines: Sequence[_Line], rng: Random, *, capped: bool = True) -> None:
        """Draw from all lines in turns, so that none uses up the images of another, until they are done."""
        active = [line for line in lines if line.missing]
        while active:
            active = [line for line in active if self._draw_one(line, rng, capped=capped) and line.missing]

    def _draw_one(self, line: _Line, rng: Random, *, capped: bool) -> bool:
        """Add one doc of a line; False when it has no choice left."""
        stock = line.planner.stock

        def accept(docs: list[PlannedDoc]) -> bool:
            (doc,) = docs
            return stock.is_new(doc) and not (capped and self._answers[doc.gt] >= self._cap)

        docs = line.drawing.next(rng, accept)
        for doc in docs or ():
            self.docs.append(doc)
            self._answers[doc.gt] += 1
            stock.take(doc)
            line.missing -= 1
            if self.bar is not None:
                self.bar.update()
        return docs is not None


def _shares(kind: str, split: str, docs: int) -> list[tuple[type[Planner], int]]:
    """The planners of a task with their parts of its docs: equal parts, the first ones larger by one."""
    planners = [
        planner for planner in spec_of(kind).planners if split == "both" or planner.split in (None, split)
    ]
    shares = [(docs + len(planners) - 1 - i) // len(planners) for i in range(len(planners))]
    return [(planner, share) for planner, share in zip(planners, shares, strict=True) if share]


def _trimmed(docs: Sequence[PlannedDoc]) -> list[PlannedDoc]:
    """Without the last docs of answers that became too frequent because docs are missing."""
    counts = Counter(doc.gt for doc in docs)
    left = len(docs)
    while left > 2:
        answer, count = counts.most_common(1)[0]
        if count <= MAX_ANSWER_SHARE * left:
            break
        counts[answer] -= 1
        left -= 1
    remaining = []
    for doc in docs:
        if counts[doc.gt]:
            counts[doc.gt] -= 1
            remaining.append(doc)
    return remaining


def _shortage(line: _Line, *, max_reuse: int | None, capped: bool) -> str:
    planner, share = line.planner, line.share
    name = f"{planner.kind} ({planner.split})" if planner.split else planner.kind
    unrestricted = type(planner)(Stock(planner.pool, max_reuse=None), planner.controls)
    reasons = [unrestricted.shortage()]
    if line.missing == share:
        sizes = _servable_sizes(type(planner), planner)
        reasons.append(f"docs of {span(sizes)} images can be made with any spread (tried in steps)")
    if max_reuse is not None:
        reasons.append(f"--max-reuse {max_reuse} lets an image serve {max_reuse} docs of a task")
    elif capped and line.missing < share:
        reasons.append(f"no answer may make up more than {MAX_ANSWER_SHARE:.0%} of a default build")
    return (
        f"{name}: the data can give {share - line.missing} of the {share} docs asked ({'; '.join(reasons)})"
    )


def _servable_sizes(planner_class: type[Planner], planner: Planner) -> list[int]:
    """Some sizes at which the pool, unused, can serve a doc of any spread: for the error message only."""
    sizes: list[int] = []
    for n in (n for n in _PROBED_SIZES if n >= spec_of(planner.kind).minimum_images):
        if sizes and sizes[-1] < max(m for m in _PROBED_SIZES if m < n):
            break  # what is too large once is too large for more
        try:
            controls = replace(planner.controls, n_images=Range(n, n), spread=None, distractors=None)
        except UserError:
            continue  # too small for the other options
        probe = planner_class(Stock(planner.pool, max_reuse=None), controls)
        line = _Line(probe, 1)
        _TaskDocs(cap=1).fill([line], Random(0))
        if not line.missing:
            sizes.append(n)
    return sizes
