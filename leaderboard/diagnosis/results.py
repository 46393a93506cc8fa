"""Estimates, tests and plots as they are written to JSON, CSV and SVG."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stats import hodges_lehmann, mean_interval, wilcoxon_signed_rank

Floats = npt.NDArray[np.float64]

MOST_DISTANCE = 2 * 2**0.5
"""The largest Chamfer distance (Eq. 5) in a picture of sides 1."""


class Point(NamedTuple):
    """A value at x with its interval over `n` docs; without one `low` and `high` are None."""

    x: float
    value: float
    low: float | None
    high: float | None
    n: int


class Series(NamedTuple):
    """A line of a plot."""

    label: str
    points: tuple[Point, ...]


class Band(NamedTuple):
    """What a plot compares with: a range at each x, and its middle."""

    label: str
    x: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    middle: tuple[float, ...]


@dataclass(frozen=True)
class Plot:
    """A figure: lines with intervals.

    Attributes:
        name: of its files.
        title: what it shows.
        x_title: of the axis.
        y_title: of the other.
        series: its lines.
        notes: the paragraphs below it.
        ticks: x -> text, where numbers will not do.
        band: or None.
        mark: an x with a text, or None.
        top: where the y axis ends; None: where the lines end.
    """

    name: str
    title: str
    x_title: str
    y_title: str
    series: tuple[Series, ...]
    notes: tuple[str, ...]
    ticks: tuple[tuple[float, str], ...] = ()
    band: Band | None = None
    mark: tuple[float, str] | None = None
    top: float | None = None


class Test(NamedTuple):
    """A paired test over docs, and the shift that goes with it.

    Attributes:
        name: what is compared: ``first - last image``.
        question: what the answer means.
        n: docs in it.
        left_out: docs that lack one of both.
        shift: the Hodges-Lehmann estimate.
        low: its interval.
        high: its interval.
        test: exact name.
        pvalue: two-sided.
        holm: adjusted in the family.
        family: its name and size.
    """

    name: str
    question: str
    n: int
    left_out: int
    shift: float
    low: float
    high: float
    test: str
    pvalue: float
    holm: float
    family: str


@dataclass
class Summary:
    """All results of a run, or of two.

    Attributes:
        facts: name -> value, for JSON.
        tests: with their family.
        plots: the figures.
        notes: what is left out and why.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    tests: list[Test] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def estimate(values: Floats, *, bounds: tuple[float, float] = (0.0, 1.0)) -> dict[str, Any]:
    """The mean over docs with its interval, for JSON; docs without the value are counted."""
    known = values[~np.isnan(values)]
    if not len(known):
        return {"estimate": None, "n": 0, "left_out": len(values)}
    mean = mean_interval(known, bounds=_holding(known, bounds))
    return {
        "estimate": mean.estimate, "low": mean.low, "high": mean.high, "n": mean.n,
        "left_out": len(values) - mean.n, "method": mean.method,
    }  # fmt: skip


def points(
    x: Sequence[float], values: Floats, *, bounds: tuple[float, float] = (0.0, 1.0)
) -> tuple[Point, ...]:
    """A point for each column of (D, X) that has a doc; no interval where all docs have the same value."""
    made = []
    for at, column in zip(x, values.T, strict=True):
        found = estimate(column, bounds=bounds)
        if found["n"]:
            alike = np.nanmin(column) == np.nanmax(column)
            low, high = (None, None) if alike else (found["low"], found["high"])
            made.append(Point(at, found["estimate"], low, high, found["n"]))
    return tuple(made)


def paired(
    name: str, question: str, differences: Floats, *, bounds: tuple[float, float] = (-1.0, 1.0)
) -> Test | None:
    """A test of differences, one for each doc, NaN where a doc has none; None without any."""
    known = differences[~np.isnan(differences)]
    if not len(known):
        return None
    test, shift = wilcoxon_signed_rank(known), hodges_lehmann(known, bounds=_holding(known, bounds))
    left_out = len(differences) - len(known)
    return Test(
        name, question, len(known), left_out, shift.estimate, shift.low, shift.high, test.method,
        test.pvalue, test.pvalue, "",
    )  # fmt: skip


def _holding(values: Floats, bounds: tuple[float, float]) -> tuple[float, float]:
    """The bounds, wider where rounding or an intervention with negative weights (METHODS 5, DAB) needs it."""
    return min(bounds[0], float(values.min())), max(bounds[1], float(values.max()))
