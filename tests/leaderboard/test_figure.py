"""`mimic report --figure`: the points of a sweep, its SVG and its CSV."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from leaderboard.constant_answers import best_constant
from leaderboard.figure import COLUMNS, render_csv, render_svg
from leaderboard.runs import Run, read_runs
from leaderboard.summary import WILSON, summarize_run
from leaderboard.sweeps import SweepFigure, summarize_sweeps
from mimic_eval.records import UserError
from stats import micro_f1, wilson
from tests.conftest import Command

SPREAD = {
    "name": "spread",
    "title": "Counting against spread at fixed total",
    "x": "spread",
    "series": "distractors",
    "cells": {
        f"spread={s},distractors={d}": {"spread": s, "distractors": d} for s in (1, 2, 4) for d in (0, 8)
    },
}
POOLING = {
    "name": "pooling",
    "title": "Counting against pooling",
    "x": "pool",
    "series": "n_images",
    "cells": {f"n_images={n}": {"n_images": n} for n in (4, 16)},
}
NONE = {"checkpoint": "embedded", "checkpoint_kind": "random", "mask": "none", "layers": "none"}
BLOCK = {**NONE, "mask": "block", "layers": "12-23", "prefix": False}
Right = dict[str, list[float | None]]
"""The scores of each cell's docs; None for an unscored one."""


def a_run(sweep: dict[str, Any], right: Right, *, kind: str = "counting", **more: Any) -> Run:
    """A run of a sweep in the form that `lmms_eval` leaves, with `settings` and `name` of choice."""
    task = f"mimic_{kind}_{sweep['name']}"
    samples: list[dict[str, Any]] = []
    for cell, scores in right.items():
        for score in scores:
            i = len(samples)
            item = {} if score is None else {"score": score}
            record = {
                "kind": kind,
                "cell": cell,
                "content_hash": f"{cell} {i}",
                "gt": str(i % 2),
                "run": more.get("settings", NONE),
            }
            if score is None:
                record |= {"status": "unscored", "reason": "cut off"}
            else:
                record |= {"status": "parsed", "response": "1", "parsed": 1, "score": score}
            samples.append(
                {
                    "doc_id": i,
                    "exact_match": item,
                    "exact_match_official": item,
                    "unscored": int(score is None),
                    "mimic": record,
                }
            )
    results = {
        "results": {task: {"exact_match,none": 0.5, "exact_match_official,none": 0.5, "unscored,none": 0}},
        "configs": {task: {"metadata": {"label": more.get("label", "coco"), "sweep": sweep}}},
        "n-samples": {task: {"original": len(samples), "effective": len(samples)}},
        "config": {"model": "llava_ov_mask", "model_args": ""},
    }
    return Run(more.get("name", "r"), results, {task: samples})


def write(run: Run, folder: Path, date: str = "20260101_000000") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{date}_results.json").write_text(json.dumps(run.results))
    for task, samples in run.samples.items():
        lines = "".join(json.dumps(sample) + "\n" for sample in samples)
        (folder / f"{date}_samples_{task}.jsonl").write_text(lines)


def of_n(n: int, right: int, unscored: int = 0) -> list[float | None]:
    return [1.0] * right + [0.0] * (n - right) + [None] * unscored


def grid(right: int = 3, n: int = 10) -> Right:
    return {cell: of_n(n, right) for cell in SPREAD["cells"]}


def only(runs: list[Run]) -> SweepFigure:
    (figure,) = summarize_sweeps(runs)
    return figure


def test_points_are_wilson_on_the_counts_of_their_cells() -> None:
    cells = list(SPREAD["cells"])
    figure = only([a_run(SPREAD, {cell: of_n(10, i) for i, cell in enumerate(cells)})])
    assert (figure.metric, figure.x, figure.series) == ("exact_match", "spread", "distractors")
    assert [point.cell for point in figure.drawn] == cells
    for right, point in enumerate(figure.drawn):
        want = wilson(right, 10)
        assert (point.n, point.score, point.low, point.high) == (10, want.estimate, want.low, want.high)
        assert (point.interval, point.constant) == (WILSON, 0.5)
    assert [(point.x, point.series) for point in figure.drawn][:3] == [(1, 0), (1, 8), (2, 0)]
    assert {point.metric for point in figure.points} == {"exact_match", "exact_match_official"}


