"""What the first page says of masks: the difference to the same checkpoint without one, means, constants."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from leaderboard.arms import read_arm
from leaderboard.comparison import compare
from leaderboard.site.build import RunFolder, build_site
from stats import holm, mcnemar_exact
from tests.makers.runs import BLOCK, NONE, binary, permuted, write_run

FOUR = ("counting", "listing", "common", "oddone")
EXACT = ("exact_match", "exact_match_official")


def run(folder: Path, rights: Any, settings: dict[str, Any], tasks: Any = ("counting",), **more: Any) -> Path:
    samples = {
        f"mimic_{task}": [binary(i, right, kind=task, gt=f"g{i % 3}") for i, right in enumerate(rights)]
        for task in tasks
    }
    write_run(folder, samples, settings, metrics=EXACT, **more)
    for file in folder.glob("*_results.json"):
        file.write_text(json.dumps({**json.loads(file.read_text()), "date": more.get("date", "1")}))
    return folder


def built(out: Path, *folders: Path, **more: Any) -> Path:
    build_site([RunFolder(folder) for folder in folders], out, sources=(), title="Made", **more)
    return out


def standings(site: Path, board: str = "counting-made") -> dict[str, Any]:
    record = json.loads((site / f"data/boards/{board}.json").read_text())
    return {one["entry"]: one for one in record["standings"]}


def first_page(site: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((site / "data/overview.json").read_text())
    return record


def test_the_difference_to_the_base_is_what_compare_says(tmp_path: Path) -> None:
    folders = [
        run(tmp_path / "a", [True] * 20 + [False] * 20, NONE),
        run(tmp_path / "b", [True] * 32 + [False] * 8, BLOCK),
    ]
    site = built(tmp_path / "site", *folders)
    base = standings(site)["m-block-3-5"]["to_base"]
    (change,) = compare([read_arm(folder) for folder in folders]).rows
    assert [base["delta"], base["low"], base["high"]] == list(change.delta[:3])
    assert (base["pvalue"], base["adjusted"], base["family"]) == (change.pvalue, change.pvalue, 1)
    assert (base["base"], base["verdict"]) == ("m-none", "better")
    assert standings(site)["m-none"]["to_base"] is None
    page = (site / "index.html").read_text()
    assert '<small class="base better"><b>+30.0</b> [+' in page
    (line,) = [one for one in csv.DictReader((site / "csv/overview.csv").open()) if one["base"]]
    assert (line["base"], line["verdict"], float(line["minus_base"])) == ("m · none", "better", 0.3)


def test_another_setting_of_a_ranked_entry_is_tested_beside_the_ranks(tmp_path: Path) -> None:
    none = run(tmp_path / "a", [True] * 20 + [False] * 20, NONE, date="1")
    late = run(tmp_path / "b", [True] * 32 + [False] * 8, BLOCK, date="2")
    early = run(tmp_path / "c", [True] * 9 + [False] * 31, {**BLOCK, "layers": "0-2"}, date="3")
    other = run(tmp_path / "d", [True, False] * 20, {**NONE, "checkpoint": "n"})
    without = standings(built(tmp_path / "without", none, early, other))
    site = built(tmp_path / "site", none, late, early, other)
    found = standings(site)
    assert found["m-block-3-5"]["rank"] is None  # the newer setting is ranked
    assert {name: found[name]["rank"] for name in without} == {n: one["rank"] for n, one in without.items()}
    board = json.loads((site / "data/boards/counting-made.json").read_text())
    assert board["tests_in_family"] == 3
    ranked = found["m-block-0-2"]["to_base"]
    assert (ranked["delta"], ranked["family"], ranked["verdict"]) == (-0.275, 3, "worse")
    beside = found["m-block-3-5"]["to_base"]
    p = mcnemar_exact(12, 0).pvalue
    pairs = [mcnemar_exact(11, 0).pvalue, mcnemar_exact(10, 10).pvalue, mcnemar_exact(15, 4).pvalue, p]
    assert (beside["pvalue"], beside["family"]) == (p, 4)
    assert beside["adjusted"] == pytest.approx(holm(pairs).adjusted[3])
    script = (site / "data/boards/counting-made.js").read_text()  # head to head shows it too
    (row,) = [one for one in json.loads(script.split("\n")[1])["tests"] if "m-block-3-5" in one]
    assert row[:3] == ["m-none", "m-block-3-5", 0.3]
    assert "Holm-adjusted" in row[6]
    assert row[7:] == ["better", "better"]


def test_a_base_has_the_same_checkpoint_and_settings(tmp_path: Path) -> None:
    rights = [True] * 12 + [False] * 12
    site = built(
        tmp_path / "site",
        run(tmp_path / "a", rights, {**NONE, "pool": 4}),
        run(tmp_path / "b", rights[::-1], BLOCK),
        run(tmp_path / "c", [True, False] * 12, {**BLOCK, "pool": 4, "prefix": False, "kernel": "eager"}),
        run(tmp_path / "d", [True] * 24, {**BLOCK, "checkpoint": "other"}),
    )
    bases = {name: one["to_base"] and one["to_base"]["base"] for name, one in standings(site).items()}
    assert bases == {
        "m-none-pool-4": None,
        "m-block-3-5": None,  # its base would have no pooling
        "m-block-3-5-pool-4": "m-none-pool-4",
        "other-block-3-5": None,
    }


def test_the_same_answers_as_the_base_are_no_difference(tmp_path: Path) -> None:
    folders = [
        run(tmp_path / name, [True, False] * 8, settings) for name, settings in (("a", NONE), ("b", BLOCK))
    ]
    base = standings(built(tmp_path / "site", *folders))["m-block-3-5"]["to_base"]
    assert (base["delta"], base["low"], base["method"]) == (0.0, None, "the same answers")


def test_the_mean_is_of_the_four_tasks_and_only_of_entries_with_all_of_them(tmp_path: Path) -> None:
    rights = [True] * 9 + [False] * 3
    four = run(tmp_path / "a", rights, NONE, ("counting", "common", "oddone"))
    samples = {
        "mimic_listing": [
            {
                "doc_id": i,
                "f1": {"score": 1.0, "counts": [1, 1, 1]},
                "unscored": 0,
                "mimic": {
                    "kind": "listing", "content_hash": f"l{i}", "response": "dog", "status": "parsed",
                    "parsed": ["dog"], "score": 1.0, "gt": "dog",
                },
            }
            for i in range(12)
        ]
    }  # fmt: skip
    write_run(four, samples, NONE, date="2", metrics=("f1",))
    three = run(tmp_path / "b", rights[::-1], BLOCK, ("counting", "common", "oddone"))
    site = built(tmp_path / "site", four, three)
    (section,) = first_page(site)["sections"]
    assert {one["id"]: one["mean"] for one in section["entries"]} == {
        "m-none": (3 * 0.75 + 1) / 4,
        "m-block-3-5": None,
    }
    assert section["best_constant_answer"] == [pytest.approx(v) for v in (1 / 3, 1.0, 1 / 3, 1 / 3, 0.5)]
    assert len(section["mean_over"]) == 4
    (other,) = first_page(built(tmp_path / "other", three))["sections"]
    assert other["mean_over"] == []
    assert "of the four tasks" not in (tmp_path / "other/index.html").read_text().partition("<thead")[2]


def test_entries_of_permuted_tasks_alone_are_on_the_first_page(tmp_path: Path) -> None:
    orders = [(0, 1, 2), (1, 2, 0), (2, 0, 1)]
    samples = [one for d in range(12) for one in permuted(d, orders, (True, False, True), n_images=3)]
    task = {"mimic_counting_permuted": samples}
    folder = write_run(tmp_path / "p", task, NONE, metrics=("exact_match_over_orders",))
    site = built(tmp_path / "site", folder, run(tmp_path / "q", [True] * 12, {**NONE, "checkpoint": "n"}))
    sections = first_page(site)["sections"]
    assert [(s["permuted"], [one["id"] for one in s["entries"]]) for s in sections] == [
        (False, ["n-none"]),
        (True, ["m-none"]),
    ]
    assert 'href="models/m-none.html"' in (site / "index.html").read_text()
