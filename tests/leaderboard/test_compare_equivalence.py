"""`mimic compare --margin`: equivalence verdicts, in a family of their own, agree with their intervals."""

import csv
import io
import json
from pathlib import Path

import pytest

from leaderboard.arms import read_arm
from leaderboard.comparison import compare
from leaderboard.comparison_text import render_csv, render_json, render_text
from leaderboard.equivalence import margin_of, verdicts
from mimic_eval.records import UserError
from stats import (
    equivalent_shares,
)
from tests.makers.runs import BLOCK, NONE, binary, listing, write_run


def test_a_margin_gives_an_equivalence_verdict_that_agrees_with_its_interval(tmp_path: Path) -> None:
    # 300 docs, 2 right only in A, 3 only in B: the difference is 0.3 points.
    a = [binary(i, i < 150 or i in (200, 201)) for i in range(300)]
    b = [binary(i, i < 150 or i in (202, 203, 204)) for i in range(300)]
    one, other = write_run(tmp_path / "a", {"mimic_counting": a}, NONE), tmp_path / "b"
    arms = [read_arm(one), read_arm(write_run(other, {"mimic_counting": b}, BLOCK))]
    (row,) = compare(arms, margin=0.03).rows
    assert row.verdict == "no difference shown"
    assert row.equivalence is not None
    want = equivalent_shares(150, 3, 2, 145, margin=0.03)
    assert (row.equivalence.pvalue, row.equivalence.low, row.equivalence.high) == (
        want.pvalue,
        want.low,
        want.high,
    )
    assert row.equivalence.equivalent
    assert want.low is not None
    assert want.high is not None
    low, high = f"{100 * want.low:.1f}", f"{100 * want.high:.1f}"
    assert row.equivalence.sentence == (
        f"Counting: {row.name_b} 51.0 % vs {row.name_a} 50.7 % (+0.3 points, 90 % CI {low} to {high}; two "
        f"one-sided score tests (Tango 1998), p = {want.pvalue:.3f}; n = 300): equivalent within 3 points"
    )
    (narrow,) = compare(arms, margin=0.01).rows
    assert narrow.equivalence is not None
    assert not narrow.equivalence.equivalent
    assert narrow.equivalence.sentence.endswith("; n = 300): not shown to be equivalent within 1 point")
    (plain,) = compare(arms).rows
    assert plain.equivalence is None


def test_equivalence_tests_are_a_family_of_their_own(tmp_path: Path) -> None:
    a = {"mimic_counting": [binary(i, i < 80) for i in range(160)],
         "mimic_listing": [listing(i, (1, 2, 2), "ab") for i in range(60)]}  # fmt: skip
    b = {"mimic_counting": [binary(i, i < 80 or i in (99, 100)) for i in range(160)],
         "mimic_listing": [listing(i, (2 if i < 3 else 1, 2, 2), "ab") for i in range(60)]}  # fmt: skip
    arms = [read_arm(write_run(tmp_path / name, tasks, how))
            for name, tasks, how in (("a", a, NONE), ("b", b, BLOCK))]  # fmt: skip
    report = compare(arms, margin=0.05)
    one, two = (row.equivalence for row in report.rows)
    assert one is not None
    assert two is not None
    smaller, larger = sorted((one.pvalue, two.pvalue))
    assert {one.adjusted, two.adjusted} == {min(1, 2 * smaller), max(2 * smaller, larger)}
    assert [row.adjusted for row in report.rows] == [row.adjusted for row in compare(arms).rows]
    text = " ".join(render_text(report, "out").split())
    assert f"{one.sentence}." in text
    assert one.sentence.startswith("Counting: ")
    assert two.sentence.startswith("Listing, micro F1: ")
    assert f"Holm-adjusted p = {one.adjusted:.2f}" in one.sentence or "p < 0.001" in one.sentence
    assert "a second Holm family of 2 tests" in text
    (line, _) = csv.DictReader(io.StringIO(render_csv(report)))
    assert float(line["equivalence_pvalue"]) == one.pvalue
    assert json.loads(render_json(report))["rows"][0]["equivalence"]["adjusted"] == one.adjusted


def test_an_interval_inside_the_margin_whose_test_fails_in_the_family_says_so(tmp_path: Path) -> None:
    tests = [equivalent_shares(100, 1, 1, 100, margin=m) for m in (0.019, 0.01)]
    assert tests[0].pvalue < 0.05 < 2 * tests[0].pvalue
    first, second = verdicts(tests, ["B against A", "C against A"])
    assert not first.equivalent
    assert not second.equivalent
    assert first.sentence.startswith("B against A (+0.0 points, 90 % CI -1.")
    not_shown = "n = 202): not shown to be equivalent within 1.9 points after the Holm correction"
    assert first.sentence.endswith(f"{not_shown} (the interval is not adjusted)")
    with pytest.raises(UserError, match="--margin must be above 0 and below 100 points, got 0"):
        margin_of(0)
