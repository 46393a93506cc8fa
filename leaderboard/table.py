"""The table of runs: for a terminal, as Markdown, LaTeX and CSV."""

import csv
import io
from collections.abc import Sequence
from typing import NamedTuple

from leaderboard.sentences import latex_table, task_title
from leaderboard.summary import Row
from leaderboard.terminal import fitted_table, letters, wrapped
from leaderboard.upstream import MEAN_OF_DOCS
from mimic_eval.records import OVER_ORDERS

_OFFICIAL = "_official"
_IDENTITY = ("data", "model", "checkpoint", "mask")
_LONGEST_LABEL = 20  # characters of a run's name in the table
_METRICS = {"f1": "micro F1", f"doc_f1{OVER_ORDERS}": "F1 of a doc over orders"}


class _Line(NamedTuple):
    """A metric of a task of a run, and the official score beside it."""

    row: Row
    official: Row | None


def render_table(rows: Sequence[Row]) -> str:
    """A table of 100 columns, a line for each task and metric of ours with the official score beside it.

    What all rows have in common is in a line above; how the intervals were made, below. Long names of runs
    are above the table too, and letters stand for them.
    """
    lines = _lines(rows)
    common, differing = _identity(rows)
    labels = list(dict.fromkeys(_run(row, differing) for row in rows))
    named = {label: label for label in labels}
    if max(map(len, labels), default=0) > _LONGEST_LABEL:
        named = letters(labels)
    unscored = any(row.unscored for row in rows)
    official = any(line.official for line in lines)
    headers = ["task", *(["run"] if differing else []), "metric", "n", "score, % [95 % interval]"]
    headers += [*(["official, %"] if official else []), *(["unscored"] if unscored else [])]
    body = [
        [
            line.row.task,
            *([named[_run(line.row, differing)]] if differing else []),
            metric_name(line.row.metric),
            _n(line.row),
            _score(line.row),
            *([_number(line.official)] if official else []),
            *([str(line.row.unscored)] if unscored else []),
        ]
        for line in lines
    ]
    narrow = (0, 1, 2) if differing else (0, 1)
    above = "; ".join(f"{name} {value}" for name, value in common.items())
    table = fitted_table(headers, body, narrow=narrow)
    legend = [f"{letter}: {label}" for label, letter in named.items() if letter != label]
    return "\n".join([wrapped([above, *legend]), table, wrapped(_notes(rows, lines))])


def render_markdown(rows: Sequence[Row]) -> str:
    """Every column of every row, official scores too."""
    from tabulate import tabulate

    body = [[str(value).replace("|", "\\|") for value in _full(row)] for row in rows]
    table = tabulate(body, headers=_FULL, disable_numparse=True, tablefmt="pipe")
    return "\n".join([table, "", *(f"- {note}" for note in _notes(rows, _lines(rows))), ""])


