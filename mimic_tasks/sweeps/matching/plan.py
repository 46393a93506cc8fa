"""The loop that draws matched sets until every cell has its docs, loud when the data runs out."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from mimic_eval.records import UserError
from mimic_tasks.planning import PlannedDoc
from mimic_tasks.planning.base import Stock
from mimic_tasks.pool import Pool
from mimic_tasks.sweeps.matching.base import MatchedSet, Matcher
from mimic_tasks.sweeps.matching.counting import AskedClassesMatcher, BalancedMatcher, UnbalancedMatcher
from mimic_tasks.sweeps.matching.listing import ListingMatcher
from mimic_tasks.sweeps.matching.presence import CommonMatcher, OddOneMatcher
from mimic_tasks.sweeps.spec import Cell, Sweep

_MISSES_BEFORE_RETIRING = 25


@dataclass(frozen=True)
class SweepPlan:
    """The docs of a sweep before their pictures are opened.

    Attributes:
        sweep: what was asked for.
        sets: the matched sets, each with one doc for each cell of the sweep, in the cells' order.
        shortage: None, or one sentence saying what the data could give.
    """

    sweep: Sweep
    sets: tuple[tuple[PlannedDoc, ...], ...]
    shortage: str | None


def plan_sweep(sweep: Sweep, pool: Pool) -> SweepPlan:
    """Draw the matched sets of a sweep; the same sweep and pool give the same plan.

    A choice (class and total in Counting, category in Listing, answer in Common and Odd-One) that some cell
    cannot serve is in no cell (METHODS 2). Cells that differ in their transform only have the same docs.

    Raises:
        UserError: cells that cannot be matched, or an unknown category.
    """
    contents = list(dict.fromkeys(cell.controls for cell in sweep.cells))
    stocks = [Stock(pool, max_reuse=None) for _ in contents]
    cells = [next(cell for cell in sweep.cells if cell.controls == content) for content in contents]
    matcher = _matcher(sweep, stocks[0], cells)
    rng = Random(f"{sweep.seed}/{sweep.kind}")  # not the name: sweeps over the same cells share their docs
    sets = _draw(matcher, stocks, sweep.docs, rng)
    place = {content: i for i, content in enumerate(contents)}
    order = [place[cell.controls] for cell in sweep.cells]
    shortage = None
    if len(sets) < sweep.docs:
        shortage = (
            f"{sweep.task}: the data can give {len(sets)} of the {sweep.docs} docs asked for each cell "
            f"({matcher.shortage().replace('--', '')}; a pair that some cell cannot serve is in no cell)"
        )
    return SweepPlan(sweep, tuple(tuple(found[i] for i in order) for found in sets), shortage)


def _matcher(sweep: Sweep, stock: Stock, cells: Sequence[Cell]) -> Matcher:
    if sweep.kind == "listing":
        return ListingMatcher(stock, cells)
    if sweep.kind == "common":
        return CommonMatcher(stock, cells)
    if sweep.kind == "oddone":
        return OddOneMatcher(stock, cells)
    splits = {cell.controls.split for cell in cells}
    if len(splits) > 1:
        raise UserError("split cannot vary in a sweep: balanced docs have totals that unbalanced ones lack")
    if len({cell.controls.k for cell in cells}) > 1:
        return AskedClassesMatcher(stock, cells)
    return BalancedMatcher(stock, cells) if splits == {"balanced"} else UnbalancedMatcher(stock, cells)


def _draw(matcher: Matcher, stocks: Sequence[Stock], docs: int, rng: Random) -> list[MatchedSet]:
    """Matched sets, all different in every cell."""
    tree = matcher.tree()
    sets: list[MatchedSet] = []
    misses: Counter[tuple[object, ...]] = Counter()
    while len(sets) < docs and (leaf := tree.draw(rng)) is not None:
        found = matcher.attempt(leaf, rng)
        if found is None:
            misses[leaf] += _MISSES_BEFORE_RETIRING // matcher.searches + 1
        elif all(stock.is_new(doc) for stock, doc in zip(stocks, found, strict=True)):
            sets.append(found)
            for stock, doc in zip(stocks, found, strict=True):
                stock.take(doc)
        else:
            misses[leaf] += 1
        if misses[leaf] >= _MISSES_BEFORE_RETIRING:
            tree.retire(leaf)
    return sets