def test_listing_is_micro_f1_with_its_interval() -> None:
    sweep = {**SPREAD, "series": None, "cells": {"spread=1": {"spread": 1}, "spread=2": {"spread": 2}}}
    run = a_run(sweep, {"spread=1": of_n(9, 1), "spread=2": of_n(3, 1)}, kind="listing")
    (samples,) = run.samples.values()
    counts = [(2, 2, 2), (0, 1, 2), (1, 3, 1)] * 3 + [(1, 1, 2)] * 3
    for sample, count in zip(samples, counts, strict=True):
        sample["f1"] = {"score": 0.5, "counts": count}
        sample["mimic"]["gt"] = "cat, dog"
    run.results["results"]["mimic_listing_spread"] = {"f1,none": 0.5}
    first, second = only([run]).drawn
    want = micro_f1([2, 0, 1] * 3, [2, 1, 3] * 3, [2, 2, 1] * 3)
    assert (first.score, first.low, first.high, first.interval) == (
        want.estimate,
        want.low,
        want.high,
        "score interval, t quantile, effective sample size 95 %",
    )
    assert (second.low, second.interval, second.constant) == (None, "no interval below 8 docs", 1.0)
    assert b"micro F1" in render_svg(only([run]))


def test_the_best_constant_answer() -> None:
    assert best_constant("exact_match", ["2", "2", "3", "5"]) == 0.5
    assert best_constant("exact_match", ["dog: 2, car: 1", "cat: 2, dog: 1", "cat: 1, dog: 2"]) == 2 / 3
    assert best_constant("exact_match_official", ["2"]) is None
    assert best_constant("exact_match", []) is None
    # `cat` alone: 3 of 3 answers right, 3 of 6 classes; `cat, dog`: 5 of 6 and 5 of 6
    assert best_constant("f1", ["cat, dog", "cat, dog", "cat, cow"]) == pytest.approx(5 / 6)


def test_unscored_docs_are_left_out_and_an_empty_cell_is_said() -> None:
    right = grid()
    right["spread=1,distractors=0"] = of_n(4, 1, unscored=2)
    right["spread=2,distractors=0"] = of_n(0, 0, unscored=3)
    del right["spread=4,distractors=8"]
    figure = only([a_run(SPREAD, right)])
    point = figure.drawn[0]
    assert (point.n, point.unscored, point.score) == (4, 2, 0.25)
    assert len(figure.drawn) == 4
    assert figure.notes == (
        "spread=2,distractors=0: left out, no doc was scored (3 unscored docs)",
        "spread=4,distractors=8: left out, no doc was scored (its docs were not run)",
    )
    svg = render_svg(figure).decode()
    assert "n = 4 to 10 scored docs a point; bars: Wilson 95 %" in svg
    assert "Left out: 5 unscored docs, 2 points without a scored doc." in " ".join(texts(svg))
    with pytest.raises(UserError, match="no doc was scored in any cell"):
        summarize_sweeps([a_run(SPREAD, {"spread=1,distractors=0": [None]})])


def test_lines_are_told_apart_by_what_differs_between_the_runs() -> None:
    figure = only([a_run(SPREAD, grid()), a_run(SPREAD, grid(), settings={**BLOCK, "batch_size": 8})])
    assert {point.line for point in figure.points} == {"mask none", "mask block 12-23"}
    assert figure.common["checkpoint"] == "embedded (random)"
    prefix = {**BLOCK, "prefix": True}
    figure = only([a_run(SPREAD, grid(), settings=settings) for settings in (NONE, BLOCK, prefix)])
    assert list(dict.fromkeys(point.line for point in figure.points)) == [
        "mask none", "mask block 12-23, prefix false", "mask block 12-23, prefix true",
    ]  # fmt: skip


def test_keys_of_the_cells_beside_x_and_series_make_lines_of_their_own() -> None:
    cells = {f"{s},{k}": {"spread": s, "k": k} for s in (1, 2) for k in (1, 2)}
    figure = only([a_run({**SPREAD, "series": None, "cells": cells}, {cell: of_n(5, 2) for cell in cells})])
    assert [(point.x, point.line, point.n) for point in figure.drawn] == [
        (1, "k 1", 5), (1, "k 2", 5), (2, "k 1", 5), (2, "k 2", 5),
    ]  # fmt: skip


def test_pooling_is_drawn_over_runs_of_every_factor() -> None:
    right = {cell: of_n(10, 5) for cell in POOLING["cells"]}
    runs = [a_run(POOLING, right, settings={**NONE, "pool": pool}) for pool in (8, 2, 4)]
    runs.append(a_run(POOLING, right))  # before there was pooling: 1
    figure = only(runs)
    assert sorted({(point.x, point.series) for point in figure.drawn}) == [
        (x, n) for x in (1, 2, 4, 8) for n in (4, 16)
    ]
    assert {point.line for point in figure.drawn} == {""}
    svg = render_svg(figure).decode()
    assert svg.index(">1</text>") < svg.index(">2</text>") < svg.index(">4</text>") < svg.index(">8</text>")
    for label in ("1-D pooling of vision tokens (factor)", "images in a doc (N)", "N = 4", "N = 16"):
        assert label in texts(svg)


