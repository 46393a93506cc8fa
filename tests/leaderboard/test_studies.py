"""The page of a study: reported beside measured, changes, claims, what is missing; packaged studies."""

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from leaderboard.measures import Estimate
from leaderboard.site.build import RunFolder, build_site
from leaderboard.studies import findings
from leaderboard.studies.output import write_study as write_page
from leaderboard.studies.scores import is_model
from leaderboard.studies.summary import StudyPage, summarize_study
from leaderboard.studies.text import render_markdown, render_text
from mimic_eval.records import UserError
from mimic_eval.studies import Entry, load_results, make_cells, packaged, read_study
from mimic_eval.studies.outputs import read_reported
from mimic_eval.studies.tables import expanded, printed_table
from tests.makers.runs import BLOCK, NONE, binary, permuted, write_run
from tests.makers.studies import cell, write_study

REAL = {**NONE, "checkpoint": "llava-hf/llava-onevision-qwen2-0.5b-ov-hf"}
TASK, METRICS = "mimic_counting", ("exact_match", "exact_match_official")
SPEC: dict[str, Any] = {
    "id": "made:here",
    "title": "A made study",
    "tasks": [TASK],
    "entries": {"tuned": "a training, as --entry tuned:peft=FOLDER"},
    "settings": [
        {"name": "none", "model_args": {"mask": "none"}},
        {"name": "block", "model_args": {"mask": "block"}},
        {"name": "tuned", "entry": "tuned"},
    ],
    "output": [{"kind": "table", "reference": "none"}, {"kind": "flips", "reference": "none"}],
    "reported": {
        "source": "Table 1",
        "metric": "exact_match",
        "columns": [{"name": "counting", "task": TASK, "items": 16}, {"name": "listing"}],
        "rows": [
            {"model": "LLaVA-OV-0.5B", "setting": "none", "values": ["50.0", "22.8"]},
            {"model": "LLaVA-OV-0.5B", "setting": "block", "values": ["62.6", None]},
            {"model": "Other-7B", "setting": "none", "values": ["40.0", None]},
        ],
    },
    "claims": [
        {"says": "Hardly any answer changes.", "source": "Sec. 1", "of": "flips", "expect": "below 0.5"},
        {"says": "It helps.", "of": "change", "setting": "block", "expect": "above 0"},
        {"says": "Training helps.", "of": "change", "setting": "tuned", "expect": "above 0"},
    ],
    "caveats": ["Made by `hand`."],
}  # fmt: skip


def study(folder: Path, checkpoint: dict[str, Any] = REAL) -> Path:
    """16 docs: 4 right under none, the same and 8 more under block."""
    runs = {"none": checkpoint, "block": {**checkpoint, **BLOCK, "checkpoint": checkpoint["checkpoint"]}}
    for name, right in (("none", 4), ("block", 12)):
        rows = [binary(i, i < right, exact_match_official={"score": float(i < right)}) for i in range(16)]
        write_run(folder / "cells" / name, {TASK: rows}, runs[name], metrics=METRICS[:1])
    planned = [
        cell("none", tasks=[TASK]),
        cell("block", tasks=[TASK]),
        cell("tuned", entry="tuned", tasks=[TASK]),
    ]
    return write_study(folder, SPEC, planned, runs)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> StudyPage:
    return write_page(study(tmp_path_factory.mktemp("study")))


def test_a_score_stands_beside_the_number_of_the_same_model(page: StudyPage) -> None:
    (table,) = page.tables
    first, other = table.differences["none", "counting"]
    assert (first.model, first.printed, first.difference) == ("LLaVA-OV-0.5B", "50.0", -25.0)
    score = table.scores["none", "counting"]
    assert first.low is not None
    assert score.low is not None
    assert first.low == pytest.approx(100 * score.low - 50)
    assert (other.difference, other.why_not) == (None, f"another model ({REAL['checkpoint']})")
    (listing,) = table.differences["none", "listing"]
    assert listing.why_not == "not measured here"


def test_a_number_that_cannot_be_a_count_is_marked(page: StudyPage) -> None:
    """62.6 % of 16 questions is no count: 10/16 is 62.5."""
    (block,) = page.tables[0].differences["block", "counting"]
    assert block.check.verdict == "not attainable"
    assert "62.6&nbsp;✗" in (page.result.out / "index.html").read_text()


def test_no_difference_is_given_to_another_model(tmp_path: Path) -> None:
    page = summarize_study(load_results(study(tmp_path, NONE)))
    assert {one.difference for one in page.tables[0].differences["none", "counting"]} == {None}
    assert not is_model("LLaVA-OV-0.5B", "llava-hf/llava-onevision-qwen2-7b-ov-hf")
    assert is_model("Idefics2-8B", "/models/HuggingFaceM4/idefics2-8b")


def test_a_change_stands_beside_the_reported_change(page: StudyPage) -> None:
    (change,) = page.changes
    assert change.row.delta.estimate == pytest.approx(0.5)
    assert change.row.pvalue == pytest.approx(2 / 2**8)  # exact McNemar, 8 docs only right under block
    ((model, reported),) = change.reported
    assert (model, round(reported, 6)) == ("LLaVA-OV-0.5B", 12.6)


