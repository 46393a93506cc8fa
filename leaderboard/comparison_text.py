"""A comparison as text, Markdown, CSV and JSON."""

import csv
import io
import json
from collections import Counter
from collections.abc import Sequence
from math import inf
from typing import Any

from leaderboard.comparison import Comparison, TaskComparison
from leaderboard.equivalence import Verdict
from leaderboard.measures import Estimate, p_text
from leaderboard.upstream import MEAN_OF_DOCS

_HEADERS = (
    "task",
    "metric",
    "n",
    "A",
    "B",
    "score of A",
    "score of B",
    "B - A (points)",
    "p",
    "p (Holm)",
    "flips",
    "unscored A, B",
)


def render_text(comparison: Comparison) -> str:
    """For a terminal."""
    from tabulate import tabulate

    table = tabulate(_body(comparison), headers=_HEADERS, disable_numparse=True)
    return "\n".join([table, "", *explained(comparison)])


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
            str(row.n),
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
    lines = [f"{name}: {row.sentence}." for name, row in named]
    judged = [row for row in comparison.rows if row.equivalence]
    lines += [
        f"{name}, {row.b} against {row.a}: {row.equivalence.sentence}."
        for name, row in named
        if row.equivalence
    ]
    lines += [f"{name}: {_doublings(row)}." for name, row in named if row.doublings]
    lines += [f"{name}, {row.b}: {_more(row)}." for name, row in named]
    family = comparison.rows[0].family if comparison.rows else 0
    lines.append(
        f"Holm's family: {family} test{'s' * (family != 1)}, one for each task and run of this comparison. "
        "Intervals go with the unadjusted p; effect sizes describe."
    )
    if judged:
        lines.append(
            "Equivalence: two one-sided tests at 5 % each, p < 0.05 exactly where the 90 % interval lies "
            f"inside the margin; a second Holm family of {len(judged)} test{'s' * (len(judged) != 1)}, one "
            "for each task and run."
        )
    methods = sorted(
        {f"{estimate.method}" for row in comparison.rows for estimate in (row.score_a, row.delta)}
    )
    lines.append(f"95 % intervals over docs of this image pool: {'; '.join(methods)}.")
    return [*lines, *comparison.notes]


def _doublings(row: TaskComparison) -> str:
    doublings = row.doublings
    assert doublings is not None
    return (
        f"per doubling of N within {doublings.sets} matched sets: {row.a} {points_text(doublings.a)}, "
        f"{row.b} {points_text(doublings.b)}, {row.b} - {row.a} {points_text(doublings.difference)} points"
    )


def _more(row: TaskComparison) -> str:
    effects = [
        f"{name} {p_text(effect.estimate) if ' p (' in name else f'{effect.estimate:.2f}'}"
        + ("" if effect.low is None else f" [{effect.low:.2f}, {effect.high:.2f}]")
        for name, effect in row.effects.items()
    ]
    parts = [row.test if row.units == row.n else f"{row.test}, {row.units} matched sets", *effects]
    if row.flip_bound:
        bounds = ", ".join(f"{name} {100 * value:.1f} %" for name, value in row.flip_bound.items())
        parts.append(f"no answer changed (at most: {bounds})")
    new = row.new_images
    parts.append(
        f"for new images: {new.method}"
        if new.low is None
        else f"for new images {points_text(new)} ({new.method})"
    )
    return "; ".join(parts)


def share_text(estimate: Estimate) -> str:
    """A share with its interval."""
    return f"{estimate.estimate:.3f}" + (
        "" if estimate.low is None else f" [{estimate.low:.3f}, {estimate.high:.3f}]"
    )


def points_text(estimate: Estimate) -> str:
    """A difference in points with its interval."""
    if estimate.low is None or estimate.high is None:
        return f"{100 * estimate.estimate:+.1f}"
    return f"{100 * estimate.estimate:+.1f} [{100 * estimate.low:+.1f}, {100 * estimate.high:+.1f}]"


def rendered(comparison: Comparison) -> Sequence[tuple[str, str]]:
    """The files: name and text."""
    return (
        ("compare.json", render_json(comparison)),
        ("compare.md", render_markdown(comparison)),
        ("compare.csv", render_csv(comparison)),
    )