def test_masks_on_the_axis_make_one_line() -> None:
    sweep = {**POOLING, "x": "mask"}
    right = {cell: of_n(10, 5) for cell in POOLING["cells"]}
    figure = only([a_run(sweep, right, settings=settings) for settings in (NONE, BLOCK)])
    assert [(point.x, point.series, point.line) for point in figure.drawn] == [
        ("none", 4, ""), ("none", 16, ""), ("block", 4, ""), ("block", 16, ""),
    ]  # fmt: skip
    deeper = {**BLOCK, "layers": "0-23"}
    figure = only([a_run(sweep, right, settings=settings) for settings in (NONE, BLOCK, deeper)])
    assert {point.line for point in figure.drawn if point.x == "block"} == {
        "layers 12-23", "layers 0-23",
    }  # fmt: skip


def texts(svg: str | bytes) -> set[str]:
    root = ElementTree.fromstring(svg)
    return {"".join(node.itertext()).strip() for node in root.iter() if node.tag.endswith(("text", "tspan"))}


def test_the_svg_holds_its_labels_as_text_and_is_the_same_twice() -> None:
    runs = [a_run(SPREAD, grid(i), label="embedded", settings=s) for i, s in enumerate((NONE, BLOCK))]
    first, again = (render_svg(only(runs)) for _ in range(2))
    assert first == again
    labels = texts(first)
    for label in (
        "Counting against spread at fixed total", "images with a target (s)", "distractors (d)",
        "exact match", "d = 0, mask none", "d = 8, mask block 12-23", "best constant answer", "0.0", "1.0",
    ):  # fmt: skip
        assert label in labels
    caption = " ".join(labels)
    assert "n = 10 scored docs a point" in caption
    assert "data embedded, llava_ov_mask, embedded (random)" in caption
    assert "answers are noise, scores mean nothing" in caption
    assert b"<dc:date>" not in first


@pytest.mark.parametrize("title", ["a < b & $c_d$ \\frac", "题 \x07 title", "long " * 60, ""])
def test_any_title_is_drawn_as_it_is(title: str) -> None:
    svg = render_svg(only([a_run({**SPREAD, "title": title}, grid())]))
    assert " ".join(title.replace("\x07", "").split())[:20] in " ".join(" ".join(texts(svg)).split())


def test_any_grid_is_drawn() -> None:
    for values in (
        [4],
        [0, 1, 32],
        [0, 3],
        [-1, 2],
        [0.25, 0.5, 4],
        list(range(1, 36)),
        ["none", "grid"],
        [1, "a"],
    ):
        for series in (1, 2, 12):
            cells = {f"{v},{s}": {"stitch": v, "s": s} for v in values for s in range(series)}
            sweep = {**SPREAD, "x": "stitch", "series": "s", "cells": cells}
            ElementTree.fromstring(render_svg(only([a_run(sweep, {cell: of_n(4, 2) for cell in cells})])))


def test_the_csv_holds_every_metric_of_every_cell() -> None:
    figure = only([a_run(SPREAD, grid(), name="runs/a_results.json", settings={**BLOCK, "pool": 2})])
    rows = list(csv.DictReader(render_csv(figure).splitlines()))
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == 12
    want = wilson(3, 10)
    row = rows[0]
    assert (row["sweep"], row["task"], row["metric"]) == ("spread", "mimic_counting_spread", "exact_match")
    assert (float(row["score"]), float(row["low"]), row["n"]) == (want.estimate, want.low, "10")
    assert (row["mask"], row["settings"]) == ("block 12-23", "prefix false, pool 2, order fixed")
    assert (row["run"], row["x"], row["series"], row["constant"]) == ("runs/a_results.json", "1", "0", "0.5")
    assert (rows[1]["metric"], rows[1]["constant"]) == ("exact_match_official", "")


def test_of_two_runs_with_the_same_settings_the_newest_counts() -> None:
    runs = [a_run(SPREAD, grid(i), name=f"run{i}") for i in (1, 7)]
    figure = only(runs)
    assert {point.score for point in figure.drawn} == {0.7}
    assert figure.notes == ("run1 is an older run with the same settings as a newer one: left out",)


