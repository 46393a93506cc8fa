"""A study as Markdown, and for a terminal."""

from collections.abc import Callable, Sequence

from leaderboard.measures import Estimate
from leaderboard.studies.findings import CheckedClaim
from leaderboard.studies.scores import Changed, Score
from leaderboard.studies.summary import ScoreTable, StudyPage
from leaderboard.terminal import fitted_table, wrapped

_MOST = 20
_CLAIM = ("the paper, in our words", "measured", "value", "n", "verdict")
_CHANGE = ("change", "task", "n", "points", "reported", "answers that differ", "p (Holm)", "verdict")


def render_markdown(page: StudyPage) -> str:
    """Claims, scores with the reported ones, changes, what is missing and what is not comparable."""
    return "\n\n".join(_parts(page, _pipes)) + "\n"


def render_text(page: StudyPage) -> str:
    """The same for a terminal: 100 columns."""
    heading, *parts = _parts(page, _fitted)
    return "\n\n".join([heading.removeprefix("# "), *parts])


_Table = Callable[[Sequence[str], Sequence[Sequence[str]]], str]


def _parts(page: StudyPage, table: _Table) -> list[str]:
    study = page.study
    parts = [f"# {study.title}", f"`{study.id}`: {study.figure} of {study.paper}."]
    parts += [f"Checkpoint: {text}." for text in page.warnings]
    if page.claims:
        parts.append(table(_CLAIM, list(map(_claim, page.claims))))
    parts += [_scores(scores, table) for scores in page.tables]
    if page.changes:
        parts.append(table(_CHANGE, list(map(_change, page.changes))))
    measured = [one for one in page.findings if one.of not in ("change", "flips")]
    if measured and not any(one.finding for one in page.claims):
        rows = [
            (one.label, one.task, one.name, _signed(one.estimate), str(one.n)) for one in measured[:_MOST]
        ]
        parts.append(table(("setting", "task", "measured", "value", "n"), rows))
        if len(measured) > _MOST:
            parts.append(f"{len(measured) - _MOST} further measurements are on the page.")
    limits = [*study.caveats, *(f"Not run: {text}." for text in page.missing)]
    if limits:
        lines = ["Not comparable:", *(f"- {text}" for text in limits)]
        parts.append("\n".join(lines) if table is _pipes else wrapped(lines))
    parts.append(table(*_costs(page)))
    return parts


def _claim(one: CheckedClaim) -> tuple[str, str, str, str, str]:
    found = one.finding
    if found is None:
        return one.claim.says, "-", "-", "-", one.verdict
    measured = f"{found.label}, {found.task}: {found.name}"
    return one.claim.says, measured, _signed(found.estimate), str(found.n), one.verdict


def _change(one: Changed) -> tuple[str, ...]:
    row = one.row
    return (
        f"{one.label} - {one.reference}",
        row.task,
        str(row.n),
        _points(row.delta),
        "; ".join(f"{value:+.1f} {model}" for model, value in one.reported) or "-",
        _share(row.flips),
        f"{row.adjusted:.3g}",
        row.verdict,
    )


def _scores(scores: ScoreTable, table: _Table) -> str:
    rows: list[tuple[str, ...]] = []
    for (label, column), score in scores.scores.items():
        beside = [one for one in scores.differences.get((label, column), ()) if one.difference is not None]
        reported = "; ".join(f"{one.printed} ({one.model}): {one.difference:+.1f}" for one in beside)
        rows.append((label, column, score.metric, str(score.n), _score(score), reported or "-"))
    headers: tuple[str, ...] = ("setting", "column", "metric", "n", "score", "reported: difference")
    if all(row[-1] == "-" for row in rows):
        headers, rows = headers[:-1], [row[:-1] for row in rows]
    return f"Scores: {scores.title}\n\n" + table(headers, rows)


def _costs(page: StudyPage) -> tuple[Sequence[str], list[Sequence[str]]]:
    headers = (
        "cell", "docs", "passes", "prompt tokens", "attention GFLOPs (dense)", "decoder GFLOPs (dense)",
        "seconds", "peak MB",
    )  # fmt: skip
    rows: list[Sequence[str]] = []
    for one in page.costs:
        cost = one.cost
        rows.append(
            (
                one.label, str(cost.docs), _or_dash(cost.passes), _or_dash(cost.prompt_tokens),
                _flops(cost.attention_flops, cost.attention_flops_dense),
                _flops(cost.decoder_flops, cost.decoder_flops_dense),
                "-" if cost.seconds is None else f"{cost.seconds:.1f}",
                "-" if cost.peak_memory is None else f"{cost.peak_memory / 1e6:.0f}",
            )
        )  # fmt: skip
    return headers, rows


def _flops(masked: float | None, dense: float | None) -> str:
    if masked is None:
        return "-"
    return f"{masked / 1e9:.3g}" + ("" if dense is None else f" ({dense / 1e9:.3g})")


def _or_dash(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _score(score: Score) -> str:
    if score.value is None:
        return f"not scored ({score.interval})"
    return f"{100 * score.value:.1f}{_ends(score.low, score.high, 100, '.1f')}"


def _points(value: Estimate) -> str:
    return f"{100 * value.estimate:+.1f}{_ends(value.low, value.high, 100, '+.1f')}"


def _share(value: Estimate) -> str:
    return f"{100 * value.estimate:.1f} %{_ends(value.low, value.high, 100, '.1f')}"


def _signed(value: Estimate) -> str:
    return f"{value.estimate:+.3f}{_ends(value.low, value.high, 1, '+.3f')}"


def _ends(low: float | None, high: float | None, scale: int, form: str) -> str:
    return "" if low is None or high is None else f" [{scale * low:{form}}, {scale * high:{form}}]"


def _pipes(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    from tabulate import tabulate

    return str(tabulate(rows, headers=headers, tablefmt="pipe", disable_numparse=True))


def _fitted(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return fitted_table(headers, rows, narrow=range(len(headers)))
