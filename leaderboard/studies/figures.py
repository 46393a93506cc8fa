"""The figures of a study: from its finished cells to SVG, CSV, words, and findings."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from leaderboard.diagnosis.comparison import compared
from leaderboard.diagnosis.drawing import render_csv, render_svg, words_of
from leaderboard.diagnosis.results import Plot, Point, Series, Test
from leaderboard.figure import render_csv as sweep_csv
from leaderboard.figure import render_svg as sweep_svg
from leaderboard.measures import Estimate
from leaderboard.robustness import Robustness, robustness
from leaderboard.robustness_figure import render_svg as places_svg
from leaderboard.robustness_output import render_csv as places_csv
from leaderboard.studies.cells import FinishedCell, chosen, groups
from leaderboard.studies.drawing import Dot, Dots, Grid, dots_csv, dots_svg, grid_csv, grid_svg
from leaderboard.studies.findings import Finding
from leaderboard.studies.scores import Changed, Difference, Score, flip_finding, scores_of
from leaderboard.studies.sweep_changes import sweep_findings
from leaderboard.sweeps import SweepFigure, summarize_sweeps
from mimic_eval.records import UserError
from mimic_eval.studies.outputs import Output


@dataclass(frozen=True)
class Drawing:
    """A figure of the page.

    Attributes:
        name: of its files.
        title: what it shows.
        svg: makes its picture.
        csv: its numbers.
        words: it in words.
    """

    name: str
    title: str
    svg: Callable[[], bytes]
    csv: str
    words: str


@dataclass
class Drawn:
    """What an output gave."""

    figures: list[Drawing]
    findings: list[Finding]
    notes: list[str]


def draw_scores(
    output: Output, number: int, title: str, scores: Sequence[Score], differences: Sequence[Difference]
) -> Drawn:
    """Scores as dots, a row for each column, with the printed numbers of the model that was measured."""
    rows: dict[str, dict[str, Dot]] = {}
    printed = {
        (one.label, one.column): float(one.printed) for one in differences if one.difference is not None
    }
    for score in scores:
        if score.value is not None:
            near = printed.get((score.label, score.column))
            dot = Dot(score.value, score.low, score.high, () if near is None else (near / 100,))
            rows.setdefault(score.column, {})[score.label] = dot
    if not rows:
        return Drawn([], [], [f"{title}: no scores to draw"])
    figure = Dots(
        f"{output.kind}_{number}", output.title or title, "score (share)", rows,
        ("Bars: 95 % intervals over docs of this image pool.",),
    )  # fmt: skip
    return Drawn([_dots(figure)], [], [])


def draw_flips(output: Output, number: int, title: str, rows: Sequence[Changed]) -> Drawn:
    """The share of answers that differ from the reference's, by task."""
    found = [flip_finding(one) for one in rows]
    shown: dict[str, dict[str, Dot]] = {}
    for one in found:
        shown.setdefault(one.task, {})[one.label] = Dot(
            one.estimate.estimate, one.estimate.low, one.estimate.high
        )
    if not shown:
        return Drawn([], [], [f"{title}: there is no pair of runs to compare"])
    figure = Dots(
        f"flips_{number}", output.title or f"{title}: answers that change", "share of docs", shown,
        (f"Against {rows[0].reference}; Wilson 95 %.",),
    )  # fmt: skip
    return Drawn([_dots(figure)], [], [])


def _dots(figure: Dots) -> Drawing:
    return Drawing(figure.name, figure.title, lambda: dots_svg(figure), dots_csv(figure), figure.words)


def draw(output: Output, number: int, title: str, cells: Sequence[FinishedCell]) -> Drawn:
    """The figures of an output that is no table.

    Args:
        output: what is drawn.
        number: of the output, for names of files.
        title: of the study.
        cells: all finished ones.
    """
    shown = chosen(cells, output)
    if not shown:
        return Drawn([], [], [f"{output.title or output.kind}: no cell was run for it"])
    makers = {
        "sweep": _sweep, "attention": _attention, "position": _position, "curve": _curve, "grid": _grid,
    }  # fmt: skip
    if output.kind not in makers:
        return Drawn([], [], [])
    return makers[output.kind](output, number, title, shown)


