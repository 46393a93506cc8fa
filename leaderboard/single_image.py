"""Whether a mask harms single images: lmms-eval's tasks that need no judge, base run against masked run."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from leaderboard.arms import Arm
from leaderboard.comparison import Comparison, TaskComparison, compare
from leaderboard.comparison_text import explained, finite, row_names
from leaderboard.sentences import p_text, points_text
from leaderboard.terminal import fitted_table, wrapped
from mimic_eval.records import UserError


class SingleImageTask(NamedTuple):
    """A task of lmms-eval 0.7.3 in the group.

    Attributes:
        task: its name.
        metrics: those compared.
        lite: the name of its shorter form, or None.
        scores: what a doc's score is.
    """

    task: str
    metrics: tuple[str, ...]
    lite: str | None
    scores: str


_VQA = "mean agreement with the annotators' answers"

SINGLE_IMAGE = (
    SingleImageTask("gqa", ("exact_match",), "gqa_lite", "exact match"),
    SingleImageTask("vqav2_val", ("exact_match",), "vqav2_val_lite", _VQA),
    SingleImageTask("vizwiz_vqa_val", ("exact_match",), "vizwiz_vqa_val_lite", _VQA),
    SingleImageTask("scienceqa_img", ("exact_match",), None, "the option's letter"),
    SingleImageTask("textvqa_val", ("exact_match",), "textvqa_val_lite", _VQA),
    SingleImageTask("mme", ("mme_perception_score", "mme_cognition_score"), None, "yes or no, each question"),
    SingleImageTask(
        "mmbench_en_dev_static", ("gpt_eval_score",), None, "all rotations of a question right, no judge"
    ),
    SingleImageTask("seedbench", ("seed_image",), "seedbench_lite", "the option's letter; no videos"),
)


def task_names(*, lite: bool) -> list[str]:
    """The names for ``--tasks``, with the shorter form where lmms-eval has one if `lite`."""
    return [one.lite or one.task if lite else one.task for one in SINGLE_IMAGE]


def group_text(*, lite: bool) -> str:
    """The group as a table."""
    from tabulate import tabulate

    body = [
        (name, ", ".join(one.metrics), one.scores)
        for name, one in zip(task_names(lite=lite), SINGLE_IMAGE, strict=True)
    ]
    return str(tabulate(body, headers=("task", "metric", "score of a doc"), disable_numparse=True))


def do_no_harm(base: Arm, masked: Arm, *, margin: float) -> Comparison:
    """The tasks of the group that both runs have; notes name the others.

    Args:
        base: the model without a mask.
        masked: with it.
        margin: of the equivalence tests, as a share.

    Raises:
        UserError: no task of the group in both, the masked run first, or as `compare`.
    """
    keys = {
        (name, metric)
        for one in SINGLE_IMAGE
        for name in (one.task, one.lite)
        for metric in one.metrics
        if name
    }
    if _masked(base) and not _masked(masked):
        raise UserError(f"{base.path} ran mask={base.settings['mask']}: give the base run first")
    arms = [_only(arm, keys) for arm in (base, masked)]
    common = {task for task, _ in arms[0].upstream.keys() & arms[1].upstream.keys()}
    if not common:
        raise UserError(
            f"{base.path} and {masked.path} have no task of the group with samples in common: run both with "
            "--tasks $(mimic do-no-harm --tasks) --log_samples"
        )
    comparison = compare(arms, margin=margin)
    missing = [one.task for one in SINGLE_IMAGE if not common & {one.task, one.lite}]
    notes = list(comparison.notes)
    if missing:
        notes.append(f"not in both runs: {', '.join(missing)}")
    return replace(comparison, notes=tuple(notes))


def _masked(arm: Arm) -> bool:
    return arm.settings.get("mask", "-") not in ("none", "-")


def _only(arm: Arm, keys: set[tuple[str, str]]) -> Arm:
    """The group's metrics of an arm, and the notes on its tasks."""
    names = {task for task, _ in keys}
    upstream = {key: scores for key, scores in arm.upstream.items() if key in keys}
    read = {task for task, _ in upstream}
    notes = tuple(note for note in arm.notes if names - read & set(note.replace(":", " ").split()))
    return replace(arm, samples={}, upstream=upstream, notes=notes)


def summary_line(comparison: Comparison) -> str:
    """What the tests together say, in one line."""
    rows, names = comparison.rows, row_names(comparison)
    worse = [row for row in rows if row.verdict == "worse"]
    safe = [row for row in rows if row.equivalence and row.equivalence.equivalent]
    points = f"{100 * rows[0].equivalence.margin:g}" if rows[0].equivalence else "?"
    within = f"within {points} point{'s' * (points != '1')}"
    lines = [f"equivalent {within}: {len(safe)} of {len(rows)}"]
    lines.append(f"worse: {_listed(worse, names) if worse else 'none'}")
    others = [row for row in rows if row not in safe and row not in worse]
    if others:
        lines.append(f"neither shown: {_listed(others, names)}")
    return f"{comparison.others[0]} against {comparison.baseline}: {'; '.join(lines)}"


def _listed(rows: Sequence[TaskComparison], names: Mapping[tuple[str, str], str]) -> str:
    return ", ".join(f"{names[row.task, row.metric]} ({100 * row.delta.estimate:+.1f})" for row in rows)


def render_text(comparison: Comparison) -> str:
    """A table, the rows in words, and the summary as the last line."""
    names = row_names(comparison)
    headers = ("task", "n", "base, %", "masked, %", "difference, points", "p (Holm)", "change", "equivalence")
    body = [
        (
            names[row.task, row.metric],
            str(row.n),
            f"{100 * row.score_a.estimate:.1f}",
            f"{100 * row.score_b.estimate:.1f}",
            points_text(row.delta),
            p_text(row.adjusted),
            row.verdict,
            row.equivalence.words if row.equivalence else "-",
        )
        for row in comparison.rows
    ]
    table = fitted_table(headers, body, narrow=(0, 6, 7))
    return "\n".join([table, "", wrapped(explained(comparison)), summary_line(comparison)])


def render_json(comparison: Comparison) -> str:
    """Every number."""
    rows = [finite(row.record()) for row in comparison.rows]
    record = {
        "base": comparison.baseline, "masked": comparison.others[0], "rows": rows, "notes": comparison.notes,
        "summary": summary_line(comparison),
    }  # fmt: skip
    return json.dumps(record, indent=1, allow_nan=False)