def render_csv(rows: Sequence[Row]) -> str:
    """Every field of every row; shares, not percent."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(Row._fields)
    writer.writerows(rows)
    return out.getvalue()


def render_latex(rows: Sequence[Row]) -> str:
    """Rows for booktabs: a row for each run, the headline of each task in a column, in percent."""
    headlines: dict[str, dict[tuple[str, ...], Row]] = {}
    _, differing = _identity(rows)
    for row in rows:
        headlines.setdefault(row.task, {}).setdefault(_key(row), row)
    runs = dict.fromkeys(map(_key, rows))
    first = {key: next(row for row in rows if _key(row) == key) for key in runs}
    body = [
        [
            _run(first[key], differing) or first[key].mask,
            *(_score(found) if (found := of_run.get(key)) else "--" for of_run in headlines.values()),
        ]
        for key in runs
    ]
    counts = [f"{task}: n = {_n(row)}" for task, of_run in headlines.items() for row in of_run.values()]
    note = "\n".join([*dict.fromkeys(counts), *_notes(rows, _lines(rows))])
    return latex_table(["Run", *map(task_title, headlines)], body, note)


def rendered(rows: Sequence[Row]) -> dict[str, str]:
    """The files: name and text."""
    return {
        "report.csv": render_csv(rows),
        "report.md": render_markdown(rows),
        "report.tex": render_latex(rows),
    }


def metric_name(metric: str) -> str:
    """A metric for a reader."""
    base = metric.removesuffix(MEAN_OF_DOCS)
    name = base if metric != base else base.replace("_", " ")
    return _METRICS.get(metric, name + metric.removeprefix(base))


_FULL = ("task", "metric", "n", "score, %", "95 % interval", "unscored", *_IDENTITY)


def _full(row: Row) -> list[str]:
    ends = row.interval
    if row.low is not None and row.high is not None:
        ends = f"{100 * row.low:.1f} to {100 * row.high:.1f}"
    return [row.task, row.metric, _n(row), _number(row), ends, str(row.unscored), *_key(row)]


def _lines(rows: Sequence[Row]) -> list[_Line]:
    lines: list[_Line] = []
    for row in rows:
        at = next(
            (
                i
                for i, line in reversed(list(enumerate(lines)))
                if line.official is None
                and f"{line.row.metric}{_OFFICIAL}" == row.metric
                and (line.row.task, *_key(line.row)) == (row.task, *_key(row))
            ),
            None,
        )
        if at is None:
            lines.append(_Line(row, None))
        else:
            lines[at] = lines[at]._replace(official=row)
    return lines


def _identity(rows: Sequence[Row]) -> tuple[dict[str, str], list[str]]:
    """What all rows have in common, and the names of what differs."""
    values = {name: {getattr(row, name) for row in rows} for name in _IDENTITY}
    common = {name: next(iter(found)) for name, found in values.items() if len(found) == 1}
    return common, [name for name in _IDENTITY if name not in common]


def _key(row: Row) -> tuple[str, ...]:
    return tuple(getattr(row, name) for name in _IDENTITY)


def _run(row: Row, differing: Sequence[str]) -> str:
    return ", ".join(getattr(row, name) for name in differing)


def _n(row: Row) -> str:
    return str(row.n) if row.n + row.unscored >= row.docs else f"{row.n} of {row.docs}"


def _number(row: Row | None) -> str:
    return "-" if row is None or row.score is None else f"{100 * row.score:.1f}"


def _score(row: Row) -> str:
    if row.low is None or row.high is None:
        return _number(row)
    return f"{_number(row)} [{100 * row.low:.1f}, {100 * row.high:.1f}]"


def _notes(rows: Sequence[Row], lines: Sequence[_Line]) -> list[str]:
    """How the intervals were made, and what the rows leave out."""
    kinds = sorted({row.interval for row in rows if row.low is not None})
    notes = []
    if kinds:
        notes.append(
            f"Intervals: {', '.join(kinds)}; over docs of this image pool. They do not cover "
            "new images: docs share images."
        )
    without: dict[str, list[str]] = {}
    for line in lines:
        if line.row.low is None:
            without.setdefault(line.row.interval, []).append(
                f"{line.row.task} ({metric_name(line.row.metric)})"
            )
    for reason, tasks in without.items():
        notes.append(f"Without an interval: {', '.join(dict.fromkeys(tasks))}: {reason}.")
    if any(row.n + row.unscored < row.docs for row in rows):
        notes.append("n of a limited run: scored docs of the docs that the task has.")
    if any(row.unscored for row in rows):
        notes.append("Unscored docs have no answer: they are left out of n and of every score.")
    if any(row.metric.endswith(MEAN_OF_DOCS) for row in rows):
        notes.append(f"{MEAN_OF_DOCS.strip()}: lmms-eval reports another aggregate of this metric.")
    if any("(random)" in row.checkpoint for row in rows):
        notes.append("checkpoint (random): untrained weights; answers are noise, scores mean nothing.")
    if any("(trained)" in row.checkpoint for row in rows):
        notes.append(
            "checkpoint (trained): a tiny model trained on glyph scenes; no evidence about other models."
        )
    if any(row.data == "embedded" for row in rows):
        notes.append("data embedded: the packaged glyph scenes, not COCO pictures.")
    return notes
