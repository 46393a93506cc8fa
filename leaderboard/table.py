"""The table of runs, as text."""

from collections.abc import Sequence

from leaderboard.summary import Row
from leaderboard.upstream import MEAN_OF_DOCS

_HEADERS = (
    "task",
    "metric",
    "n",
    "score",
    "95 % interval",
    "unscored",
    "data",
    "model",
    "checkpoint",
    "mask",
)


def render_table(rows: Sequence[Row]) -> str:
    """A table with one line for each row, and below it how the intervals were made."""
    from tabulate import tabulate

    body = [
        (
            row.task,
            row.metric,
            row.n if row.n + row.unscored >= row.docs else f"{row.n} of {row.docs}",
            "-" if row.score is None else f"{row.score:.3f}",
            row.interval if row.low is None or row.high is None else f"{row.low:.3f} - {row.high:.3f}",
            row.unscored,
            row.data,
            row.model,
            row.checkpoint,
            row.mask,
        )
        for row in rows
    ]
    kinds = sorted({row.interval for row in rows if row.low is not None})
    notes = []
    if kinds:
        notes.append(
            f"Intervals: {', '.join(kinds)}; over docs of this image pool. They do not cover "
            "new images: docs share images."
        )
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
        notes.append("data = embedded: the packaged glyph scenes, not COCO pictures.")
    return "\n".join([tabulate(body, headers=_HEADERS, disable_numparse=True), *notes])
