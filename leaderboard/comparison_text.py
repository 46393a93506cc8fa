"""A comparison as text, Markdown, LaTeX, CSV and JSON."""

import csv
import io
import json
from collections import Counter
from math import inf
from typing import Any

from leaderboard.comparison import Comparison, TaskComparison
from leaderboard.equivalence import Verdict
from leaderboard.sentences import (
    latex_table,
    p_text,
    p_words,
    points_text,
    share_text,
    task_title,
)
from leaderboard.terminal import fitted_table, letters, wrapped
from leaderboard.upstream import MEAN_OF_DOCS

_HEADERS = (
    "task",
    "metric",
    "n",
    "A",
    "B",
    "score of A, %",
    "score of B, %",
    "B - A (points)",
    "p",
    "p (Holm)",
    "flips, %",
    "unscored A, B",
)
_POOL = "Intervals and tests are over docs of this image pool"


def render_text(comparison: Comparison, folder: str) -> str:
    """For a terminal: 100 columns.

    Args:
        comparison: to show.
        folder: of the files that hold the rest.
    """
    letter = letters([comparison.baseline, *comparison.others])
    legend = [f"{sign}: {label}" for label, sign in letter.items()]
    several = len(comparison.others) > 1
    headers = ["task", *(["run"] if several else []), "n", "A, %", "run, %" if several else "B, %"]
    headers += ["difference, points", "p (Holm)", "verdict"]
    body = []
    names = row_names(comparison)
    for row in comparison.rows:
        name = names[row.task, row.metric]
        scores = [f"{100 * score.estimate:.1f}" for score in (row.score_a, row.score_b)]
        run = [letter[row.b]] if several else []
        body.append(
            [name, *run, str(row.n), *scores, points_text(row.delta), p_text(row.adjusted), row.verdict]
        )
    table = fitted_table(headers, body)
    return "\n".join([wrapped(legend), "", table, "", wrapped(summary(comparison, folder))])


def summary(comparison: Comparison, folder: str) -> list[str]:
    """The sentences, and what the numbers are of: what a terminal shows below a table."""
    lines = [f"{line}." for row in comparison.rows for line in (row.sentence, *row.further)]
    lines += [f"{row.equivalence.sentence}." for row in comparison.rows if row.equivalence]
    lines += ["", _family(comparison)]
    lines += _equivalence_family(comparison)
    about = f"{_POOL}."
    if not any(row.new_images.low is not None for row in comparison.rows):
        about += " For new images nothing can be estimated: the reasons are in the files."
    lines.append(about)
    lines.append(
        f"Effect sizes, flips and the tests' exact names are in {folder}/compare.md, .csv and .json; LaTeX "
        "rows in compare.tex."
    )
    return [*lines, *comparison.notes]


def render_markdown(comparison: Comparison) -> str:
    """A table and a list."""
    from tabulate import tabulate

    table = tabulate(
        [[cell.replace("|", "\\|") for cell in row] for row in _body(comparison)],
        headers=_HEADERS,
        disable_numparse=True,
        tablefmt="pipe",
    )
    lines = [f"- {line}" for line in explained(comparison)]
    return "\n".join(
        [f"# {comparison.baseline} against {', '.join(comparison.others)}", "", table, "", *lines, ""]
    )


def render_latex(comparison: Comparison) -> str:
    """Rows for booktabs: scores in percent, the difference in points with its interval, Holm's p."""
    several, first = len(comparison.others) > 1, comparison.rows[0]
    headers = ["Task", *(["Run"] if several else []), "n", first.name_a]
    headers += ["Score" if several else first.name_b, "Difference [95 % CI]", "p (Holm)"]
    rows = []
    names = row_names(comparison)
    for row in comparison.rows:
        title = task_title(row.task) + names[row.task, row.metric].removeprefix(row.task)
        scores = [f"{100 * score.estimate:.1f}" for score in (row.score_a, row.score_b)]
        run = [row.name_b] if several else []
        p = p_words(row.adjusted).removeprefix("p ").removeprefix("= ")
        rows.append([title, *run, _n(row), *scores, points_text(row.delta), p])
    lines = [f"{line}." for row in comparison.rows for line in (row.sentence, *row.further)]
    note = "\n".join([*lines, _family(comparison), f"{_POOL}."])
    return latex_table(headers, rows, note)


def _n(row: TaskComparison) -> str:
    return str(row.n) if row.units == row.n else f"{row.n} ({row.units} sets)"


def render_json(comparison: Comparison) -> str:
    """Every number."""
    return (
        json.dumps(
            {
                "baseline": comparison.baseline,
                "others": comparison.others,
                "rows": [finite(row.record()) for row in comparison.rows],
                "notes": comparison.notes,
            },
            indent=1,
            allow_nan=False,
        )
        + "\n"
    )


