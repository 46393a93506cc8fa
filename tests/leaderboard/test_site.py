"""The leaderboard's records against hand-made runs, and the files that a build writes."""

import csv
import html
import json
import re
from pathlib import Path
from typing import Any

import pytest

from leaderboard.arms import read_arm
from leaderboard.pairing import docs_of
from leaderboard.reported import OVERVIEW, printed_table
from leaderboard.robustness import robustness
from leaderboard.runs import read_run, read_runs
from leaderboard.site import pieces
from leaderboard.site.boards import Board
from leaderboard.site.doc_pages import Example
from leaderboard.site.entries import Entry, EvaluatedRun, entries_of, run_facts
from leaderboard.site.overview import summarize_overview
from leaderboard.site.results import TaskResult, summarize_results
from leaderboard.site.task_docs import SeenDocs
from mimic_tasks.catalog import Catalog
from mimic_tasks.locate import EMBEDDED
from stats import (
    detectable_share,
    paired_mean_difference,
    wilson,
)
from tests.conftest import Command
from tests.makers.docs_runs import docs_in, drawn, unscored, write_docs_run
from tests.makers.runs import BLOCK, NONE, binary, permuted, write_run
from tests.makers.site import built, counting

ROOT = Path(__file__).resolve().parents[2]


def results_of(folder: Path) -> list[TaskResult]:
    (run,) = read_runs(folder)
    return [own.result for own in summarize_results(run, "f" * 64)[0]]


def record(site: Path, pattern: str) -> list[Any]:
    return [json.loads(file.read_text()) for file in sorted(site.glob(pattern))]


def test_a_point_of_a_curve_is_the_score_of_its_docs_without_the_unscored(tmp_path: Path) -> None:
    rights = [True, False, None] * 4 + [True, True, False]
    (result,) = results_of(counting(tmp_path, rights, NONE))
    points = {point.value: point for point in result.curves["n_images"]}
    assert list(points) == ["2", "3", "4"]
    for size in (2, 3, 4):
        own = [right for i, right in enumerate(rights) if 2 + i % 3 == size]
        scored = [right for right in own if right is not None]
        point = points[str(size)]
        assert (point.n, point.unscored) == (len(scored), len(own) - len(scored))
        if scored:
            want = wilson(sum(scored), len(scored))
            assert (point.score, point.low, point.high) == (want.estimate, want.low, want.high)
    assert points["4"].score == pytest.approx(0)
    assert "spread" not in result.curves  # one value is no curve
    assert result.statuses == {"parsed": 11, "unscored": 4}
    assert result.reasons == {"cut off": 4}


def entries(*folders: Path, submissions: Any = None) -> list[Entry]:
    pieces = []
    for folder in folders:
        for run in read_runs(folder):
            own = [logged.result for logged in summarize_results(run, folder.name * 16)[0]]
            pieces.append(EvaluatedRun(run_facts(run, "x"), own, (submissions or {}).get(folder.name)))
    return entries_of(pieces)


def test_the_newest_result_of_an_entry_counts_and_settings_tell_entries_apart(tmp_path: Path) -> None:
    old = counting(tmp_path / "a", [False] * 6, NONE, date="1")
    new = counting(tmp_path / "b", [True] * 6, NONE, date="2")
    other = counting(tmp_path / "c", [True] * 6, {**NONE, "dtype": "float16"})
    found = entries(old, new, other)
    assert [entry.label for entry in found] == ["m · none, dtype -", "m · none, dtype float16"]
    assert [own.headline.score for own in found[0].results] == [1.0]
    assert len({entry.id for entry in found}) == 2


def test_the_same_model_sent_in_by_two_is_two_entries(tmp_path: Path) -> None:
    folders = [counting(tmp_path / name, [True] * 6, NONE) for name in "ab"]
    sent = {name: {"name": f"team-{name}", "what": "Ours 7B", "checkpoint": "x/y-7b"} for name in "ab"}
    found = entries(*folders, submissions=sent)
    assert [entry.label for entry in found] == ["Ours 7B · none (team-a)", "Ours 7B · none (team-b)"]
    assert {entry.size for entry in found} == {"7B"}


