"""The loop that draws a task's docs: all different, no answer too frequent, loud when the data runs out."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from mimic_eval.records import UserError
from mimic_tasks.planning.base import PlannedDoc, Planner, Stock, span
from mimic_tasks.planning.common import CommonPlanner
from mimic_tasks.planning.controls import MAX_SIZE, MINIMUM_SIZE, Controls, Range
from mimic_tasks.planning.counting import BalancedPlanner, UnbalancedPlanner
from mimic_tasks.planning.listing import ListingPlanner
from mimic_tasks.planning.oddone import OddOnePlanner
from mimic_tasks.pool import Pool

MAX_ANSWER_SHARE = 0.4
"""No answer makes up more of a default build, else a constant wins (METHODS 2)."""

_MISSES_BEFORE_RETIRING = 25
_PROBED_SIZES = (*range(1, 9), 10, 12, 16, 24, 32, 48, MAX_SIZE)

_PLANNERS: dict[str, tuple[type[Planner], ...]] = {
    "counting": (BalancedPlanner, UnbalancedPlanner),
    "listing": (ListingPlanner,),
    "common": (CommonPlanner,),
    "oddone": (OddOnePlanner,),
}


@dataclass(frozen=True)
class TaskPlan:
    """The docs of one task, in file order.

    Attributes:
        kind: the task.
        docs: the planned docs, in a random order that the seed fixes.
        asked: how many were asked for.
        shortage: None, or one sentence saying which constraint failed and what the data could give.
    """

    kind: str
    docs: tuple[PlannedDoc, ...]
    asked: int
    shortage: str | None

    def largest_answer_share(self) -> float:
        """The accuracy of the best constant answer."""
        counts = Counter(doc.gt for doc in self.docs)
        return max(counts.values()) / len(self.docs) if self.docs else 0.0


def plan_task(
    kind: str, pool: Pool, controls: Controls, *, docs: int, seed: int, max_reuse: int | None = None
) -> TaskPlan:
    """Draw the docs of one task.

    The same pool, controls and seed give the same plan, whatever other tasks are planned beside it.

    Args:
        kind: one of counting, listing, common, oddone.
        pool: what may be drawn.
        controls: what the docs must be like.
        docs: how many.
        seed: of every draw.
        max_reuse: how many docs of the task an image may serve; None: any number.

    Raises:
        UserError: a size below the task's minimum.
    """
    controls.sizes(kind)
    stock = Stock(pool, max_reuse=max_reuse)
    rng = Random(f"{seed}/{kind}")
    drawing = _Drawing(cap=max(1, int(MAX_ANSWER_SHARE * docs)))
    lines = [_Line(planner(stock, controls), share) for planner, share in _shares(kind, controls.split, docs)]
    drawing.fill(lines, rng)
    if controls.narrowed:
        drawing.fill([line.again() for line in lines if line.missing], rng, capped=False)
    shortages = [
        _shortage(line, max_reuse=max_reuse, capped=not controls.narrowed) for line in lines if line.missing
    ]
    planned = drawing.docs
    if shortages and not controls.narrowed:
        planned = _trimmed(planned)
        if len(planned) < len(drawing.docs):
            shortages.append(
                f"{len(planned)} of them are left, because no answer may make up more than "
                f"{MAX_ANSWER_SHARE:.0%} of a default build"
            )
    rng.shuffle(planned)
    return TaskPlan(kind, tuple(planned), docs, "; ".join(shortages) or None)


class _Line:
    """One planner's part of a task: what it has still to draw."""

    def __init__(self, planner: Planner, share: int) -> None:
        self.planner = planner
        self.share = share
        self.missing = share
        self.tree = planner.tree()
        self.misses: Counter[tuple[object, ...]] = Counter()

    def again(self) -> "_Line":
        """Make all choices possible again."""
        self.tree = self.planner.tree()
        self.misses.clear()
        return self


class _Drawing:
    """The docs of a task so far."""

    def __init__(self, *, cap: int) -> None:
        self.docs: list[PlannedDoc] = []
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
        while (leaf := line.tree.draw(rng)) is not None:
            doc = line.planner.attempt(leaf, rng)
            if doc is None:
                line.misses[leaf] += _MISSES_BEFORE_RETIRING // line.planner.searches + 1
            elif not stock.is_new(doc) or (capped and self._answers[doc.gt] >= self._cap):
                line.misses[leaf] += 1
            else:
                self.docs.append(doc)
                self._answers[doc.gt] += 1
                stock.take(doc)
                line.missing -= 1
                return True
            if line.misses[leaf] >= _MISSES_BEFORE_RETIRING:
                line.tree.retire(leaf)
        return False


def _shares(kind: str, split: str, docs: int) -> list[tuple[type[Planner], int]]:
    planners = _PLANNERS[kind]
    if kind != "counting":
        return [(planners[0], docs)]
    shares = {"balanced": (docs, 0), "unbalanced": (0, docs), "both": (docs - docs // 2, docs // 2)}[split]
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
    kept = []
    for doc in docs:
        if counts[doc.gt]:
            counts[doc.gt] -= 1
            kept.append(doc)
    return kept


def _shortage(line: _Line, *, max_reuse: int | None, capped: bool) -> str:
    planner, share = line.planner, line.share
    split = getattr(planner, "split", "")
    name = f"{planner.kind} ({split})" if split else planner.kind
    whole = type(planner)(Stock(planner.pool, max_reuse=None), planner.controls)
    reasons = [whole.shortage()]
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
    """Some sizes at which the whole pool can serve a doc of any spread: for the error message only."""
    found: list[int] = []
    for n in (n for n in _PROBED_SIZES if n >= MINIMUM_SIZE[planner.kind]):
        if found and found[-1] < max(m for m in _PROBED_SIZES if m < n):
            break  # what is too large once is too large for more
        try:
            controls = replace(planner.controls, n_images=Range(n, n), spread=None, distractors=None)
        except UserError:
            continue  # too small for the other options
        probe = planner_class(Stock(planner.pool, max_reuse=None), controls)
        line = _Line(probe, 1)
        _Drawing(cap=1).fill([line], Random(0))
        if not line.missing:
            found.append(n)
    return found
