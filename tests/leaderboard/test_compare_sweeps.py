"""`mimic compare` on a sweep: matched sets are one observation, and have a slope."""

from pathlib import Path
from typing import Any

import pytest

from leaderboard.doublings import slope_lines
from leaderboard.matched_sets import matched_sets
from leaderboard.runs import read_runs
from mimic_eval.records import read_samples
from mimic_tasks.lmms_hooks import matched_set
from stats import (
    mean_interval,
    paired_mean_difference,
)
from tests.makers.comparisons import compared, two
from tests.makers.runs import NONE, binary, write_run


def sweep_samples(rights: list[list[bool]], **more: Any) -> list[dict[str, Any]]:
    """Matched sets of a sweep over N = 2, 4, 8, stored set by set."""
    return [
        binary(
            3 * i + j, right, cell=f"n_images={2 ** (j + 1)}", n_images=2 ** (j + 1), image_ids=[i], **more
        )
        for i, own in enumerate(rights)
        for j, right in enumerate(own)
    ]


def test_matched_sets_are_one_observation_and_give_the_slope_per_doubling(tmp_path: Path) -> None:
    before = [[True, True, i % 4 > 0] for i in range(40)]
    after = [[i % 2 > 0, i % 2 > 0, False] for i in range(40)]
    row = two(tmp_path, "mimic_counting_n", sweep_samples(before), sweep_samples(after))
    gains = [sum(b) / 3 - sum(a) / 3 for a, b in zip(before, after, strict=True)]
    want = paired_mean_difference(gains, [0] * 40)
    assert (row.n, row.units) == (120, 40)
    assert (row.delta.low, row.delta.high) == pytest.approx((want.low, want.high))
    assert row.pvalue == pytest.approx(want.pvalue)
    assert "; n = 120 docs in 40 matched sets): " in row.sentence
    # Of N = 2, 4, 8 the least-squares slope per doubling is (last - first) / 2.
    found = row.doublings
    assert found is not None
    slopes = [[(own[2] - own[0]) / 2 for own in side] for side in (before, after)]
    assert found.a.estimate == pytest.approx(sum(slopes[0]) / 40)
    assert found.b.estimate == pytest.approx(sum(slopes[1]) / 40)
    change = paired_mean_difference(slopes[1], slopes[0])
    assert (found.difference.low, found.difference.high) == pytest.approx((change.low, change.high))
    assert found.sets == 40
    assert found.pvalue == pytest.approx(change.pvalue)
    ends = [f"95 % CI {100 * (e.low or 0):.1f} to {100 * (e.high or 0):.1f}" for e in found[:3]]
    assert row.further[0] == (
        f"Counting (n): accuracy changes per doubling of N by -25.0 points under block masking (layers 3-5) "
        f"({ends[1]}) and by -12.5 points under base ({ends[0]}); difference of slopes -12.5 points "
        f"({ends[2]}; paired permutation, p = {change.pvalue:.3f}, outside Holm's family; n = 40 matched "
        "sets)"
    )


def test_flips_and_effects_of_a_sweep_are_over_matched_sets(tmp_path: Path) -> None:
    """30 sets of 3 equal docs, in 10 of which the answers change: Wilson over 90 docs was too short."""
    before = [[True] * 3 for _ in range(30)]
    after = [[i >= 10] * 3 for i in range(30)]
    row = two(tmp_path, "mimic_counting_n", sweep_samples(before), sweep_samples(after))
    want = mean_interval([float(i < 10) for i in range(30)])
    assert (row.flips.low, row.flips.high) == pytest.approx((want.low, want.high))
    assert row.effects["odds ratio of discordant docs"].low is None
    same = two(tmp_path / "same", "mimic_counting_n", sweep_samples(before), sweep_samples(before))
    assert same.flip_bound == {
        "rule of three": pytest.approx(3 / 30), "exact one-sided 95 %": pytest.approx(1 - 0.05 ** (1 / 30)),
    }  # fmt: skip


def test_a_sweep_of_the_spread_has_no_slope_per_doubling_of_n(tmp_path: Path) -> None:
    """N = s + 2: what falls is the accuracy over s. For each s, docs that differ in d alone do not fall."""

    def samples(d: list[int]) -> list[dict[str, Any]]:
        cells = [(s, extra) for s in (1, 2, 3) for extra in d]
        return [
            binary(len(cells) * i + j, i % 4 >= s, cell=f"spread={s},distractors={extra}", n_images=s + extra)
            for i in range(40)
            for j, (s, extra) in enumerate(cells)
        ]

    still = two(tmp_path, "mimic_counting_s", samples([2]), samples([2]))
    assert still.doublings is None
    both = two(tmp_path / "d", "mimic_counting_s", samples([2, 8]), samples([2, 8]))
    assert both.doublings is not None
    assert both.doublings.a.estimate == 0.0  # -14 points with one intercept for each set


def test_the_report_of_a_sweep_over_n_says_the_slope_of_each_run(tmp_path: Path) -> None:
    rights = [[True, True, i % 4 > 0] for i in range(40)]
    folder = write_run(tmp_path, {"mimic_counting_n": sweep_samples(rights)}, NONE)
    (run,) = read_runs(folder)
    slope = mean_interval([-0.5 * (i % 4 == 0) for i in range(40)], bounds=(-0.5, 0.5))
    assert slope_lines("mimic_counting_n", {"none": run}) == [
        "Counting (n): accuracy changes by -12.5 points per doubling of N under none (95 % CI "
        f"{100 * (slope.low or 0):.1f} to {100 * (slope.high or 0):.1f}; n = 40 matched sets)"
    ]
    plain = write_run(tmp_path / "plain", {"mimic_counting": [binary(i, True) for i in range(9)]}, NONE)
    assert slope_lines("mimic_counting", {"none": read_runs(plain)[0]}) == []


def test_a_sample_of_a_sweep_names_its_set() -> None:
    assert matched_set({"id": "counting_n-00012-003", "cell": "n_images=2"}) == 12
    assert matched_set({"id": "other", "cell": "n_images=2"}) is None
    assert matched_set({"cell": "n_images=2"}) is None


def test_sets_come_from_the_samples_or_from_the_docs_numbers() -> None:
    old = sweep_samples([[True] * 3] * 4)
    assert matched_sets(read_samples(old, "made")) == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    named = sweep_samples([[True] * 3] * 2)
    for i, sample in enumerate(named):
        sample["mimic"]["matched_set"] = 7 + i // 3
    assert matched_sets(read_samples(named, "made")) == [7, 7, 7, 8, 8, 8]
    assert matched_sets(read_samples(old[:5], "made")) == [0, 0, 0, 1, 1]  # a limited run
    assert matched_sets(read_samples([binary(0, True)], "made")) is None
    old[4]["mimic"]["cell"] = "n_images=2"  # cells out of order: nothing tells the sets
    assert matched_sets(read_samples(old, "made")) is None


def test_a_sweep_whose_sets_cannot_be_told_says_so(tmp_path: Path) -> None:
    rights = [[True] * 3] * 10
    runs = [sweep_samples(rights), sweep_samples(rights)]
    for samples in runs:
        samples[4]["mimic"]["cell"], samples[5]["mimic"]["cell"] = "n_images=8", "n_images=4"
    report = compared(tmp_path, {"mimic_counting_n": runs[0]}, {"mimic_counting_n": runs[1]})
    assert report.rows[0].units == 30
    assert any("docs are treated as independent" in note for note in report.notes)
