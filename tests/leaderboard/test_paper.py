"""Figures for a paper: their size, what is not in them, names of runs, panels of several tasks."""

import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from leaderboard.paper_sweeps import paper_files
from leaderboard.robustness_figure import render_svg
from leaderboard.runs import Run
from leaderboard.sweeps import summarize_sweeps
from mimic_eval.cli.commands import app
from tests.leaderboard.test_figure import BLOCK as FIGURE_BLOCK
from tests.leaderboard.test_figure import NONE as FIGURE_NONE
from tests.leaderboard.test_figure import SPREAD, a_run, of_n, write
from tests.leaderboard.test_robustness import RIGHT, docs, report
from tests.makers.runs import BLOCK, NONE, write_run

TASKS = ("mimic_counting_spread", "mimic_oddone_spread")


CELLS = {f"spread={s}": {"spread": s} for s in (1, 2, 4)}
SWEEP = {**SPREAD, "series": None, "cells": CELLS}


def runs() -> list[Run]:
    """Two runs of two sweeps over the spread."""
    found = []
    for task in TASKS:
        for name, shift, settings in (("none", 0, FIGURE_NONE), ("block", 4, FIGURE_BLOCK)):
            run = a_run(SWEEP, {cell: of_n(10, 3 + shift) for cell in CELLS}, settings=settings)
            results = run.results
            for part in (results["results"], results["configs"], results["n-samples"], run.samples):
                part[task] = part.pop(TASKS[0])
            found.append(Run(f"{name}/{task}", results, run.samples))
    return found


def texts(svg: bytes) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg.decode())


@pytest.mark.parametrize("width", [3.3, 6.75])
def test_a_figure_is_as_wide_as_a_column_and_has_no_title_and_no_caption(width: float) -> None:
    figures = summarize_sweeps(runs()[:2])
    files, notes = paper_files(figures, width)
    assert notes == []
    name = TASKS[0]
    svg, pdf = files[f"{name}.svg"], files[f"{name}.pdf"]
    assert f'width="{72 * width:g}pt"'.encode() in svg
    box = re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ", pdf)
    assert box is not None
    assert float(box[1]) == pytest.approx(72 * width, abs=0.1)
    assert figures[0].title not in texts(svg)
    assert not any("n = " in text or "Left out" in text for text in texts(svg))
    caption = files[f"{name}_caption.txt"].decode()
    assert caption.startswith(
        f"{figures[0].title} (exact match). n = 10 scored docs a point; bars: Wilson 95 %"
    )
    if width < 4:
        assert files == paper_files(summarize_sweeps(runs()[:2]), width)[0]  # the same bytes


def test_the_panel_has_every_task_and_one_legend_with_the_users_names() -> None:
    names = {run.name: "LLaVA-OV" if run.name.startswith("none") else "ours_2 & co" for run in runs()}
    files, _ = paper_files(summarize_sweeps(runs(), names), 6.75)
    found = [text.replace("&amp;", "&") for text in texts(files["panel_spread.svg"])]
    assert [found.count(name) for name in ("Counting", "Odd-One", "LLaVA-OV", "ours_2 & co")] == [1, 1, 1, 1]
    assert found.count("best constant answer") == 1
    assert files["panel_spread_caption.txt"].decode().count("\n") == 2


def test_lines_that_look_different_in_two_sweeps_are_in_no_panel() -> None:
    """Odd-One lacks the first run: its other run would have the first one's colour."""
    some = [run for run in runs() if run.name != f"none/{TASKS[1]}"]
    names = {run.name: run.name.split("/")[0] for run in some}
    files, notes = paper_files(summarize_sweeps(some, names), 3.3)
    assert "panel_spread.svg" not in files
    assert notes == ["no panel over spread: a line looks different in its sweeps; draw the same runs"]


def test_the_commands(tmp_path: Path) -> None:
    for number, run in enumerate(runs()):
        write(run, tmp_path / "runs" / run.name, f"2026010{number + 1}_000000")
    done = CliRunner().invoke(
        app, ["report", str(tmp_path / "runs"), "--paper", "3.3", "--out", str(tmp_path / "out"),
              "--label", f"{tmp_path}/runs/none=Base=0.5B"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out/panel_spread.pdf").read_bytes().startswith(b"%PDF")
    assert "Base=0.5B" in texts((tmp_path / "out/panel_spread.svg").read_bytes())
    wrong = CliRunner().invoke(app, ["report", str(tmp_path / "runs"), "--paper", "5"])
    assert wrong.exit_code == 2
    assert "'3.3', '6.75'" in wrong.output

    for name, rights, settings in (("a", RIGHT, NONE), ("b", RIGHT[::-1], BLOCK)):
        for task in ("mimic_counting_permuted", "mimic_common_permuted"):
            write_run(tmp_path / name / task, {task: docs(rights)}, settings)
    done = CliRunner().invoke(
        app, ["robustness", str(tmp_path / "a"), str(tmp_path / "b"), "--paper", "6.75",
              "--out", str(tmp_path / "rob"), "--label", f"{tmp_path}/b=Ours"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    panel = texts((tmp_path / "rob/panel_positions.svg").read_bytes())
    assert [panel.count(text) for text in ("Counting (permuted)", "Common (permuted)", "none", "Ours")] == [
        1
    ] * 4
    assert (tmp_path / "rob/mimic_common_permuted.pdf").is_file()


def test_the_legend_of_the_robustness_figure_is_below_its_axes(tmp_path: Path) -> None:
    """It was over the lines."""
    svg = render_svg(report(tmp_path, docs(RIGHT), docs(RIGHT[::-1])).rows).decode()

    def height(text: str) -> float:
        found: Any = re.search(rf"translate\([\d.]+ ([\d.]+)\)[^>]*>{re.escape(text)}<", svg) or re.search(
            rf'y="([\d.]+)"[^>]*>{re.escape(text)}<', svg
        )
        return float(found[1])

    assert height("block 3-5 (15 docs)") > height(
        "position of the image that holds the answer (nearest quarter)"
    )
