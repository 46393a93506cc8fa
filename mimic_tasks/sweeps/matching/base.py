"""What the matchers share."""

from collections.abc import Sequence

from mimic_eval.records import UserError
from mimic_tasks.planning import PlannedDoc, Range
from mimic_tasks.planning.base import MatchedSetSource, Stock
from mimic_tasks.sweeps.spec import SweepCell

MatchedSet = list[PlannedDoc]


class Matcher(MatchedSetSource):
    """Draws matched sets of one task; its choices hold in every cell."""

    def __init__(self, stock: Stock, cells: Sequence[SweepCell]) -> None:
        super().__init__(stock)
        self.cells = list(cells)


class Shapes:
    """(N, s) of each cell. A range that the cells share is drawn once for a matched set.

    Args:
        cells: their `n_images`, `spread` and `distractors`; s is anything from 1 to the smallest N if a
            cell leaves it open.
        most: the largest spread that the other options allow.

    Raises:
        UserError: a cell whose N is open, or one that no doc can have.
    """

    def __init__(self, cells: Sequence[SweepCell], *, most: int | None = None) -> None:
        self._cells = list(cells)
        sizes = [cell.controls.n_images.low for cell in cells if cell.controls.n_images]
        free = Range(1, min([*sizes, *([most] if most else [])], default=1))
        self._spreads = [self._spread(cell, free) for cell in cells]
        for cell in cells:
            c = cell.controls
            if c.n_images is None and (c.spread is None or c.distractors is None):
                raise UserError(f"cell {cell.name}: give n_images, or both spread and distractors")
        if not self.choices():
            raise UserError(
                "no doc can have these n_images, spread and distractors: n_images = spread + distractors"
            )

    def _spread(self, cell: SweepCell, free: Range) -> Range | None:
        """The range of the cell's s; None where N - d gives it."""
        c = cell.controls
        if c.spread is not None:
            return c.spread
        return None if c.n_images is not None and c.distractors is not None else free

    def choices(self) -> list[tuple[int, ...]]:
        """Every way to fix the shared ranges: (N, s, d), 0 for what the cells fix themselves."""
        axes = []
        for ranges in (
            [cell.controls.n_images for cell in self._cells],
            self._spreads,
            [cell.controls.distractors for cell in self._cells],
        ):
            shared = set(ranges)
            (only,) = shared if len(shared) == 1 else (None,)
            axes.append(list(only.values()) if only else [0])
        choices = [(n, s, d) for n in axes[0] for s in axes[1] for d in axes[2]]
        return [choice for choice in choices if self.of(choice) is not None]

    def of(self, choice: Sequence[int]) -> list[tuple[int, int]] | None:
        """(N, s) of each cell under a choice; None if one cannot be."""
        shapes = []
        for cell, spread in zip(self._cells, self._spreads, strict=True):
            c = cell.controls
            n = choice[0] or (c.n_images.low if c.n_images else 0)
            s = choice[1] or (spread.low if spread else 0)
            d = choice[2] or (c.distractors.low if c.distractors else None)
            if n and s and d is not None and n != s + d:
                return None
            n = n or s + (d or 0)
            s = s or n - (d or 0)
            if not 1 <= s <= n:
                return None
            shapes.append((n, s))
        return shapes
