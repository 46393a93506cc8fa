"""Parts of a picture that are painted, to see which of the model's tokens they move (METHODS 7, 14)."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

CELLS = ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.4, 0.6))
"""Where pictures are painted to see on which token a part lands: across and down, in 0-1."""

_EXACT = 16
"""Up to this many tokens, a painted part must move its token most; of more, its neighbour will do."""


@dataclass(frozen=True)
class PaintedCell:
    """A part of a picture and the tokens of its place."""

    edges: tuple[float, float, float, float]
    row: int
    column: int
    rows: int
    columns: int

    def holds(self, token: int) -> bool:
        """Whether a token, by its place in the image, is the part's; of many, one beside it will do."""
        slack = 0 if self.rows * self.columns <= _EXACT else 1
        row, column = divmod(token, self.columns)
        return abs(row - self.row) <= slack and abs(column - self.column) <= slack


def parts_land(moved: Tensor, boxes: Sequence[PaintedCell]) -> bool:
    """Whether each painted part moves its token most, as it is or against what the other parts move there.

    Args:
        moved: float (parts, P).
        boxes: of each part.
    """
    logs = moved.clamp(min=1e-12).log()
    plain, against = logs.argmax(dim=1).tolist(), (logs - logs.mean(dim=0)).argmax(dim=1).tolist()
    pairs = zip(boxes, plain, against, strict=True)
    return all(box.holds(first) or box.holds(second) for box, first, second in pairs)


def painted_cell(grid: tuple[int, int], across: float, down: float) -> PaintedCell:
    """The cell of a grid (rows, columns) at a point of `CELLS`."""
    rows, columns = grid
    row, column = round(down * (rows - 1)), round(across * (columns - 1))
    edges = (column / columns, row / rows, (column + 1) / columns, (row + 1) / rows)
    return PaintedCell(edges, row, column, rows, columns)