def test_claims_are_judged_by_the_interval_of_what_was_measured(page: StudyPage) -> None:
    flips, helps, tuned = page.claims
    assert flips.finding is not None
    assert flips.finding.estimate.estimate == pytest.approx(0.5)
    assert [one.verdict for one in (flips, helps, tuned)] == [
        findings.NOT_SHOWN, findings.AGREES, findings.MISSING,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("expect", "low", "high", "verdict"),
    [
        ("below 0", -0.3, -0.1, findings.AGREES),
        ("below 0", 0.1, 0.3, findings.OPPOSITE),
        ("above 0.2", 0.1, 0.3, findings.NOT_SHOWN),
        ("near 0", -0.1, 0.1, findings.NO_CHANGE),
        ("near 0", 0.05, 0.1, findings.CHANGE),
        ("below 0", None, None, "no interval: why"),
    ],
)
def test_verdicts(expect: str, low: float | None, high: float | None, verdict: str) -> None:
    assert findings.verdict(expect, Estimate(0.0, low, high, "why")) == verdict


def test_what_was_not_run_is_said_everywhere(page: StudyPage) -> None:
    what = "tuned was not given: a training, as --entry tuned:peft=FOLDER"
    assert page.missing == ["cell tuned is not finished", what]
    assert f"Not run: {what}." in render_markdown(page)
    text = render_text(page)
    assert f"Not run: {what}." in text
    assert max(map(len, text.splitlines())) <= 100
    html = (page.result.out / "index.html").read_text()
    assert what in html
    assert "<code>hand</code>" in html


def test_the_files_hold_all_numbers(page: StudyPage) -> None:
    out = page.result.out
    for name in ("table_1.svg", "flips_2.svg", "table_1.csv", "study.csv"):
        assert (out / "page" / name).stat().st_size
    rows = list(csv.DictReader(io.StringIO((out / "page/study.csv").read_text())))
    (change,) = (row for row in rows if row["kind"] == "change")
    assert (change["value"], change["n"], change["reported"]) == ("0.5", "16", "LLaVA-OV-0.5B +12.6")
    before = (out / "page/table_1.svg").read_bytes()
    write_page(out)
    assert (out / "page/table_1.svg").read_bytes() == before


def test_a_sweep_changes_within_its_matched_sets(tmp_path: Path) -> None:
    """At s = 4 every set that was right at s = 1 is wrong, in 8 of 10: -0.8."""
    cells = {f"spread={s}": {"spread": s} for s in (1, 2, 4)}
    sweep = {"name": "spread", "title": "By spread", "x": "spread", "series": None, "cells": cells}
    rows = [
        binary(3 * number + i, number < {1: 8, 2: 4, 4: 0}[s], cell=f"spread={s}", matched_set=number, gt="1")
        for number in range(10)
        for i, s in enumerate((1, 2, 4))
    ]
    task = "mimic_counting_spread"
    folder = write_run(tmp_path / "cells" / "none", {task: rows}, NONE, metrics=METRICS[:1])
    results = folder / "1_results.json"
    results.write_text(
        results.read_text().replace('"label": "made"', f'"label": "made", "sweep": {_json(sweep)}')
    )
    spec = {
        "id": "made:sweep", "tasks": [task], "settings": [{"name": "none"}], "output": {"kind": "sweep"},
        "claims": {"says": "It falls.", "of": "sweep", "task": task, "expect": "below 0"},
    }  # fmt: skip
    page = summarize_study(
        load_results(write_study(tmp_path, spec, [cell("none", tasks=[task])], {"none": NONE}))
    )
    (claim,) = page.claims
    assert claim.finding is not None
    assert (claim.finding.name, claim.finding.n) == ("change of the score from spread 1 to 4", 10)
    assert claim.finding.estimate.estimate == pytest.approx(-0.8)
    assert claim.verdict == findings.AGREES
    assert [figure.name for figure in page.figures] == [task]


def _json(value: Any) -> str:
    import json

    return json.dumps(value)


def test_orders_are_drawn_and_compared(tmp_path: Path) -> None:
    orders = [(0, 1, 2), (1, 2, 0), (2, 0, 1)]
    task = "mimic_counting_permuted"
    for name, settings, rights in (
        ("none", NONE, (True, False, False)),
        ("block", BLOCK, (True, True, True)),
    ):
        rows = [one for doc in range(12) for one in permuted(doc, orders, rights, n_images=3)]
        write_run(tmp_path / "cells" / name, {task: rows}, settings, metrics=("exact_match_over_orders",))
    spec = {
        "id": "made:orders", "tasks": [task], "settings": [{"name": "none"}, {"name": "block"}],
        "output": {"kind": "position", "reference": "none"},
        "claims": {"says": "Fewer flip.", "of": "position", "name": "change of pairwise disagreement",
                   "setting": "block", "expect": "below 0"},
    }  # fmt: skip
    cells = [cell("none", tasks=[task]), cell("block", tasks=[task])]
    page = summarize_study(load_results(write_study(tmp_path, spec, cells, {"none": NONE, "block": BLOCK})))
    (claim,) = page.claims
    assert claim.finding is not None
    assert claim.finding.estimate.estimate == pytest.approx(-2 / 3)
    assert [figure.name for figure in page.figures] == [f"position_1_{task}", "orders_1"]


