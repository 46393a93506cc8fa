"""The leaderboard's records against hand-made runs, and the files that a build writes."""

import csv
import html
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leaderboard.arms import read_arm
from leaderboard.comparison import compare
from leaderboard.measures import Binary, CorpusF1
from leaderboard.reported import OVERVIEW, printed_table
from leaderboard.robustness import robustness
from leaderboard.runs import read_runs
from leaderboard.site import pieces
from leaderboard.site.boards import Board
from leaderboard.site.build import RunFolder, build_site
from leaderboard.site.entries import Entry, EvaluatedRun, entries_of, run_facts
from leaderboard.site.overview import summarize_overview
from leaderboard.site.ranks import ResultScores, adjusted, pair_tests, rank_ranges
from leaderboard.site.results import TaskResult, summarize_results
from mimic_eval.records import UserError
from mimic_tasks.catalog import Catalog
from mimic_tasks.locate import EMBEDDED
from stats import (
    detectable_share,
    holm,
    mcnemar_exact,
    micro_f1_difference,
    paired_mean_difference,
    wilson,
)
from tests.conftest import Command
from tests.makers.docs_runs import docs_in, drawn, unscored, write_docs_run
from tests.makers.runs import BLOCK, NONE, binary, listing, permuted, write_run

ROOT = Path(__file__).resolve().parents[2]
EXACT = ("exact_match", "exact_match_official")
TASK = "mimic_counting"


def counting(folder: Path, rights: Any, settings: dict[str, Any], **more: Any) -> Path:
    samples = [binary(i, right, n_images=2 + i % 3, spread=1) for i, right in enumerate(rights)]
    return write_run(folder, {TASK: samples}, settings, metrics=EXACT, **more)


def results_of(folder: Path) -> list[TaskResult]:
    (run,) = read_runs(folder)
    return [own.result for own in summarize_results(run, "f" * 64)[0]]


def built(out: Path, *folders: Path, sources: Any = ()) -> Path:
    build_site([RunFolder(folder) for folder in folders], out, sources=sources, title="Made")
    return out


def record(site: Path, pattern: str) -> list[Any]:
    return [json.loads(file.read_text()) for file in sorted(site.glob(pattern))]


def texts(site: Path) -> dict[str, str]:
    return {str(file.relative_to(site)): file.read_text() for file in sorted(site.rglob("*.html"))}


def exact(name: str, rights: list[bool | None]) -> ResultScores:
    scores = [float("nan") if right is None else float(right) for right in rights]
    return ResultScores(name, Binary(), np.array(scores))


def test_entries_that_a_paired_test_cannot_tell_apart_share_their_ranks() -> None:
    a, b, c = [True] * 30 + [False] * 10, [True] * 28 + [False] * 12, [False] * 40
    tests = pair_tests([exact("a", a), exact("b", b), exact("c", c)], {})
    want = [mcnemar_exact(2, 0).pvalue, mcnemar_exact(30, 0).pvalue, mcnemar_exact(28, 0).pvalue]
    assert [test.pvalue for test in tests] == want
    assert adjusted(tests) == list(holm(want).adjusted)
    assert [test.delta for test in tests] == pytest.approx([-2 / 40, -30 / 40, -28 / 40])
    assert rank_ranges(["a", "b", "c"], tests, adjusted(tests)) == {"a": (1, 2), "b": (1, 2), "c": (3, 3)}


def test_nobody_is_first_where_the_docs_signed_ranks_point_the_other_way() -> None:
    """Worse in 48 of 60 docs, better by micro F1: before, ranked first by a test that said the opposite."""
    rambling = np.arange(60) < 12
    two = np.full(60, 2)
    honest = np.stack([two, 2 + 20 * rambling, two], axis=1)
    other = np.stack([two, 2 + ~rambling, two], axis=1)
    scores = [
        ResultScores(name, CorpusF1(), 2 * counts[:, 0] / counts[:, 1:].sum(axis=1), counts)
        for name, counts in (("honest", honest), ("other", other))
    ]
    (test,) = pair_tests(scores, {})
    assert test.delta > 0
    assert test.pvalue < 0.05
    assert test.conflict
    assert rank_ranges(["honest", "other"], [test], [test.pvalue]) == {"honest": (1, 2), "other": (1, 2)}
    agreed = test._replace(conflict=False)
    assert rank_ranges(["honest", "other"], [agreed], [agreed.pvalue])["other"] == (1, 1)