def test_docs_that_runs_have_in_common_are_described_once_and_others_are_not_mixed_up(tmp_path: Path) -> None:
    def docs(name: str, **control: Any) -> dict[Any, Any]:
        rows = [binary(i, True, n_images=3, **control) for i in range(4)]
        run = read_run(next(write_run(tmp_path / name, {"mimic_common": rows}, NONE).glob("*_results.json")))
        return docs_of(run.samples_of("mimic_common"))

    seen = SeenDocs()
    first = seen.of("mimic_common", docs("a", spread=2))
    assert seen.of("mimic_common", docs("b", spread=2)) is first
    assert seen.of("mimic_other", docs("b", spread=2)) is not first
    for i, (spread, text) in enumerate(((3, "3"), (2.0, "2.0"), ("2", "2"), (True, "True"))):
        other = seen.of("mimic_common", docs(f"c{i}", spread=spread))
        assert other is not first
        assert [one.controls["spread"] for one in other.facts] == [text] * 4
    assert list(first.groups["spread"]) == ["2"]
    assert first.digest != other.digest


def test_the_counted_parameters_of_a_checkpoint_come_before_its_name(tmp_path: Path) -> None:
    """Also for an older run of the same checkpoint; of others it is what the name says."""
    named = {**NONE, "checkpoint": "org/net-7b"}
    folders = [
        counting(tmp_path / "old", [True] * 6, named),
        counting(tmp_path / "new", [True] * 6, {**named, "mask": "block", "layers": "3-5"}),
        counting(tmp_path / "other", [True] * 6, {**named, "checkpoint": "org/other-7b"}),
    ]
    file = next(folders[1].glob("*_results.json"))
    sizes = {7_066_000_000: "7.07B", 893_600_000: "894M", 999_700_000: "1B", 1_280_000: "1.28M", 512: "512"}
    for count, size in sizes.items():
        results = json.loads(file.read_text())
        results["mimic"]["parameters"] = count
        file.write_text(json.dumps(results))
        found = {entry.label: (entry.size, entry.counted) for entry in entries(*folders)}
        assert sorted(found.values()) == sorted([(size, True), (size, True), ("7B", False)])
    for wrong in (-1, True, "7B", 1e9, None):
        results["mimic"]["parameters"] = wrong
        file.write_text(json.dumps(results))
        assert {entry.size for entry in entries(*folders)} == {"7B"}


def test_runs_on_different_docs_are_never_ranked_together(tmp_path: Path) -> None:
    site = built(
        tmp_path / "site",
        counting(tmp_path / "a", [True] * 20, NONE),
        counting(tmp_path / "b", [False] * 19, BLOCK),
    )
    boards = record(site, "data/boards/*.json")
    assert sorted(board["docs"] for board in boards) == [19, 20]
    assert [board["standings"][0]["rank"] for board in boards] == [None, None]  # nobody is first of one


def test_reported_rows_are_those_of_methods_and_in_no_rank(tmp_path: Path) -> None:
    methods = " ".join((ROOT / "docs/METHODS.md").read_text().split())
    tables = [printed_table(name) for name in OVERVIEW]
    mimic, others = tables[:2]
    for row in mimic.rows[:5]:
        assert " / ".join(value or "" for value in row.values) in methods
    for row in mimic.rows[5:]:
        assert f"{row.setting.removeprefix('mask depth: ').removeprefix('layers ')} {row.values[-1]}" in (
            methods.replace("layers ", "").replace("*", "")
        )
    base, masked = (row.values for row in others.rows[2:])
    names = ("Blink", "MMIU", "MIRB", "MMT", "NLVR2")
    for name, before, after in zip(names, base[1:], masked[1:], strict=True):
        assert f"{name} {before} to {after}" in methods
    assert "MuirBench: 0.5B 26.8 to 32.5, 7B 41.7 to 51.3" in methods
    site = built(tmp_path / "site", counting(tmp_path / "a", [True] * 9, NONE))
    assert "reported" not in (site / "csv/overview.csv").read_text()
    tags = sum(1 + len(table.rows) for table in tables)
    page = (site / "index.html").read_text()
    assert page.count('<span class="tag">reported</span>') == tags == 9 + 4 + 16 + 1 + 4
    assert all(html.escape(table.caveat, quote=False) in html.unescape(page) for table in tables)


