"""A robustness report as text, JSON, CSV, and a figure of the scores by position."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from leaderboard.equivalence import Verdict
from leaderboard.measures import Estimate
from leaderboard.robustness import LETTER, PLACES, PRIMARY, Robustness, RobustnessReport

_HEADERS = (
    "task",
    "run",
    "n",
    "score",
    "right under all orders",
    "any change",
    "pairwise disagreement",
    "slope first to last",
    "last - first",
)
_TEST_HEADERS = ("task", "measure", "A", "B", "n", "B - A", "test", "p", "p (Holm)")


def render_text(report: RobustnessReport) -> str:
    """For a terminal."""
    from tabulate import tabulate

    body = [(row.task, row.run, row.n, *map(_text, _estimates(row))) for row in report.rows]
    parts = [tabulate(body, headers=_HEADERS, disable_numparse=True), ""]
    for row in report.rows:
        parts.append(f"{row.task}, {row.run}: {_left_out(row)}.")
    if report.tests:
        tests = [
            (t.task, t.measure, t.a, t.b, t.n, _text(t.delta), t.test, _p(t.pvalue), _p(t.adjusted))
            for t in report.tests
        ]
        parts += ["", tabulate(tests, headers=_TEST_HEADERS, disable_numparse=True)]
        family = report.tests[0].family
        parts.append(
            f"Holm's family: {family} test{'s' * (family != 1)}, the {PRIMARY} of each task and run; "
            "the other measures describe."
        )
    for effect in report.effects:
        said = effect.verdict.sentence if effect.verdict else f"not tested: {effect.reason}"
        parts.append(f"{effect.task}, {effect.run}, {effect.effect}: {said}.")
    if tested := [effect for effect in report.effects if effect.verdict]:
        parts.append(
            "Equivalence: two one-sided tests at 5 % each of order effects on the score, within docs; one "
            f"Holm family of {len(tested)} test{'s' * (len(tested) != 1)}, two for each task "
            "and run whose docs determine them."
        )
    parts.append("95 % intervals over docs of this image pool; all orders of a doc count as one doc.")
    return "\n".join([*parts, *report.notes])


def render_json(report: RobustnessReport) -> str:
    """Every number."""
    return json.dumps(asdict(report, dict_factory=_plain), indent=1) + "\n"


def render_csv(rows: Sequence[Robustness]) -> str:
    """One line for each run, number of images (empty: all) and position."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["task", "run", "n_images", "place", "docs", "score", "low", "high", "interval"])
    for row in rows:
        for score in row.places:
            writer.writerow([row.task, row.run, score.n_images or "", score.place, score.docs, *score.score])
    return out.getvalue()


def render_svg(rows: Sequence[Robustness]) -> bytes:
    """The score by the relative position of the image that holds the answer, with bands, a line for each run.

    Args:
        rows: of one task.
    """
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.hashsalt"] = "mimic-eval"
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for number, row in enumerate(rows):
        points = [point for point in row.places if point.n_images is None]
        x = [PLACES.index(point.place) for point in points]
        label = f"{row.run} ({row.placed} docs)".replace("$", r"\$")
        axes.plot(x, [point.score.estimate for point in points], marker="os^Dv"[number % 5], label=label)
        low = [point.score.low or 0.0 for point in points]
        high = [1.0 if point.score.high is None else point.score.high for point in points]
        axes.fill_between(x, low, high, alpha=0.2)
    axes.set(
        xticks=range(len(PLACES)),
        xticklabels=PLACES,
        ylim=(0, 1),
        xlabel=f"position of the {rows[0].about} (nearest quarter)",
        ylabel="score, 95 % band over docs",
        title=rows[0].task,
    )
    axes.legend()
    out = io.BytesIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def _plain(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {key: value._asdict() if isinstance(value, Estimate | Verdict) else value for key, value in pairs}


def _estimates(row: Robustness) -> tuple[Estimate | None, ...]:
    return row.score, row.consistent, row.any_change, row.disagreement, row.slope, row.recency


def _text(estimate: Estimate | None) -> str:
    if estimate is None:
        return "-"
    return f"{estimate.estimate:.3f}" + (
        "" if estimate.low is None else f" [{estimate.low:.3f}, {estimate.high:.3f}]"
    )


def _p(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _left_out(row: Robustness) -> str:
    parts = [f"orders {row.orders}"]
    parts += [f"{row.unscored} docs with an unscored order are left out"] if row.unscored else []
    parts += [f"{row.single} docs with one order are left out"] if row.single else []
    if row.excluded:
        why = ", ".join(f"{count} {reason}" for reason, count in row.excluded.items())
        parts.append(f"docs without another order are not in the task: {why}")
    if row.about == LETTER:
        parts.append(f"positions: the letter of the right option in {row.placed} docs")
    else:
        parts.append(
            f"positions: {row.placed} docs with all targets in one image, {row.spread_out} others left out"
        )
    if row.slope is not None:
        parts.append(f"slope: {row.slope.method}")
    if row.rho is not None:
        parts.append(f"Spearman's rho of position and score {_text(row.rho)} ({row.rho.method})")
    return "; ".join(parts)