def test_a_sweep_is_ranked_by_its_matched_sets() -> None:
    rights = [True] * 6 + [False] * 6
    a = exact("a", [right for right in rights for _ in range(8)])
    b = exact("b", [False] * 96)
    sets = tuple(i // 8 for i in range(96))
    (alone,) = pair_tests([a, b], {})
    (within,) = pair_tests([replace(a, clusters=sets), replace(b, clusters=sets)], {})
    assert alone.pvalue < 1e-10  # 48 docs of one direction
    assert within.pvalue == pytest.approx(mcnemar_exact(6, 0).pvalue)  # 6 sets


def test_docs_unscored_in_one_are_in_no_test() -> None:
    a = exact("a", [True] * 10)
    (test,) = pair_tests([a, exact("b", [False] * 4 + [None] * 6)], {})
    assert (test.n, test.pvalue) == (4, mcnemar_exact(4, 0).pvalue)
    assert pair_tests([a, exact("c", [None] * 10)], {}) == []


def test_a_listing_doc_unscored_in_one_is_left_out_of_the_pair_alone() -> None:
    draw = np.random.default_rng(0)
    made = []
    for i in range(3):
        recalled = draw.integers(0, 3, 30)
        counts = np.stack([recalled, recalled + 1, np.full(30, 3)], axis=1)
        made.append(ResultScores(str(i), CorpusF1(), 2 * recalled / (recalled + 4), counts))
    gap = ResultScores("gap", CorpusF1(), np.where(np.arange(30) < 5, np.nan, made[0].scores), made[0].counts)
    tests = {(own.a, own.b): own for own in pair_tests([*made, gap], {})}
    alone = {(own.a, own.b): own for own in pair_tests(made, {})}
    assert tests["0", "1"] == alone["0", "1"]  # what others leave unscored changes nothing
    columns = [own[5:].T for own in (made[0].counts, made[1].counts) if own is not None]
    want = micro_f1_difference(tuple(columns[0]), tuple(columns[1]))
    found = tests["1", "gap"]
    assert (found.n, found.delta, found.low) == (25, want.estimate, want.low)


def test_a_known_test_is_taken_and_not_made_again() -> None:
    a, b = exact("a", [True, False]), exact("b", [False, False])
    (test,) = pair_tests([a, b], {})
    marked = test._replace(pvalue=0.125)
    assert pair_tests([a, b], {("a", "b"): marked}) == [marked]


def test_listing_is_tested_as_mimic_compare_tests_it(tmp_path: Path) -> None:
    names = ["cat", "dog", "bus"]
    first = [listing(i, (i % 3, 3, 3), names, gt="x") for i in range(40)]
    second = [listing(i, (min(3, i % 3 + i % 2), 3, 3), names, gt="x") for i in range(40)]
    folders = [
        write_run(tmp_path / str(i), {"mimic_listing": rows}, settings, metrics=("f1",))
        for i, (rows, settings) in enumerate(((first, NONE), (second, BLOCK)))
    ]
    (row,) = compare([read_arm(folder) for folder in folders]).rows
    site = built(tmp_path / "site", *folders)
    (line,) = csv.DictReader((site / next(site.glob("csv/tasks/*.pairs.csv")).relative_to(site)).open())
    turn = 1 if "none" in line["a"] else -1
    assert float(line["p"]) == row.pvalue
    assert turn * float(line["b_minus_a"]) == pytest.approx(row.delta.estimate)
    ends = sorted(turn * float(line[end]) for end in ("low", "high"))
    assert ends == pytest.approx([row.delta.low, row.delta.high])
    counts = [[tuple(s["f1"]["counts"]) for s in own] for own in (first, second)]
    a, b = (tuple(zip(*own, strict=True)) for own in counts)
    assert micro_f1_difference(b, a).estimate == pytest.approx(row.delta.estimate)


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
    assert page.count("cyclic, seed 0") == 1  # what all entries have in common is said once
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


HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(2)>'); javascript:alert(3) {{1237*1237}} ../x"


def test_hostile_names_and_answers_are_text_everywhere(tmp_path: Path) -> None:
    settings = {**NONE, "checkpoint": f"={HOSTILE}", "family": HOSTILE, HOSTILE: HOSTILE, "mask": HOSTILE}
    more = {
        "question": HOSTILE,
        "gt": HOSTILE,
        "cell": f"a={HOSTILE}",
        "response": HOSTILE,
    }
    samples = [binary(i, i % 2 == 0, HOSTILE, **more | {"spread": str(i % 2) + HOSTILE}) for i in range(6)]
    folder = write_run(tmp_path / "a", {TASK: samples}, settings, metrics=EXACT)
    results = next(folder.glob("*_results.json"))
    told = json.loads(results.read_text())
    told["config"] = {"model": HOSTILE, "model_args": HOSTILE}
    told["configs"] = {TASK: {"metadata": {"label": HOSTILE}}}
    told["date"] = HOSTILE
    results.write_text(json.dumps(told))
    site = built(tmp_path / "site", folder, counting(tmp_path / "b", [True] * 6, BLOCK))
    for name, text in texts(site).items():
        assert "<script>alert" not in text
        assert "<img src=x" not in text
        assert not re.search(
            r'href="(?!https://arxiv\.org/abs/2601\.07812"|#|data:,|(\.\./)*[\w./-]+\.(html|css|csv|json)(#[\w=&;.-]*)?")',
            text,
        ), name
        assert str(1237 * 1237) not in text
    for file in site.rglob("*"):
        assert re.fullmatch(r"[\w.-]+", file.name)
    for file in (site / "data").rglob("*.js*"):
        assert "<" not in file.read_text()
    for line in csv.reader((site / "csv/overview.csv").open()):
        assert not any(cell.startswith(("=", "+", "@")) for cell in line)


@pytest.mark.parametrize(
    ("task", "line", "told"),
    [
        ("../../etc/passwd", None, "is no name of a task"),
        (TASK, "{broken", "not JSON"),
        (TASK, '{"doc_id": 0, "unscored": 0, "exact_match": {"score": 1.0}}', "doc 0: 'mimic' must be"),
        (TASK, "[" * 100_000, "not JSON"),
        (TASK, '{"doc_id": 0, "x": ' + "9" * 5000 + "}", "not JSON"),
    ],
)  # fmt: skip
def test_broken_runs_are_refused_in_one_line(tmp_path: Path, task: str, line: str | None, told: str) -> None:
    folder = counting(tmp_path / "a", [True], NONE)
    results = next(folder.glob("*_results.json"))
    results.write_text(results.read_text().replace(TASK, task))
    if line is not None:
        next(folder.glob("*.jsonl")).write_text(line + "\n")
    with pytest.raises(UserError, match=told):
        built(tmp_path / "site", folder)


def test_a_score_out_of_range_is_refused(tmp_path: Path) -> None:
    folder = counting(tmp_path / "a", [True], NONE)
    samples = next(folder.glob("*.jsonl"))
    for value in ("NaN", "1e999", "7", "-1"):
        samples.write_text(re.sub(r'"score": [^,}]+', f'"score": {value}', samples.read_text()))
        with pytest.raises(UserError, match="doc 0: exact_match: 'score' must be a number within 0-1, got"):
            built(tmp_path / "site", folder)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    run = counting(tmp_path / "a", [True] * 3, NONE)
    mine = tmp_path / "site"
    mine.mkdir()
    (mine / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="holds something else than a leaderboard"):
        built(mine, run)
    assert [file.name for file in mine.iterdir()] == ["thesis.txt"]
    with pytest.raises(UserError, match="is a file: name a folder"):
        built(mine / "thesis.txt", run)
    with pytest.raises(UserError, match="its runs evaluated no MIMIC task"):
        built(tmp_path / "new", write_run(tmp_path / "none", {"mme": []}, NONE))


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


def _board(found: list[Entry], result: TaskResult) -> Board:
    from leaderboard.site.boards import BoardScores, Known, summarize_board

    answers = BoardScores(lambda name: [], lambda name: [])
    return summarize_board(found, result.board, f"{result.task}-{result.data}", answers, Known({}, {}))