def test_each_reported_number_says_whether_it_is_attainable(tmp_path: Path) -> None:
    site = built(tmp_path / "site", counting(tmp_path / "a", [True] * 9, NONE))
    lines = list(csv.DictReader((site / "csv/reported.csv").open()))
    assert len(lines) == 5 * 5 + 4 + (1 + 1 + 6 + 6) + 16 * 5 + 6
    said = {(line["model"], line["setting"], line["column"]): line for line in lines}
    assert said["LLaVA-OV-7B", "base", "MuirBench"]["attainable"] == "attainable"
    base = said["LLaVA-OV-0.5B", "base", "average"]
    assert (base["attainable"], base["reason"].split(";")[0]) == ("attainable", "the unweighted mean")
    masked = said["LLaVA-OV-7B", "block-masked", "average"]  # 63.8 where the four average 63.45
    assert masked["attainable"] == "cannot be said"
    assert masked["reason"] == "unweighted mean 63.40 to 63.50; a weighted mean needs the items of each part"
    assert said["LLaVA-OV-0.5B", "mask depth: none", "average"]["reason"] == "its parts are not printed"
    assert said["LLaVA-OV-0.5B", "base", "listing"]["attainable"] == "cannot be said"
    sofa = said["not named", "SoFA", "MuirBench"]
    assert (sofa["attainable"], sofa["reason"]) == (
        "not attainable", "the nearest: 1485/2600 = 57.115, 1486/2600 = 57.154",
    )  # fmt: skip
    page = (site / "index.html").read_text()
    assert page.count("1 attainable as any number is, 4 cannot be said") == 16, "of 2,600 items any number is"
    assert "2 not attainable, 4 cannot be said (MuirBench 57.14: the nearest: 1485/2600 = 57.115" in page


def test_a_board_says_what_its_tests_would_have_shown(tmp_path: Path) -> None:
    one, other = [i % 2 == 0 for i in range(60)], [i % 2 == 0 or i == 1 for i in range(60)]
    site = built(
        tmp_path / "site", counting(tmp_path / "a", one, NONE), counting(tmp_path / "b", other, BLOCK)
    )
    least = detectable_share(60, 1)
    assert least is not None
    (board,) = record(site, "data/boards/*.json")
    (line,) = csv.DictReader((site / f"csv/tasks/{board['id']}.pairs.csv").open())
    assert float(line["detectable"]) == least
    page = (site / f"tasks/{board['id']}.html").read_text()
    assert f"would detect (power 0.8, before the Holm correction) is {100 * least:.1f} points" in page


def test_the_robustness_page_says_what_mimic_robustness_says(tmp_path: Path) -> None:
    orders = [(0, 1, 2), (1, 2, 0), (2, 0, 1)]
    rights = [(True, True, True)] * 4 + [(True, False, False)] * 5 + [(False, True, False)] * 3
    samples = [own for d, right in enumerate(rights) for own in permuted(d, orders, right, n_images=3)]
    task = "mimic_counting_permuted"
    folder = write_run(tmp_path / "p", {task: samples}, NONE, metrics=("exact_match_over_orders",))
    (row,) = robustness([read_arm(folder)]).rows
    site = built(tmp_path / "site", folder)
    lines = {line["measure"]: line for line in csv.DictReader((site / "csv/robustness.csv").open())}
    for name in ("score", "consistent", "any_change", "disagreement", "slope", "recency"):
        own = getattr(row, name)
        assert [float(lines[name][end]) for end in ("estimate", "low", "high")] == list(own[:3])
    page = (site / "robustness.html").read_text()
    assert f">{100 * row.any_change.estimate:.1f} <small>" in page
    assert re.search(r">[+-]\d+\.\d <small>\[", page)  # position measures, in points with their sign
    assert "0.6" not in page.partition("<main")[2]  # shares are in percent everywhere
    assert page.count("cyclic, seed 0") == 1  # what all entries have in common appears once
    (board,) = record(site, "data/boards/*.json")
    assert board["permuted"] is True
    assert board["docs"] == 12
    docs = (site / f"docs/{board['id']}-1.html").read_text()
    assert "<td>2, 3, 1</td>" in docs  # the answers to a doc stand beside the order they were given in
    assert "the build did not get the data of this doc" in docs


