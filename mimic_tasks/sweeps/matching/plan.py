"""The loop that draws matched sets until every cell has its docs, loud when the data runs out."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from mimic_eval.records import UserError
from mimic_eval.records.progress import progress_bar
from mimic_tasks.planning import PlannedDoc
from mimic_tasks.planning.base import Drawing, Stock
from mimic_tasks.pool import Pool
from mimic_tasks.sweeps.matching.base import MatchedSet, Matcher
from mimic_tasks.sweeps.spec import Sweep
from mimic_tasks.task_spec import spec_of


@dataclass(frozen=True)
class SweepPlan:
    """The docs of a sweep before their pictures are opened.

    Attributes:
        sweep: what was requested.
        sets: the matched sets, each with one doc for each cell of the sweep, in the cells' order.
        shortage: None, or one sentence saying what the data could give.
    """

    sweep: Sweep
    sets: tuple[tuple[PlannedDoc, ...], ...]
    shortage: str | None


def plan_sweep(sweep: Sweep, pool: Pool, *, progress: bool = False) -> SweepPlan:
    """Draw the matched sets of a sweep; the same sweep and pool give the same plan.

    A choice (class and total in Counting, category in Listing, answer in Common and Odd-One) that some cell
    cannot serve is in no cell (METHODS 2). Cells that differ in their transform only have the same docs.
    `progress` shows a bar on stderr.

    Raises:
        UserError: cells that cannot be matched, or an unknown category.
    """
    contents = list(dict.fromkeys(cell.controls for cell in sweep.cells))
    stocks = [Stock(pool, max_reuse=None) for _ in contents]
    cells = [next(cell for cell in sweep.cells if cell.controls == content) for content in contents]
    spec = spec_of(sweep.kind)
    if spec.matcher is None:
        raise UserError(f"{spec.title} has no sweeps")
    matcher = spec.matcher(stocks[0], cells)
    rng = Random(f"{sweep.seed}/{sweep.kind}")  # not the name: sweeps over the same cells share their docs
    what = f"Planning {sweep.task}"
    with progress_bar(total=sweep.docs, what=what, unit="set", hidden=not progress) as bar:
        sets = _draw(matcher, stocks, sweep.docs, rng, bar)
    arranged = [matcher.arranged([matched[i] for matched in sets], rng) for i in range(len(contents))]
    sets = [list(matched) for matched in zip(*arranged, strict=True)]
    position = {content: i for i, content in enumerate(contents)}
    order = [position[cell.controls] for cell in sweep.cells]
    shortage = None
    if len(sets) < sweep.docs:
        shortage = (
            f"{sweep.task}: the data can give {len(sets)} of the {sweep.docs} docs asked for each cell "
            f"({matcher.shortage().replace('--', '')}; a pair that some cell cannot serve is in no cell)"
        )
    return SweepPlan(sweep, tuple(tuple(matched[i] for i in order) for matched in sets), shortage)


def _draw(matcher: Matcher, stocks: Sequence[Stock], docs: int, rng: Random, bar: Any) -> list[MatchedSet]:
    """Matched sets, all different in every cell."""

    def accept(matched: MatchedSet) -> bool:
        return all(stock.is_new(doc) for stock, doc in zip(stocks, matched, strict=True))

    drawing = Drawing(matcher)
    sets: list[MatchedSet] = []
    while len(sets) < docs and (matched := drawing.next(rng, accept)) is not None:
        sets.append(matched)
        for stock, doc in zip(stocks, matched, strict=True):
            stock.take(doc)
        bar.update()
    return sets
