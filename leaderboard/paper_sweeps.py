"""The figures of sweeps for a paper: each alone, and those with the same axis in one figure."""

from collections.abc import Sequence

from leaderboard.figure import METRICS, caption_of, draw_sweep, lines_of, render_csv, term
from leaderboard.paper import FORMS, Panel, alike, render_paper
from leaderboard.sentences import task_title
from leaderboard.sweeps import SweepFigure
from mimic_eval.records import task_kinds

_SCALE = 0.7


def paper_files(figures: Sequence[SweepFigure], width: float) -> tuple[dict[str, bytes], list[str]]:
    """The files by name: for each sweep SVG, PDF, CSV and its caption as text; and a panel of several.

    Args:
        figures: the sweeps.
        width: of a figure in inches.

    Returns:
        The files, and a line for each axis whose sweeps cannot be in one figure.
    """
    files: dict[str, bytes] = {}
    notes = []
    for figure in figures:
        files |= _drawn(figure.task, [figure], width)
        files[f"{figure.task}.csv"] = render_csv(figure).encode()
        files[f"{figure.task}_caption.txt"] = _caption([figure]).encode()
    for x in dict.fromkeys(figure.x for figure in figures):
        together = sorted((figure for figure in figures if figure.x == x), key=_rank)
        if len(together) > 1:
            if alike([_panel(figure) for figure in together]):
                files |= _drawn(f"panel_{x}", together, width)
                files[f"panel_{x}_caption.txt"] = _caption(together).encode()
            else:
                notes.append(f"no panel over {x}: a line looks different in its sweeps; draw the same runs")
    return files, notes


def _rank(figure: SweepFigure) -> tuple[int, str]:
    kinds = task_kinds()
    kind = next((kind for kind in kinds if kind in figure.task.split("_")), None)
    return (kinds.index(kind) if kind else len(kinds)), figure.task


def _drawn(name: str, figures: Sequence[SweepFigure], width: float) -> dict[str, bytes]:
    panels = [_panel(figure) for figure in figures]
    series = figures[0].series
    return {
        f"{name}.{form}": render_paper(
            panels, width=width, form=form, seed=name, legend=term(series) if series else ""
        )
        for form in FORMS
    }


def _panel(figure: SweepFigure) -> Panel:
    name, metric = task_title(figure.task).partition(" (")[0], METRICS.get(figure.metric, figure.metric)
    return Panel(
        name if figure.metric == "exact_match" else f"{name} ({metric})",
        lambda axes, inches: draw_sweep(axes, figure, inches=inches, scale=_SCALE),
        {line.label: (line.style, figure.series) for line in lines_of(figure)},
    )


def _caption(figures: Sequence[SweepFigure]) -> str:
    """Title, metric and what a reader must know of each figure."""
    parts = [
        f"{figure.title} ({METRICS.get(figure.metric, figure.metric)}). {' '.join(caption_of(figure))}"
        for figure in figures
    ]
    return "\n".join(parts) + "\n"
