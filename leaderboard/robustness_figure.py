"""The score by the position of the image that holds the answer, as a figure for a screen or for a paper."""

from collections.abc import Sequence
from typing import Any

from leaderboard.figure import COLOURS, DASHES, MARKERS, clean
from leaderboard.paper import FORMS, Panel, alike, render_paper
from leaderboard.robustness import PLACES, Robustness
from leaderboard.sentences import task_title

_SCREEN = 6.4
"""Inches."""


def render_svg(rows: Sequence[Robustness]) -> bytes:
    """A figure for a screen: the task above, a line with its band for each run, the legend below.

    Args:
        rows: of one task.
    """
    panel = _panel(rows, list(dict.fromkeys(row.run for row in rows)), counts=True)
    return render_paper([panel], width=_SCREEN, form="svg", seed="mimic-eval", title=rows[0].task)


def paper_files(rows: Sequence[Robustness], width: float) -> dict[str, bytes]:
    """The files by name: for each task SVG, PDF and its caption as text, and a panel of several tasks.

    Args:
        rows: of several tasks and runs; those without positions are left out.
        width: of a figure in inches.
    """
    placed = [row for row in rows if row.placed]
    runs = list(dict.fromkeys(row.run for row in placed))
    by_task = {
        task: [row for row in placed if row.task == task] for task in dict.fromkeys(r.task for r in placed)
    }
    panels = {task: _panel(of_task, runs) for task, of_task in by_task.items()}
    groups = {task: [task] for task in panels}
    if len(panels) > 1 and alike(list(panels.values())):
        groups["panel_positions"] = list(panels)
    files: dict[str, bytes] = {}
    for name, tasks in groups.items():
        for form in FORMS:
            drawn = [panels[task] for task in tasks]
            files[f"{name}.{form}"] = render_paper(drawn, width=width, form=form, seed=name)
        caption = "".join(_caption(by_task[task]) for task in tasks)
        files[f"{name}_caption.txt"] = caption.encode()
    return files


def _panel(rows: Sequence[Robustness], runs: Sequence[str], *, counts: bool = False) -> Panel:
    labels = {row.run: clean(f"{row.run} ({row.placed} docs)" if counts else row.run) for row in rows}
    look = {label: runs.index(run) for run, label in labels.items()}
    return Panel(task_title(rows[0].task), lambda axes, inches: _draw(axes, rows, runs, labels, inches), look)


def _draw(
    axes: Any, rows: Sequence[Robustness], runs: Sequence[str], labels: dict[str, str], inches: float
) -> None:
    for row in rows:
        points = [point for point in row.places if point.n_images is None]
        number, x = runs.index(row.run), [PLACES.index(point.place) for point in points]
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        scores = [point.score.estimate for point in points]
        axes.plot(
            x, scores, color=colour, marker=marker, markersize=3.5, linewidth=1.0, label=labels[row.run],
            linestyle=DASHES[number % len(DASHES)], clip_on=False, zorder=3,
        )  # fmt: skip
        low = [point.score.low or 0.0 for point in points]
        high = [1.0 if point.score.high is None else point.score.high for point in points]
        axes.fill_between(x, low, high, alpha=0.15, color=colour, linewidth=0)
    wide = inches > 1.8
    about = f"position of the {rows[0].about} (nearest quarter)" if inches > 2.5 else "position of the answer"
    axes.set(
        xticks=range(len(PLACES)),
        xticklabels=PLACES if wide else [PLACES[0], "", PLACES[2], "", PLACES[4]],
        ylim=(0, 1),
        xlabel=about,
        ylabel="score",
    )
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _caption(rows: Sequence[Robustness]) -> str:
    docs = ", ".join(f"{row.run} {row.placed} docs" for row in rows)
    return (
        f"{task_title(rows[0].task)}: score by the position of the {rows[0].about}, to the nearest quarter; "
        f"bands: 95 % intervals over docs of this image pool; docs with all targets in one image: {docs}.\n"
    )