def test_flips_are_tested_as_mimic_robustness_tests_them(tmp_path: Path) -> None:
    orders = [(0, 1, 2), (1, 2, 0), (2, 0, 1)]
    steady, turning = [(True, True, True)] * 12, [(True, False, True)] * 11 + [(False, False, False)]
    other = [*steady[:11], (False, False, False)]
    unscored = [(True, None, True)]  # steady in none
    folders = []
    for name, rights, settings in (("a", steady, NONE), ("b", turning, BLOCK), ("c", other, {"mask": "x"})):
        samples = [
            own
            for d, right in enumerate(rights + unscored)
            for own in permuted(d, orders, right, n_images=3, gt=str(d))
        ]
        task = {"mimic_counting_permuted": samples}
        folders.append(write_run(tmp_path / name, task, settings, metrics=("exact_match_over_orders",)))
    site = built(tmp_path / "site", *folders)
    (board,) = record(site, "data/boards/*.json")
    ranks = {own["label"].split(" · ")[1]: own["rank_by_flips"] for own in board["standings"]}
    assert ranks == {
        "none": {"best": 1, "worst": 2},
        "x": {"best": 1, "worst": 2},
        "block 3-5": {"best": 3, "worst": 3},
    }
    lines = list(csv.DictReader((site / f"csv/tasks/{board['id']}.flips.csv").open()))
    assert len(lines) == 3
    (found,) = (own for own in lines if {"none", "block 3-5"} == {own[x].split(" · ")[1] for x in "ab"})
    # Of three orders, one answer differs in 11 docs of block: a third of the pairs agree. One is unscored.
    want = paired_mean_difference([1.0] * 12 + [1 / 3], [1 / 3] * 11 + [1.0, 1 / 3])
    assert float(found["p"]) == pytest.approx(want.pvalue)
    assert (int(found["n"]), abs(float(found["b_minus_a"]))) == (13, pytest.approx(want.estimate))
    (compared,) = (
        test for test in robustness([read_arm(folder) for folder in folders[:2]]).tests if test.pvalue
    )
    scored = paired_mean_difference(
        [0.0] * 12, [2 / 3] * 11 + [0.0]
    )  # the command leaves the unscored doc out
    assert (compared.pvalue, compared.delta.estimate) == pytest.approx((scored.pvalue, -scored.estimate))
    assert "3 of 3" in (site / "robustness.html").read_text()


def embedded_runs(folder: Path) -> list[Path]:
    docs = docs_in(EMBEDDED, limit=25)
    docs = {kind: docs[kind] for kind in ("counting", "listing")}
    return [
        write_docs_run(folder / "good", docs, drawn(1, 1.2, docs), {**NONE, "checkpoint": "made/x-7b"}),
        write_docs_run(folder / "bad", docs, drawn(2, 0.1, docs), {**BLOCK, "checkpoint": "made/x-0.5b"}),
    ]


def test_a_build_twice_is_the_same_bytes_and_reads_no_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = embedded_runs(tmp_path)
    catalog = [Catalog(EMBEDDED)]
    site = built(tmp_path / "site", *folders, sources=catalog)
    before = {file: file.read_bytes() for file in site.rglob("*") if file.is_file()}
    assert any(file.suffix == ".jpg" for file in before)
    with monkeypatch.context() as patch:
        patch.setattr(pieces, "read_run", lambda path: pytest.fail(f"{path} was read again"))
        built(site, *folders, sources=catalog)
    assert {file: file.read_bytes() for file in site.rglob("*") if file.is_file()} == before
    assert before == {
        site / file.relative_to(tmp_path / "other"): file.read_bytes()
        for file in built(tmp_path / "other", *folders, sources=catalog).rglob("*")
        if file.is_file()
    }
    built(site, folders[0], sources=catalog)  # what is of the other run is gone
    assert len(list((site / "models").iterdir())) == 1
    assert len(list((site / "data/runs").iterdir())) == 1