def _sweep(output: Output, number: int, title: str, cells: Sequence[FinishedCell]) -> Drawn:
    drawn = Drawn([], [], [])
    runs = [one.run for one in cells]
    for figure in summarize_sweeps(runs):
        if output.tasks and figure.task not in output.tasks:
            continue
        drawn.figures.append(_of_sweep(figure))
        drawn.findings += sweep_findings(figure, cells)
        drawn.notes += [f"{figure.task}: {note}" for note in (*figure.doublings, *figure.notes)]
    return drawn


def _of_sweep(figure: SweepFigure) -> Drawing:
    lines = [
        f"{', '.join(part for part in (point.line, str(point.series or ''), str(point.x)) if part)}: "
        f"{point.score:.3f}."
        for point in figure.drawn
    ]
    words = f"{figure.title}, by {figure.x}. {' '.join(lines)}"
    return Drawing(figure.task, figure.title, lambda: sweep_svg(figure), sweep_csv(figure), words)


def _attention(output: Output, number: int, title: str, cells: Sequence[FinishedCell]) -> Drawn:
    drawn = Drawn([], [_of_test(one, test, test.name) for one in cells for test in one.shown.tests], [])
    lines: list[tuple[FinishedCell, Plot]] = []
    for one in cells:
        drawn.notes += [f"{one.label}: {note}" for note in one.shown.notes]
        lines += [(one, figure.plot) for figure in one.shown.figures if figure.plot.name == output.plot]
    for base, others in groups(cells, output.reference):
        for one in others:
            summary = compared(base.diagnosis, one.diagnosis)
            drawn.findings += [
                _of_test(one, test, f"change of {test.name.removesuffix(', B - A')} against {base.label}")
                for test in summary.tests
            ]
    if not lines:
        drawn.notes.append(f"{output.plot} could not be drawn: no cell has it (see the notes)")
        return drawn
    plot = _merged(output, lines)
    drawn.figures.append(
        Drawing(
            f"{output.plot}_{number}", plot.title, lambda: render_svg(plot), render_csv(plot), words_of(plot)
        )
    )
    return drawn


def _of_test(one: FinishedCell, test: Test, name: str) -> Finding:
    estimate = Estimate(test.shift, test.low, test.high, f"{test.test}, Hodges-Lehmann")
    tasks = ", ".join(one.cell.tasks)
    return Finding("attention", name, one.cell.setting, one.label, tasks, estimate, test.n, test.holm)


def _merged(output: Output, lines: Sequence[tuple[FinishedCell, Plot]]) -> Plot:
    """The plots of several cells as one; of the entropy only the first rows of each."""
    first = lines[0][1]
    if len(lines) == 1:
        return replace(first, title=output.title or first.title)
    series = []
    for one, plot in lines:
        kept = plot.series[:1] if plot.name in ("entropy", "in_boxes") else plot.series
        series += [
            Series(one.label if len(kept) == 1 else f"{one.label}, {line.label}", line.points)
            for line in kept
        ]
    notes = (f"Each line: {lines[0][1].series[0].label}.",) if first.name in ("entropy", "in_boxes") else ()
    return replace(first, title=output.title or first.title, series=tuple(series), notes=notes, mark=None)


def _position(output: Output, number: int, title: str, cells: Sequence[FinishedCell]) -> Drawn:
    settings = list(dict.fromkeys(one.cell.setting for one in cells))
    reference = output.reference or settings[0]
    ordered = sorted(cells, key=lambda one: one.cell.setting != reference)
    names = _names(ordered)
    try:
        report = robustness([one.arm for one in ordered])
    except UserError as error:
        return Drawn([], [], [f"{title}: {error}"])
    drawn = Drawn([], [], list(report.notes))
    labels = dict(zip(dict.fromkeys(row.run for row in report.rows), names, strict=False))
    kept = [row for row in report.rows if not output.tasks or row.task in output.tasks]
    rows = [replace(row, run=labels[row.run][1]) for row in kept]
    for row, original in zip(rows, kept, strict=True):
        drawn.findings += _order_findings(row, labels[original.run][0])
    for test in report.tests:
        if not output.tasks or test.task in output.tasks:
            setting, label = labels.get(test.b, (test.b, test.b))
            name = f"change of {test.measure} against {names[0][1]}"
            drawn.findings.append(
                Finding("position", name, setting, label, test.task, test.delta, test.n, test.adjusted)
            )
    for task in dict.fromkeys(row.task for row in rows):
        of_task = [row for row in rows if row.task == task]
        if any(row.placed for row in of_task):
            drawn.figures.append(_places(number, task, of_task))
    drawn.figures.append(_dots(_order_dots(number, title, rows)))
    return drawn


