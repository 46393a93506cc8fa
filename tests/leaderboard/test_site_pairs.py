"""Paired tests of a board and the ranks that they allow, by hand and against the commands."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from leaderboard.arms import read_arm
from leaderboard.comparison import compare
from leaderboard.measures import Binary, CorpusF1
from leaderboard.site.ranks import ResultScores, adjusted, pair_tests, rank_ranges
from stats import holm, mcnemar_exact, micro_f1_difference
from tests.makers.runs import BLOCK, NONE, listing, write_run
from tests.makers.site import built


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