def test_overview_csv_and_json_say_the_same(tmp_path: Path) -> None:
    site = built(tmp_path / "site", *embedded_runs(tmp_path))
    overview = json.loads((site / "data/overview.json").read_text())
    assert overview["version"] == 3
    assert overview["choices"]["size"] == ["0.5B", "7B"]
    (section,) = overview["sections"]
    lines = list(csv.DictReader((site / "csv/overview.csv").open()))
    assert len(lines) == 10  # two entries, two tasks, ours and official; the best constant answer of a task
    for entry in section["entries"]:
        for score in entry["scores"]:
            own = [
                line for line in lines if line["id"] == entry["id"] and line["task"] == score["ours"]["task"]
            ]
            assert float(own[0]["score"]) == score["ours"]["score"]
            assert int(own[0]["rank_best"]) == score["rank"]["best"]
            assert float(own[1]["score"]) == score["official"]["score"]
    ranks = {entry["label"]: [s["rank"]["best"] for s in entry["scores"]] for entry in section["entries"]}
    assert ranks == {"x-7b · none": [1, 1], "x-0.5b · block 3-5": [2, 2]}
    index = (site / "index.html").read_text()
    assert index.index("x-7b") < index.index("x-0.5b")


def test_unscored_docs_are_shown_with_their_reason_and_not_as_wrong(tmp_path: Path) -> None:
    docs = {"counting": docs_in(EMBEDDED, limit=12)["counting"]}
    first = docs["counting"][0]["content_hash"]
    truth = lambda kind, doc: unscored("cut off <b>") if doc["content_hash"] == first else doc["gt"]  # noqa: E731
    site = built(tmp_path / "site", write_docs_run(tmp_path / "a", docs, truth, NONE))
    (board,) = record(site, "data/boards/*.json")
    assert board["standings"][0]["rows"][0]["n"] == 11
    assert board["standings"][0]["rows"][0]["score"] == 1.0
    page = (site / f"docs/{board['id']}-1.html").read_text()
    row = re.search(r'<tr class="">.*?cut off &lt;b&gt;.*?</tr>', page, re.DOTALL)
    assert row is not None
    assert "unscored" in row[0]


def test_the_command_builds_and_says_where(command: Command, tmp_path: Path) -> None:
    folders = embedded_runs(tmp_path)
    done = command("mimic", "leaderboard", "build", *folders, "--out", tmp_path / "site")
    assert done.returncode == 0, done.stderr
    assert "2 entries on 2 boards, 50 docs" in done.stdout
    assert f"Wrote {tmp_path / 'site' / 'index.html'}" in done.stdout
    assert len(list((tmp_path / "site/images").iterdir())) > 20
    wrong = command("mimic", "leaderboard", "build", tmp_path / "nothing", "--out", tmp_path / "b")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert "no such folder" in wrong.stderr


def test_boards_of_real_data_come_before_embedded_ones(tmp_path: Path) -> None:
    docs = {"counting": docs_in(EMBEDDED, limit=5)["counting"]}
    answer = drawn(1, 1.0, docs)
    first = write_docs_run(tmp_path / "a", docs, answer, NONE)
    second = write_docs_run(tmp_path / "b", docs, answer, NONE, label="coco", date="20260102_000000")
    found = entries(first, second)
    assert len(found) == 1
    boards = [_board(found, own) for own in found[0].results]
    assert [section.data for section in summarize_overview(found, boards).sections] == ["coco", "embedded"]


def test_a_task_is_explained_by_its_board_with_pictures(tmp_path: Path) -> None:
    docs = {"counting": docs_in(EMBEDDED, limit=5)["counting"]}
    answer = drawn(1, 1.0, docs)
    first = write_docs_run(tmp_path / "a", docs, answer, NONE)
    second = write_docs_run(tmp_path / "b", docs, answer, NONE, label="coco", date="20260102_000000")
    found = entries(first, second)
    boards = [_board(found, own) for own in found[0].results]
    bare = Example("How many?", "1", "docs/x-1.html", ())
    pictured = Example("How many?", "1", "docs/y-1.html", (("images/a.png", 8, 8),))
    for shown in ((bare, pictured), (pictured, bare)):
        examples = {board.id: one for board, one in zip(boards, shown, strict=True)}
        (task,) = summarize_overview(found, boards, examples).explained
        assert task.example is pictured


def _board(found: list[Entry], result: TaskResult) -> Board:
    from leaderboard.site.boards import BoardScores, Known, summarize_board

    answers = BoardScores(lambda name: [], lambda name: [])
    return summarize_board(found, result.board, f"{result.task}-{result.data}", answers, Known({}, {}))
