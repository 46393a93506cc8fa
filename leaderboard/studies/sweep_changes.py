"""How the score of a sweep changes from the first to the last value on its axis, within matched sets."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from leaderboard.measures import Graded
from leaderboard.pairing import doc_score, docs_of
from leaderboard.studies.cells import FinishedCell
from leaderboard.studies.findings import Finding
from leaderboard.sweeps import SweepFigure, Value


def sweep_findings(figure: SweepFigure, cells: Sequence[FinishedCell]) -> Iterator[Finding]:
    """The mean change of the score (Listing: of a doc's F1) between the ends of the axis, by setting.

    The docs of a matched set at both ends are one pair; with several lines of cells (another control), the
    set's mean over them. Where the axis is a setting of the runs (``pool``), the runs at the ends are paired.
    """
    xs = sorted({point.x for point in figure.points}, key=_order)
    if len(xs) < 2:
        return
    ends = xs[0], xs[-1]
    place = {(point.run, point.cell): point for point in figure.points if point.metric == figure.metric}
    for (entry, setting), members in _by_setting(cells).items():
        scores: dict[Value, dict[int, list[float]]] = {end: defaultdict(list) for end in ends}
        for one in members:
            if figure.task not in one.run.samples:
                continue
            for doc in docs_of(one.run.samples_of(figure.task)).values():
                point = place.get((one.run.name, str(doc.samples[0].cell)))
                if doc.scored and doc.matched_set is not None and point is not None and point.x in ends:
                    scores[point.x][doc.matched_set].append(doc_score(doc))
        first, last = (scores[end] for end in ends)
        both = sorted(first.keys() & last.keys())
        if not both:
            continue
        before, after = (np.array([np.mean(one[number]) for number in both]) for one in (first, last))
        change = Graded().compare(before, after)
        label = setting if entry == members[0].cell.entry and _one_entry(cells) else f"{entry}: {setting}"
        yield Finding(
            "sweep", f"change of the score from {figure.x} {ends[0]} to {ends[1]}", setting, label,
            figure.task, change.delta, len(both), change.pvalue,
        )  # fmt: skip


def _order(value: Value) -> tuple[bool, float, str]:
    """Numbers by size; of ``none`` and ``grid`` the former first."""
    number = isinstance(value, int | float)
    return (not number, float(value) if number else 0.0, "" if value == "none" else str(value))


def _by_setting(cells: Sequence[FinishedCell]) -> dict[tuple[str, str], list[FinishedCell]]:
    found: dict[tuple[str, str], list[FinishedCell]] = {}
    for one in cells:
        found.setdefault((one.cell.entry, one.cell.setting), []).append(one)
    return found


def _one_entry(cells: Sequence[FinishedCell]) -> bool:
    return len({one.cell.entry for one in cells}) == 1