def test_runs_of_different_builds_are_not_drawn_together() -> None:
    other = a_run(SPREAD, grid(), settings=BLOCK, label="mine", name="other")
    with pytest.raises(UserError, match="r and other hold mimic_counting_spread of different builds"):
        summarize_sweeps([a_run(SPREAD, grid()), other])
    other = a_run(SPREAD, grid(), settings=BLOCK, name="other")
    other.samples["mimic_counting_spread"][4]["mimic"]["content_hash"] = "changed"
    with pytest.raises(UserError, match="of different builds"):
        summarize_sweeps([a_run(SPREAD, grid()), other])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"title": None}, "'title' must be a text, got None"),
        ({"series": 3}, "'series' must be a text, got 3"),
        ({"cells": []}, r"'cells' must map names to values, got \[\]"),
        ({"cells": {"a": {"spread": 1}, "b": {"k": 1}}}, "cell 'b' has not the keys of the others"),
        ({"cells": {"a": {"spread": [1]}}}, r"cell 'a' must hold numbers and texts, got \[1\]"),
        ({"cells": {"a": {"spread": 1e999}}}, "cell 'a' must hold numbers and texts, got inf"),
        ({"cells": {"a": {"spread": 1}, "b": {"spread": 1}}}, "two of its cells hold the same values"),
        ({"cells": {"a": {"spread": 1}}, "series": None}, "is in 'spread=1,distractors=0', which is no cell"),
        ({"x": "colour"}, "'colour' is neither a key of the sweep's cells nor a setting of the run"),
    ],
)
def test_metadata_of_another_form_are_refused_in_one_line(change: dict[str, Any], message: str) -> None:
    run = a_run(SPREAD, grid())
    run.results["configs"]["mimic_counting_spread"]["metadata"]["sweep"] = {**SPREAD, **change}
    with pytest.raises(UserError, match=message) as error:
        summarize_sweeps([run])
    assert "\n" not in str(error.value)


def test_samples_of_another_form_are_refused() -> None:
    for key, message in {
        "cell": "lacks 'cell'",
        "content_hash": "'content_hash' must be a text, got None",
        "gt": "lacks 'gt'",
    }.items():
        run = a_run(SPREAD, grid())
        del run.samples["mimic_counting_spread"][3]["mimic"][key]
        with pytest.raises(UserError, match=f"^r, mimic_counting_spread: doc 3: {message}$"):
            summarize_sweeps([run])
    run = a_run(SPREAD, grid())
    run.results["configs"]["mimic_counting_spread"]["metadata"]["sweep"] = "spread"
    with pytest.raises(UserError, match="'sweep' must be a mapping, got 'spread'"):
        summarize_sweeps([run])


def test_a_sweep_is_one_row_of_the_table_with_what_is_unusual() -> None:
    run = a_run(SPREAD, grid(), settings={**BLOCK, "pool": 4, "order": "reversed"})
    ours, _ = summarize_run(run)
    assert (ours.task, ours.n, ours.score) == ("mimic_counting_spread", 60, 0.3)
    assert ours.mask == "block 12-23, pool 4, order reversed"
    plain = a_run(SPREAD, grid(), settings={**BLOCK, "pool": 1, "order": "fixed"})
    assert summarize_run(plain)[0].mask == "block 12-23"


def test_the_command_writes_the_figures_and_says_where(tmp_path: Path, command: Command) -> None:
    write(a_run(SPREAD, grid()), tmp_path / "runs/none")
    write(a_run(SPREAD, grid(5), settings=BLOCK), tmp_path / "runs/block", "20260102_000000")
    done = command("mimic", "report", "runs", "--figure", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "mimic_counting_spread  block 12-23  exact match  60" in done.stdout
    assert done.stdout.splitlines()[-2:] == [
        "runs/mimic_counting_spread.svg",
        "runs/mimic_counting_spread.csv",
    ]
    want = only(read_runs(tmp_path / "runs"))
    assert (tmp_path / "runs/mimic_counting_spread.svg").read_bytes() == render_svg(want)
    assert len((tmp_path / "runs/mimic_counting_spread.csv").read_text().splitlines()) == 25
    done = command("mimic", "report", "runs", "--figure", "--json", "--out", "a/b", cwd=tmp_path)
    assert json.loads(done.stdout)[0]["task"] == "mimic_counting_spread"
    files = [
        "mimic_counting_spread.svg",
        "mimic_counting_spread.csv",
        "report.csv",
        "report.md",
        "report.tex",
    ]
    assert done.stderr.splitlines()[-5:] == [f"a/b/{name}" for name in files]
    assert (tmp_path / "a/b/mimic_counting_spread.svg").is_file()


def refused(done: subprocess.CompletedProcess[str]) -> str:
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_the_command_refuses_what_it_cannot_draw(tmp_path: Path, command: Command) -> None:
    run = a_run(SPREAD, grid())
    write(Run("r", run.results, {}), tmp_path / "unlogged")
    assert "run it again with --log_samples" in refused(
        command("mimic", "report", tmp_path / "unlogged", "--figure")
    )
    del run.results["configs"]["mimic_counting_spread"]["metadata"]["sweep"]
    write(run, tmp_path / "plain")
    assert "holds no sweep; run one that `mimic sweep` built" in refused(
        command("mimic", "report", tmp_path / "plain", "--figure")
    )


def test_matplotlib_waits_until_a_figure_is_drawn() -> None:
    code = "import sys; sys.modules['matplotlib'] = None; import leaderboard.figure, leaderboard.sweeps"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
