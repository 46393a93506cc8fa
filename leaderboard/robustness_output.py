"""A robustness report as text, Markdown, LaTeX, JSON and CSV."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from leaderboard.equivalence import Verdict
from leaderboard.measures import Estimate
from leaderboard.robustness import ENTRY, LETTER, Robustness, RobustnessReport
from leaderboard.robustness_tests import PRIMARY
from leaderboard.sentences import latex_table, p_text, points_text, share_text, task_title
from leaderboard.terminal import fitted_table, letters, wrapped

_HEADERS = (
    "task",
    "run",
    "n",
    "score, %",
    "right under all orders, %",
    "any change, %",
    "pairwise disagreement, %",
    "slope first to last, points",
    "last - first, points",
)
_TEST_HEADERS = ("task", "measure", "A", "B", "n", "B - A, points", "test", "p", "p (Holm)")


def render_text(report: RobustnessReport, folder: str) -> str:
    """For a terminal: 100 columns.

    Args:
        report: to show.
        folder: of the files that hold the rest.
    """
    letter = letters(list(dict.fromkeys(row.run for row in report.rows)))
    headers = ("task", "run", "n", "score, %", "orders that disagree, %", "right in all, %")
    body = [
        (
            row.task,
            letter[row.run],
            str(row.n),
            *map(share_text, (row.score, row.disagreement, row.consistent)),
        )
        for row in report.rows
    ]
    legend = [f"{sign}: {label}" for label, sign in letter.items()]
    parts = [wrapped(legend), "", fitted_table(headers, body), ""]
    if report.tests:
        parts += [wrapped([f"{test.sentence}." for test in report.tests if test.pvalue is not None]), ""]
        described = [
            (test.task, test.measure, letter[test.b], points_text(test.delta))
            for test in report.tests
            if test.pvalue is None
        ]
        header = ("task", "describes", "run", f"run - {letter[report.tests[0].a]}, points")
        parts += [fitted_table(header, described), ""]
    counted = {(row.task, letter[row.run]): _counted(row) for row in report.rows}
    alike = dict.fromkeys(counted.values())
    lines = [f"{task}, {sign}: {text}." for (task, sign), text in counted.items()]
    lines = [f"All tasks and runs: {next(iter(alike))}."] if len(alike) == 1 else lines
    lines += [f"{row.task}, {letter[row.run]}: {text}." for row in report.rows if (text := _by_position(row))]
    lines += _notes(report)
    lines.append(
        f"Positions, slopes, any change and the tests' exact names are in {folder}/robustness.md and .json; "
        "LaTeX rows in robustness.tex."
    )
    return "\n".join([*parts, wrapped([*lines, *report.notes])])


def render_markdown(report: RobustnessReport) -> str:
    """Every measure and difference, and how the numbers were made."""
    from tabulate import tabulate

    body = [(row.task, row.run, row.n, *_measures(row)) for row in report.rows]
    parts = ["# Robustness to order", "", _pipe(tabulate, body, _HEADERS), ""]
    if report.tests:
        tests = [
            (t.task, t.measure, t.a, t.b, t.n, points_text(t.delta), t.test, _p(t.pvalue), _p(t.adjusted))
            for t in report.tests
        ]
        parts += [_pipe(tabulate, tests, _TEST_HEADERS), ""]
    lines = [f"{test.sentence}." for test in report.tests]
    for row in report.rows:
        said = filter(None, (_counted(row), _positions(row), _by_position(row)))
        lines.append(f"{row.task}, {row.run}: {'; '.join(said)}.")
    return "\n".join([*parts, *(f"- {line}" for line in (*lines, *_notes(report), *report.notes)), ""])


def render_latex(report: RobustnessReport) -> str:
    """Rows for booktabs, a row for each task and run."""
    several = len({row.run for row in report.rows}) > 1
    headers = ["Task", *(["Run"] if several else []), "n", "Score", "Orders that disagree", "Right in all"]
    rows = [
        [
            task_title(row.task),
            *([row.run] if several else []),
            str(row.n),
            *map(share_text, (row.score, row.disagreement, row.consistent)),
        ]
        for row in report.rows
    ]
    return latex_table(headers, rows, "\n".join([*(f"{t.sentence}." for t in report.tests), *_notes(report)]))


def _pipe(tabulate: Callable[..., str], body: Sequence[Sequence[Any]], headers: Sequence[str]) -> str:
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in body]
    return tabulate(cells, headers=headers, disable_numparse=True, tablefmt="pipe")


def _notes(report: RobustnessReport) -> list[str]:
    """What the numbers are of."""
    lines = []
    if report.tests:
        family = report.tests[0].family
        lines.append(
            f"Holm's family: {family} test{'s' * (family != 1)}, the {PRIMARY} of each task and run; "
            "the other measures describe."
        )
    for effect in report.effects:
        name = f"{task_title(effect.task)}, {effect.run}, {effect.effect}"
        lines.append(
            f"{effect.verdict.sentence if effect.verdict else f'{name}: not tested: {effect.reason}'}."
        )
    if tested := [effect for effect in report.effects if effect.verdict]:
        lines.append(
            "Equivalence: two one-sided tests at 5 % each of order effects on the score, within docs; one "
            f"Holm family of {len(tested)} test{'s' * (len(tested) != 1)}, two for each task "
            "and run whose docs determine them."
        )
    lines.append("95 % intervals over docs of this image pool; all orders of a doc count as one doc.")
    return lines


def render_json(report: RobustnessReport) -> str:
    """Every number."""
    return json.dumps(asdict(report, dict_factory=_plain), indent=1) + "\n"


def measures_csv(rows: Sequence[Robustness]) -> str:
    """One line for each task, run and measure; shares, not points."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["task", "run", "measure", "n", *Estimate._fields])
    for row in rows:
        for name in ("score", "consistent", "any_change", "disagreement", "slope", "rho", "recency"):
            if (estimate := getattr(row, name)) is not None:
                n = row.placed if name in ("slope", "rho", "recency") else row.n
                writer.writerow([row.task, row.run, name, n, *estimate])
    return out.getvalue()


