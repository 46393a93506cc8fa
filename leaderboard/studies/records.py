"""All numbers of a study as one CSV."""

import csv
import io
from collections.abc import Iterator

from leaderboard.studies.summary import StudyPage

COLUMNS = (
    "kind", "setting", "reference", "task", "what", "n", "unscored", "value", "low", "high", "method", "p",
    "p_holm", "model", "reported", "difference", "attainable", "note",
)  # fmt: skip


def study_csv(page: StudyPage) -> str:
    """Scores, differences to reported numbers, changes, claims and findings, one a line.

    ``value``, ``low`` and ``high`` are shares; ``reported`` is as printed, ``difference`` in its unit.
    """
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n", restval="")
    writer.writeheader()
    for row in _rows(page):
        writer.writerow({key: _text(value) for key, value in row.items()})
    return out.getvalue()


def _rows(page: StudyPage) -> Iterator[dict[str, object]]:
    for table in page.tables:
        for (label, column), score in table.scores.items():
            yield {
                "kind": "score", "setting": label, "task": score.task, "what": f"{column}, {score.metric}",
                "n": score.n, "unscored": score.unscored, "value": score.value, "low": score.low,
                "high": score.high, "method": score.interval,
            }  # fmt: skip
        for (label, column), numbers in table.differences.items():
            for one in numbers:
                yield {
                    "kind": "reported", "setting": label, "what": column, "model": one.model,
                    "reported": one.printed, "difference": one.difference, "low": one.low, "high": one.high,
                    "attainable": one.check.verdict, "note": one.why_not,
                }  # fmt: skip
    for change in page.changes:
        row = change.row
        reported = "; ".join(f"{model} {value:+.1f}" for model, value in change.reported)
        yield {
            "kind": "change", "setting": change.label, "reference": change.reference, "task": row.task,
            "what": row.metric, "n": row.n, "value": row.delta.estimate, "low": row.delta.low,
            "high": row.delta.high, "method": f"{row.test}; {row.delta.method}", "p": row.pvalue,
            "p_holm": row.adjusted, "reported": reported,
        }  # fmt: skip
    for found in (one for one in page.findings if one.of != "change"):
        yield {
            "kind": found.of, "setting": found.label, "task": found.task, "what": found.name, "n": found.n,
            "value": found.estimate.estimate, "low": found.estimate.low, "high": found.estimate.high,
            "method": found.estimate.method, "p": found.pvalue,
        }  # fmt: skip
    for claim in page.claims:
        finding = claim.finding
        yield {
            "kind": "claim", "setting": finding.label if finding else "", "what": claim.claim.says,
            "task": finding.task if finding else "", "note": claim.verdict,
        }  # fmt: skip


def _text(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