def test_a_leaderboard_shows_the_studies_in_its_folders_and_forgets_them(tmp_path: Path) -> None:
    study(tmp_path / "runs" / "study")
    write_run(
        tmp_path / "runs" / "plain", {TASK: [binary(i, True) for i in range(16)]}, NONE, metrics=METRICS[:1]
    )
    site = tmp_path / "site"
    build_site([RunFolder(tmp_path / "runs")], site, sources=[], title="T")
    (shown,) = (site / "studies").glob("*.html")
    assert f'href="studies/{shown.name}"' in (site / "studies.html").read_text()
    assert 'href="studies.html"' in (site / "index.html").read_text()
    assert f'src="../studies/{shown.stem}/table_1.svg"' in shown.read_text()
    build_site([RunFolder(tmp_path / "runs" / "plain")], site, sources=[], title="T")
    assert not (site / "studies.html").exists()
    assert not (site / "studies").exists()


def test_a_study_of_attention_alone_stands_beside_runs(tmp_path: Path) -> None:
    spec = {"id": "made:attention", "tasks": [TASK], "settings": [{"name": "none"}], "measure": ["attention"]}
    planned = [cell("none", tasks=[TASK], measure="attention")]
    folder = write_study(tmp_path / "attention", spec, planned, {})
    with pytest.raises(UserError, match=r"the study's own page is .*attention/index.html") as raised:
        build_site([RunFolder(folder)], tmp_path / "site", sources=[], title="T")
    assert "\n" not in str(raised.value)
    runs = write_run(
        tmp_path / "runs", {TASK: [binary(i, True) for i in range(9)]}, NONE, metrics=METRICS[:1]
    )
    build_site([RunFolder(runs), RunFolder(folder)], tmp_path / "site", sources=[], title="T")
    assert "cell none is not finished" in next((tmp_path / "site/studies").glob("*.html")).read_text()


PAPERS = (
    *("mimic:fig1", "mimic:fig3", "mimic:fig4", "mimic:fig5", "mimic:fig8", "mimic:fig9", "mimic:fig10"),
    *(f"mimic:table{number}" for number in (2, 3, 4, 5, 6)),
    *(f"ar:fig2{letter}" for letter in "abcd"),
    *("ar:sec3.1", "ar:sec3.3", "ar:table1", "ar:fig4a", "ar:fig4b", "ar:fig4c", "ar:fig4d", "ar:fig5"),
    *("ar:fig6a", "ar:fig6b", *(f"ar:table{number}" for number in range(2, 8))),
    *("sofa:pqa", "sofa:swap", "focus:table"),
)


def test_every_figure_and_table_of_the_papers_is_a_study() -> None:
    assert set(PAPERS) <= set(packaged())
    for name in packaged():
        read = read_study(name)
        entries = [Entry("base", "llava_ov_mask", {}), *(Entry(e, "llava_ov_mask", {}) for e in read.entries)]
        assert make_cells(read, entries)
        assert read.outputs
        assert read.caveats  # what is not comparable, and why
        for row in (row for table in read.reported for row in table.rows):
            assert row.setting or "," in row.model, f"{name}: a row without setting says which it is"


def test_reported_numbers_are_those_of_the_tables() -> None:
    assert printed_table("ar_mmiu").rows[-1].values[:2] == ("39.9", "29.9")
    (reported,) = read_study("ar:table1").reported
    (row,) = (row for row in reported.rows if (row.model, row.setting) == ("Qwen2-VL-7B", "ar"))
    assert row.values == ("31.9", "44.2", "34.7", "35.5", "42.5")
    assert reported.columns[1].items == 2600
    (own,) = read_study("mimic:table5").reported
    assert [row.values[-1] for row in own.rows if row.setting == "depth_second"] == ["49.4"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"table": "ars"}, "Unknown published table 'ars'. Did you mean 'ar'?"),
        ({"table": "ar", "rows": []}, "Unknown key of reported beside table 'rows'"),
        ({"table": "ar", "columns": {"MMUI": {}}}, r"columns of reported \(ar\) 'MMUI'. Did you mean 'MMIU'"),
        ({"table": "ar", "settings": {"SOFA": "x"}}, "Did you mean 'SoFA'"),
        ({"table": "ar", "models": ["Qwen2-VL"]}, "Did you mean 'Qwen2-VL-7B'"),
        ({"table": "ar", "settings": {"AR": "art"}}, "art"),
    ],
)
def test_a_wrong_name_in_reported_is_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        read_reported("reported", given, ["none", "ar"])
    assert "\n" not in str(raised.value)


def test_a_table_is_written_out() -> None:
    full = expanded("reported", {"table": "sofa"})
    assert full["rows"] == [
        {
            "model": "not named, SoFA",
            "values": ["57.14", "60.67", "55.92", "59.23", "90.26", "57.71"],
            "note": None,
        }
    ]