def finite(value: Any) -> Any:
    """A record as JSON can hold it: JSON has no infinity, which an odds ratio can be: the word."""
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    return "infinite" if value == inf else value


def render_csv(comparison: Comparison) -> str:
    """One line for each row; shares, not points."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    estimates = ("score_a", "score_b", "delta", "new_images", "flips")
    plain = ("task", "metric", "a", "b", "n", "unscored_a", "unscored_b")
    tests = ("test", "pvalue", "adjusted", "family", "verdict", "detectable", "units")
    parts = ("estimate", "low", "high", "method")
    equivalence = [name for name in Verdict._fields if name != "sentence"]
    writer.writerow(
        [
            *plain,
            *(f"{name}_{part}" for name in estimates for part in parts),
            *tests,
            *(f"equivalence_{name}" for name in equivalence),
            "sentence",
        ]
    )
    for row in comparison.rows:
        numbers = [value for name in estimates for value in getattr(row, name)]
        texts = [getattr(row, name) for name in plain]
        judged = [getattr(row.equivalence, name, None) for name in equivalence]
        writer.writerow([*texts, *numbers, *(getattr(row, name) for name in tests), *judged, row.sentence])
    return out.getvalue()


def _body(comparison: Comparison) -> list[list[str]]:
    return [
        [
            row.task,
            row.metric,
            _n(row),
            row.a,
            row.b,
            share_text(row.score_a),
            share_text(row.score_b),
            points_text(row.delta),
            p_text(row.pvalue),
            p_text(row.adjusted),
            share_text(row.flips),
            f"{row.unscored_a}, {row.unscored_b}",
        ]
        for row in comparison.rows
    ]


def row_names(comparison: Comparison) -> dict[tuple[str, str], str]:
    """What a line calls each task and metric: the task, with the metric where the task has several."""
    keys = dict.fromkeys((row.task, row.metric) for row in comparison.rows)
    several = Counter(task for task, _ in keys)
    return {
        (task, metric): f"{task} {metric.removesuffix(MEAN_OF_DOCS)}" if several[task] > 1 else task
        for task, metric in keys
    }


def explained(comparison: Comparison) -> list[str]:
    """In words: every row, then how the numbers were made."""
    names = [row_names(comparison)[row.task, row.metric] for row in comparison.rows]
    named = list(zip(names, comparison.rows, strict=True))
    lines = [f"{line}." for row in comparison.rows for line in (row.sentence, *row.further)]
    lines += [f"{row.equivalence.sentence}." for row in comparison.rows if row.equivalence]
    lines += [f"{name}, {row.b}: {_more(row)}." for name, row in named]
    lines += [_family(comparison), *_equivalence_family(comparison)]
    methods = sorted(
        {f"{estimate.method}" for row in comparison.rows for estimate in (row.score_a, row.delta)}
    )
    lines.append(f"95 % intervals over docs of this image pool: {'; '.join(methods)}.")
    return [*lines, *comparison.notes]


def _family(comparison: Comparison) -> str:
    family = comparison.rows[0].family if comparison.rows else 0
    return (
        f"Holm's family: {family} test{'s' * (family != 1)}, one for each task and run of this comparison. "
        "Intervals go with the unadjusted p."
    )


def _equivalence_family(comparison: Comparison) -> list[str]:
    judged = sum(row.equivalence is not None for row in comparison.rows)
    return [
        "Equivalence: two one-sided tests at 5 % each, p < 0.05 exactly where the 90 % interval lies inside "
        f"the margin; a second Holm family of {judged} test{'s' * (judged != 1)}, one for each task and run."
    ] * bool(judged)


def _more(row: TaskComparison) -> str:
    effects = [
        f"{name} {p_text(effect.estimate) if ' p (' in name else f'{effect.estimate:.2f}'}"
        + ("" if effect.low is None else f" [{effect.low:.2f}, {effect.high:.2f}]")
        for name, effect in row.effects.items()
    ]
    tested = row.test if row.units == row.n else f"{row.test}, {row.units} matched sets"
    parts = [f"{tested}, p = {p_text(row.pvalue)}", *effects]
    if row.flip_bound:
        bounds = ", ".join(f"{name} {100 * value:.1f} %" for name, value in row.flip_bound.items())
        parts.append(f"no answer changed (at most: {bounds}{' of the sets' * (row.units != row.n)})")
    new = row.new_images
    parts.append(
        f"for new images: {new.method}"
        if new.low is None
        else f"for new images {points_text(new)} ({new.method})"
    )
    return "; ".join(parts)


def rendered(comparison: Comparison) -> dict[str, str]:
    """The files: name and text."""
    return {
        "compare.json": render_json(comparison),
        "compare.md": render_markdown(comparison),
        "compare.csv": render_csv(comparison),
        "compare.tex": render_latex(comparison),
    }