def _names(cells: Sequence[FinishedCell]) -> list[tuple[str, str]]:
    """Setting and label of each arm after image orders are merged, in their order."""
    named = dict.fromkeys((one.cell.setting, one.label.removesuffix(f", {one.cell.order}")) for one in cells)
    return list(named)


def _order_findings(row: Robustness, setting: str) -> Iterator[Finding]:
    for name, estimate, n in (
        ("share of docs whose answer changes with the order", row.any_change, row.n),
        ("pairwise disagreement of the orders", row.disagreement, row.n),
        ("slope of the score from the first position to the last", row.slope, row.placed),
    ):
        if estimate is not None:
            yield Finding("position", name, setting, row.run, row.task, estimate, n)


def _places(number: int, task: str, rows: list[Robustness]) -> Drawing:
    title = f"{task}: score by the position of the image that holds the answer"
    words = [f"{title}."]
    for row in rows:
        places = [place for place in row.places if place.n_images is None]
        words.append(f"{row.run}: {', '.join(f'{one.place} {one.score.estimate:.3f}' for one in places)}.")
    name = f"position_{number}_{task}"
    return Drawing(name, title, lambda: places_svg(rows), places_csv(rows), " ".join(words))


def _order_dots(number: int, title: str, rows: Sequence[Robustness]) -> Dots:
    shown: dict[str, dict[str, Dot]] = {}
    for row in rows:
        value = row.any_change
        shown.setdefault(row.task, {})[row.run] = Dot(value.estimate, value.low, value.high)
    heading = f"{title}: answers that change with the order of the images"
    note = "A doc counts if its answer is not the same in all orders; Wilson 95 %."
    return Dots(f"orders_{number}", heading, "share of docs", shown, (note,))


def _varied(cells: Sequence[FinishedCell], output: Output) -> dict[str, list[tuple[FinishedCell, Score]]]:
    """The scores of each task in the cells that have the arguments on the axes."""
    found: dict[str, list[tuple[FinishedCell, Score]]] = {}
    keys = [key for key in (output.x, output.y) if key]
    for one in cells:
        if all(isinstance(one.cell.values.get(key), int | float) for key in keys):
            for score in scores_of([one], replace(output, kind="table")):
                if score.value is not None:
                    found.setdefault(score.task, []).append((one, score))
    return found


def _curve(output: Output, number: int, title: str, cells: Sequence[FinishedCell]) -> Drawn:
    varied = _varied(cells, output)
    if not varied:
        return Drawn([], [], [f"{title}: no run has {output.x}"])
    series = []
    for task, scores in varied.items():
        for setting in dict.fromkeys((one.cell.entry, one.cell.setting) for one, _ in scores):
            points = [
                Point(float(one.cell.values[output.x]), score.value or 0.0, score.low, score.high, score.n)
                for one, score in scores
                if (one.cell.entry, one.cell.setting) == setting
            ]
            series.append(Series(f"{task}, {setting[1]}", tuple(sorted(points))))
    ticks = tuple((x, f"{x:g}") for x in sorted({point.x for line in series for point in line.points}))
    plot = Plot(
        f"curve_{number}", output.title or title, output.x, "score", tuple(series), (), ticks=ticks, top=1.0
    )
    return Drawn(
        [Drawing(plot.name, plot.title, lambda: render_svg(plot), render_csv(plot), words_of(plot))], [], []
    )


def _grid(output: Output, number: int, title: str, cells: Sequence[FinishedCell]) -> Drawn:
    drawn = Drawn([], [], [])
    for task, scores in _varied(cells, output).items():
        figure = Grid(
            f"grid_{number}_{task}", output.title or f"{title}: {task}", output.x, output.y,
            {
                (float(one.cell.values[output.x]), float(one.cell.values[output.y])): Dot(
                    score.value or 0.0, score.low, score.high
                )
                for one, score in scores
            },
            ("Scores in percent; intervals are in the CSV.",),
        )  # fmt: skip
        drawn.figures.append(_of_grid(figure))
    if not drawn.figures:
        drawn.notes.append(f"{title}: no run has {output.x} and {output.y}")
    return drawn


def _of_grid(figure: Grid) -> Drawing:
    return Drawing(figure.name, figure.title, lambda: grid_svg(figure), grid_csv(figure), figure.words)
