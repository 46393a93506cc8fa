"""MIMIC's question of a sweep over N: how the score changes per doubling of the number of images."""

from collections.abc import Mapping, Sequence
from math import log2
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from leaderboard.measures import Estimate, Graded
from leaderboard.pairing import Doc, Pair, doc_score, docs_of
from leaderboard.runs import Run
from stats import doc_slopes


class Doublings(NamedTuple):
    """Change of the score (Listing: of a doc's F1) per doubling of N, within matched sets, and B - A."""

    a: Estimate
    b: Estimate
    difference: Estimate
    sets: int


class _Slopes(NamedTuple):
    """Of each matched set, shape (sets,), in the order of their numbers; the steepest that can be."""

    slopes: npt.NDArray[np.float64]
    steepest: float


def slope_per_doubling(docs: Sequence[Doc]) -> Estimate | None:
    """Mean over matched sets of the least-squares slope of the score over log2 N, with its interval.

    Args:
        docs: scored docs of a sweep.

    Returns:
        Or None if the docs have no matched sets or only one N.
    """
    slopes = _slopes(docs)
    return None if slopes is None else _measure(slopes).estimate(slopes.slopes)


def slope_lines(task: str, runs: Mapping[str, Run]) -> list[str]:
    """A line for each run of a sweep over N; none for other sweeps.

    Args:
        task: the sweep's task, whose samples every run has.
        runs: by label.
    """
    lines = []
    for label, run in runs.items():
        slope = slope_per_doubling([doc for doc in docs_of(run.samples_of(task)).values() if doc.scored])
        if slope is not None:
            points = f"{100 * slope.estimate:+.1f}"
            if slope.low is not None and slope.high is not None:
                points += f" [{100 * slope.low:+.1f}, {100 * slope.high:+.1f}]"
            lines.append(f"{label}: {points} points per doubling of N within matched sets ({slope.method})")
    return lines


def per_doubling(pairs: Sequence[Pair]) -> Doublings | None:
    """The slopes of two runs and their paired difference, or None as in `slope_per_doubling`."""
    a, b = (_slopes([pair[run] for pair in pairs]) for run in (0, 1))
    if a is None or b is None:
        return None
    measure = _measure(a)
    change = measure.compare(a.slopes, b.slopes)
    return Doublings(measure.estimate(a.slopes), measure.estimate(b.slopes), change.delta, len(a.slopes))


def _measure(slopes: _Slopes) -> Graded:
    return Graded("slope per doubling of N", (-slopes.steepest, slopes.steepest))


def _slopes(docs: Sequence[Doc]) -> _Slopes | None:
    """The sets in which N varies."""
    points: dict[int, list[tuple[float, float]]] = {}
    for doc in docs:
        n = doc.samples[0].n_images
        if doc.matched_set is None or not n:
            return None
        points.setdefault(doc.matched_set, []).append((log2(n), doc_score(doc)))
    xs = [x for of_set in points.values() for x, _ in of_set]
    if not xs or min(xs) == max(xs):
        return None
    first, span = min(xs), max(xs) - min(xs)
    fitted = doc_slopes(
        [[((x - first) / span, score) for x, score in points[number]] for number in sorted(points)]
    )
    slopes = fitted.slopes[~np.isnan(fitted.slopes)]
    return _Slopes(slopes / span, fitted.steepest / span) if len(slopes) else None
