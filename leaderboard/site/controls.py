"""What scores are drawn against: what a sweep varies, or what docs drawn at random happen to have."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from leaderboard.figure import term
from leaderboard.site.results import Point
from leaderboard.site.task_docs import CONTROLS, in_order

NOT_CONTROLLED = "Docs with other values differ in other ways too."

_TITLES = {
    "n_images": "images in the doc (N)",
    "spread": "images with a target (s)",
    "distractors": "images without a target (d)",
    "k": "classes asked about (k)",
    "cell": "cell of the sweep",
}
_LISTING = {"k": ("classes to list", "classes to list")}
"""In Listing, the column k counts the classes of the right answer, which the question does not name."""


class Control(NamedTuple):
    """Something that a score is drawn against.

    Attributes:
        key: its key among the curves of a result.
        name: short, for columns.
        title: for an axis.
        controlled: whether a sweep varies it and leaves all else as it is.
        prefix: of its values, left out where they are written.
    """

    key: str
    name: str
    title: str
    controlled: bool
    prefix: str = ""


def control_of(key: str, kind: str, *, controlled: bool = False) -> Control:
    """A control as a task of this kind calls it."""
    name, title = CONTROLS[key], _TITLES[key]
    if kind == "listing":
        name, title = _LISTING.get(key, (name, title))
    return Control(key, name, title, controlled)


def varied(cells: Iterable[str]) -> tuple[str, ...]:
    """The keys that name the cells of a sweep: ``spread`` of ``spread=1`` and ``spread=2``; none if the cells
    have no common keys."""
    keys = {tuple(part.partition("=")[0] for part in cell.split(",")) for cell in cells}
    return keys.pop() if len(keys) == 1 else ()


def controls_drawn(kind: str, curves: Sequence[Mapping[str, Sequence[Point]]]) -> list[Control]:
    """What the results of a board are drawn against.

    Of a sweep: what it varies, and the cells if it varies more than one thing. Otherwise every column of
    which some result has two values, none of them controlled.

    Args:
        kind: of the task.
        curves: of each result.
    """
    given = {key for one in curves for key in one}
    cells = [point.value for one in curves for point in one.get("cell", ())]
    if not cells:
        return [control_of(key, kind) for key in CONTROLS if key in given]
    keys = varied(cells)
    drawn = [control_of(key, kind, controlled=True) for key in CONTROLS if key in keys and key in given]
    if len(keys) == 1 and not drawn:
        (key,) = keys
        name, title = key, term(key)
        return [Control("cell", name, title, controlled=True, prefix=f"{key}=")]
    if len(keys) == 1:
        return drawn
    return [*drawn, control_of("cell", kind, controlled=True)]


class Grid(NamedTuple):
    """The cells of a sweep over two keys: `values[i][j]` is a point or None."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    row_key: str
    column_key: str
    values: tuple[tuple[Point | None, ...], ...]


def cell_grid(points: Sequence[Point]) -> Grid | None:
    """The cells of a sweep as a grid, or None unless each is named by the same two keys."""
    keys = varied(point.value for point in points)
    if len(keys) != 2:
        return None
    by_cell: dict[tuple[str, str], Point] = {}
    for point in points:
        first, second = (part.partition("=")[2] for part in point.value.split(","))
        by_cell[first, second] = point
    rows, columns = (tuple(in_order({key[i] for key in by_cell})) for i in (0, 1))
    values = tuple(tuple(by_cell.get((row, column)) for column in columns) for row in rows)
    return Grid(rows, columns, *keys, values)
