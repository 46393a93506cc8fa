"""A diagnosis as files: the summary as JSON, each figure as SVG and CSV."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from leaderboard.diagnosis.analysis import analysed
from leaderboard.diagnosis.drawing import render_csv, render_svg
from leaderboard.diagnosis.reading import read_diagnosis
from leaderboard.diagnosis.results import Summary
from mimic_eval.records.folders import write_atomically


def write_outputs(folder: Path, run: Mapping[str, Any], *, left_out: Mapping[str, int]) -> None:
    """Analyse the tables of a folder; `diagnose.json` is written last.

    Args:
        folder: with the tables.
        run: what was run.
        left_out: docs that were not run, by reason.
    """
    summary = analysed(read_diagnosis(folder))
    summary.facts["left_out"] = dict(left_out)
    write_summary(folder, summary, run=run, name="diagnose.json")


def write_summary(folder: Path, summary: Summary, *, run: Any, name: str) -> None:
    """The figures, then the JSON of all numbers."""
    for plot in summary.plots:
        write_atomically(folder / f"{plot.name}.svg", render_svg(plot))
        write_atomically(folder / f"{plot.name}.csv", render_csv(plot).encode())
    content = {
        "run": run,
        "results": summary.facts,
        "tests": [test._asdict() for test in summary.tests],
        "figures": [_plot(plot) for plot in summary.plots],
        "notes": summary.notes,
    }
    text = json.dumps(_finite(content), indent=1, allow_nan=False) + "\n"
    write_atomically(folder / name, text.encode())


def _plot(plot: Any) -> dict[str, Any]:
    lines = [
        {"label": line.label, "points": [point._asdict() for point in line.points]} for line in plot.series
    ]
    band = None if plot.band is None else plot.band._asdict()
    return {**vars(plot), "series": lines, "band": band}


def _finite(value: Any) -> Any:
    """The same with None where a number is none."""
    if isinstance(value, Mapping):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.item() if hasattr(value, "item") else value
