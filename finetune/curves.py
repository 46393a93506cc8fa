"""The curves of a training: its loss, and the scores of its evaluations."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from mimic_eval.records import TASK_KINDS


def curves(losses: Sequence[tuple[int, float]], evaluations: Sequence[Mapping[str, Any]]) -> bytes:
    """SVG, the same bytes for the same numbers: the loss, and the evaluations' scores below it.

    Args:
        losses: steps and the losses of their answer tokens.
        evaluations: ``step``, and a score by task.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5 if evaluations else 3), layout="constrained")
    shown = figure.subplots(2 if evaluations else 1, 1, sharex=True, squeeze=False)[:, 0]
    shown[0].plot([step for step, _ in losses], [loss for _, loss in losses])
    shown[0].set(ylabel="loss of answer tokens", yscale="log")
    shown[-1].set(xlabel="step")
    if evaluations:
        for kind in TASK_KINDS:
            points = [(row["step"], row[kind]) for row in evaluations if kind in row]
            shown[1].plot([x for x, _ in points], [y for _, y in points], label=kind)
        shown[1].set(ylabel="score on held-out docs", ylim=(0, 1))
        shown[1].legend()
    out = io.BytesIO()
    with rc_context({"svg.hashsalt": "mimic"}):
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()