def render_csv(rows: Sequence[Robustness]) -> str:
    """One line for each run, number of images (empty: all) and position."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["task", "run", "n_images", "place", "docs", "score", "low", "high", "interval"])
    for row in rows:
        for score in row.places:
            writer.writerow([row.task, row.run, score.n_images or "", score.place, score.docs, *score.score])
    return out.getvalue()


def _plain(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {key: value._asdict() if isinstance(value, Estimate | Verdict) else value for key, value in pairs}


def _measures(row: Robustness) -> list[str]:
    shares = [share_text(one) for one in (row.score, row.consistent, row.any_change, row.disagreement)]
    return shares + ["-" if one is None else points_text(one) for one in (row.slope, row.recency)]


def _p(value: float | None) -> str:
    return "-" if value is None else p_text(value)


def _counted(row: Robustness) -> str:
    parts = [f"orders {row.orders}"]
    parts += [f"the {row.n} docs are {row.units} matched sets"] if row.units < row.n else []
    parts += [f"{row.unscored} docs with an unscored order are left out"] if row.unscored else []
    parts += [f"{row.single} docs with one order are left out"] if row.single else []
    if row.excluded:
        why = ", ".join(f"{count} {reason}" for reason, count in row.excluded.items())
        parts.append(f"docs without another order are not in the task: {why}")
    return "; ".join(parts)


def _positions(row: Robustness) -> str:
    if row.about == ENTRY:
        parts = [f"positions: each image of {row.placed} docs"]
    elif row.about == LETTER:
        parts = [f"positions: the letter of the right option in {row.placed} docs"]
    else:
        parts = [
            f"positions: {row.placed} docs with all targets in one image, {row.spread_out} others left out"
        ]
    if row.slope is not None:
        parts.append(f"slope: {row.slope.method}")
    if row.rho is not None:
        ends = "" if row.rho.low is None else f" [{row.rho.low:.3f}, {row.rho.high:.3f}]"
        rho = f"{row.rho.estimate:.3f}{ends}"
        parts.append(f"Spearman's rho of position and score {rho} ({row.rho.method})")
    return "; ".join(parts)


def rendered(report: RobustnessReport) -> dict[str, str]:
    """The files about the report as one: name and text."""
    return {
        "robustness.json": render_json(report),
        "robustness.md": render_markdown(report),
        "robustness.tex": render_latex(report),
        "robustness.csv": measures_csv(report.rows),
    }


def _by_position(row: Robustness) -> str:
    """The score at each position and how much they deviate, of the order suite; empty for other tasks."""
    deviation = row.deviation
    if deviation is None:
        return ""
    curves: dict[int, list[str]] = {}
    for point in row.places:
        if point.n_images is not None:
            curves.setdefault(point.n_images, []).append(f"{point.place}: {100 * point.score.estimate:.1f}")
    scores = "; ".join(f"of {n} images {', '.join(values)}" for n, values in curves.items())
    text = f"score in % by position of the {row.about}, {scores}"
    if deviation.estimate is None or deviation.expected is None:
        return text
    return (
        f"{text}; relative standard deviation over positions {100 * deviation.estimate:.1f} % (where "
        f"positions make no difference: {100 * deviation.expected:.1f} %, the mean of {deviation.draws} "
        f"shuffles within docs, seed {deviation.seed})"
    )
