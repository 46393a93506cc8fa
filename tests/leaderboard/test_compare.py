"""`mimic compare`: docs aligned by what they are, the one test of METHODS 9, and words that follow."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest

from leaderboard.arms import arm_labels, read_arm
from leaderboard.comparison import compare
from leaderboard.comparison_text import render_csv, render_json, render_latex, render_markdown, render_text
from mimic_eval.records import UserError
from stats import (
    detectable_share,
    hodges_lehmann,
    mcnemar_exact,
    micro_f1_difference,
    paired_risk_difference,
    wilcoxon_signed_rank,
)
from tests.conftest import Command
from tests.makers.comparisons import compared, two
from tests.makers.runs import BLOCK, NONE, binary, listing, permuted, write_run

# 40 docs: right in both 10, only in A 3, only in B 15, in neither 12.
CASES = [(True, True)] * 10 + [(True, False)] * 3 + [(False, True)] * 15 + [(False, False)] * 12


def test_binary_scores_get_mcnemar_and_the_paired_difference(tmp_path: Path) -> None:
    a = [binary(i, own) for i, (own, _) in enumerate(CASES)]
    b = [
        binary(i, own) for i, (_, own) in reversed(list(enumerate(CASES)))
    ]  # the order of the docs says nothing
    for place, sample in enumerate(b):
        sample["doc_id"] = place
    row = two(tmp_path, "mimic_counting", a, b)
    want = paired_risk_difference(10, 15, 3, 12)
    assert (row.units, row.verdict) == (40, "better")
    assert (row.a, row.b, row.n) == ("none", "block 3-5", 40)
    assert (row.score_a.estimate, row.score_b.estimate) == (13 / 40, 25 / 40)
    assert (row.delta.estimate, row.delta.low, row.delta.high) == (want.estimate, want.low, want.high)
    assert row.pvalue == pytest.approx(binomtest(3, 18).pvalue)
    assert row.adjusted == row.pvalue
    assert row.flips.estimate == 18 / 40
    assert row.flip_bound is None
    assert row.effects["odds ratio of discordant docs"].estimate == 5.0
    assert (
        row.test
        == "McNemar exact (two-sided binomial on the discordant docs), 15 docs right only in B, 3 only in A"
    )
    low, high = 100 * want.low, 100 * want.high
    assert row.sentence == (
        f"Counting: block masking (layers 3-5) 62.5 % vs base 32.5 % (+30.0 points, 95 % CI {low:.1f} to "
        f"{high:.1f}; exact McNemar, p = 0.008; n = 40): better"
    )


def test_the_other_direction_says_worse(tmp_path: Path) -> None:
    row = two(
        tmp_path,
        "mimic_counting",
        [binary(i, own) for i, (_, own) in enumerate(CASES)],
        [binary(i, own) for i, (own, _) in enumerate(CASES)],
    )
    want = paired_risk_difference(10, 15, 3, 12)
    assert row.delta.estimate == -0.3
    assert (
        f"32.5 % vs base 62.5 % (-30.0 points, 95 % CI {-100 * want.high:.1f} to {-100 * want.low:.1f};"
        in row.sentence
    )
    assert row.sentence.endswith(": worse")


def test_unscored_docs_are_left_out_of_both_and_counted(tmp_path: Path) -> None:
    a = [binary(0, None), binary(1, True), binary(2, False), binary(3, True)]
    b = [binary(0, True), binary(1, None), binary(2, False), binary(3, True)]
    row = two(tmp_path, "mimic_counting", a, b)
    assert (row.n, row.unscored_a, row.unscored_b) == (2, 1, 1)
    assert (row.score_a.estimate, row.pvalue) == (0.5, 1.0)
    assert row.flip_bound == {
        "rule of three": 1.5,
        "exact one-sided 95 %": pytest.approx(1 - 0.05 ** (1 / 2)),
    }
    assert "(+0.0 points, 95 % CI " in row.sentence
    assert "p = 1.00; n = 2, 2 unscored left out): no difference shown; too few docs" in row.sentence


def test_listing_is_compared_by_the_corpus_f1_alone(tmp_path: Path) -> None:
    counts_a = [(1, 2, 2), (0, 1, 2), (2, 2, 2), (1, 1, 3), (0, 0, 1), (2, 4, 2), (1, 2, 1), (1, 1, 1)]
    counts_b = [(2, 2, 2), (1, 1, 2), (2, 2, 2), (2, 3, 3), (1, 1, 1), (2, 3, 2), (0, 2, 1), (1, 1, 1)]
    a = [listing(i, own, ["cat", "dog"]) for i, own in enumerate(counts_a)]
    b = [listing(i, own, ["dog", "cat", "dog"]) for i, own in enumerate(counts_b)]
    row = two(tmp_path, "mimic_listing", a, b)
    f1 = [[2 * r / (g + w) for r, g, w in own] for own in (counts_a, counts_b)]
    differences = [after - before for before, after in zip(*f1, strict=True)]
    delta = micro_f1_difference(tuple(zip(*counts_b, strict=True)), tuple(zip(*counts_a, strict=True)))
    assert row.metric == "micro F1"
    assert (row.delta.estimate, row.delta.low, row.pvalue) == (delta.estimate, delta.low, delta.pvalue)
    assert row.test == "paired sign-flip permutation of counts, 5 docs higher in B, 1 in A"
    assert row.score_a.estimate == pytest.approx(2 * 8 / (13 + 14))
    shift = row.effects["F1 of a doc: Hodges-Lehmann shift"]  # the second line
    assert shift.estimate == hodges_lehmann(differences, bounds=(-1, 1)).estimate
    wilcoxon = row.effects["F1 of a doc: Wilcoxon signed-rank p (descriptive)"]
    assert wilcoxon.estimate == wilcoxon_signed_rank(differences).pvalue
    assert row.flips.estimate == 0  # the same set of names
    assert row.sentence.startswith(
        "Listing, micro F1: block masking (layers 3-5) 75.9 % vs base 59.3 % (+16.6 "
    )
    assert row.sentence.endswith("; n = 8): no difference shown; smallest detectable difference "
                                 f"{100 * (row.detectable or 0):.1f} points (power 0.8)")  # fmt: skip
    means = [100 * sum(side) / 8 for side in f1]
    low, high = 100 * (shift.low or 0), 100 * (shift.high or 0)
    assert row.further == (
        f"Listing, F1 of a doc (describes): block masking (layers 3-5) {means[1]:.1f} % vs base "
        f"{means[0]:.1f} %; Hodges-Lehmann shift {100 * shift.estimate:+.1f} points (95 % CI {low:.1f} to "
        f"{high:.1f}; Wilcoxon signed-rank over docs, p = {wilcoxon.estimate:.2f})",
    )


def against_most_docs(rambling: int, items: int) -> tuple[list[Any], list[Any]]:
    """A: exact in 60 - `rambling` docs, `items` made-up names in the others. B: one made-up name in those
    60 - `rambling`, exact in the others: worse in most docs, better in the sum."""
    a = [(2, 2 + items * (i < rambling), 2) for i in range(60)]
    b = [(2, 2 + (i >= rambling), 2) for i in range(60)]
    return [listing(i, own, ["cat"]) for i, own in enumerate(a)], [
        listing(i, own, ["cat"]) for i, own in enumerate(b)
    ]


def test_a_run_that_is_worse_in_52_of_60_docs_is_not_called_better(tmp_path: Path) -> None:
    """Before: 'better by 1.1 points', p = 0.0002 by Wilcoxon's test, which says the opposite."""
    row = two(tmp_path, "mimic_listing", *against_most_docs(8, 7))
    assert 0 < row.delta.estimate < 0.02
    assert row.verdict == "no difference shown"
    assert row.pvalue > 0.5
    assert row.effects["F1 of a doc: Wilcoxon signed-rank p (descriptive)"].estimate < 1e-3
    assert ": no difference shown; smallest detectable difference " in row.sentence


def test_where_the_docs_signed_ranks_point_the_other_way_there_is_no_verdict(tmp_path: Path) -> None:
    row = two(tmp_path, "mimic_listing", *against_most_docs(12, 20))
    assert row.delta.low is not None
    assert row.delta.low > 0
    assert row.adjusted < 0.05
    assert row.effects["F1 of a doc: Hodges-Lehmann shift"].estimate < 0
    assert row.verdict == "no verdict"
    assert row.sentence.endswith(": no verdict: the docs' signed ranks point the other way")


def test_long_lists_in_11_of_60_docs_do_not_outvote_the_others(tmp_path: Path) -> None:
    """'Better by 13.5 points, p = 0.014' stood beside a Hodges-Lehmann shift of -0.33."""
    a = [listing(i, (2, 2, 10 if i < 11 else 2), ["cat"]) for i in range(60)]
    b = [listing(i, (10, 10, 10) if i < 11 else (1, 1, 2), ["cat"]) for i in range(60)]
    row = two(tmp_path, "mimic_listing", a, b)
    assert row.delta.estimate == pytest.approx(0.135, abs=0.001)
    assert row.effects["F1 of a doc: Hodges-Lehmann shift"].estimate == pytest.approx(-1 / 3, abs=0.01)
    assert row.effects["F1 of a doc: Hodges-Lehmann shift"].low is None  # [-0.33, -0.33] had no width
    assert row.verdict != "better"
    assert row.delta.low is not None
    assert (row.delta.low > 0) == (row.pvalue < 0.05)


def test_a_comparison_says_what_it_could_have_shown(tmp_path: Path) -> None:
    row = two(tmp_path, "mimic_counting", [binary(i, i % 2 == 0) for i in range(60)],
              [binary(i, i % 2 == 0 or i == 1) for i in range(60)])  # fmt: skip
    least = detectable_share(60, 1)
    assert row.detectable == least
    assert least is not None
    assert row.sentence.endswith(f"; smallest detectable difference {100 * least:.1f} points (power 0.8)")
    few = two(tmp_path / "few", "mimic_counting", [binary(i, True) for i in range(4)],
              [binary(i, True) for i in range(4)])  # fmt: skip
    assert few.sentence.endswith("; too few docs to detect any difference")
    assert few.delta.low is not None
    assert few.delta.low < 0 < few.delta.high  # identical answers: an interval from n


def test_permuted_docs_are_one_doc_each(tmp_path: Path) -> None:
    orders = [(0, 1, 2), (1, 2, 0), (2, 0, 1)]
    a = [s for d in range(8) for s in permuted(d, orders, (True, False, d % 2 == 0))]
    b = [s for d in range(8) for s in permuted(d, orders, (True, True, True if d else None))]
    row = two(tmp_path, "mimic_counting_permuted", a, b)
    differences = [1 - (2 if d % 2 == 0 else 1) / 3 for d in range(1, 8)]
    assert (row.n, row.unscored_b) == (7, 1)
    assert row.delta.estimate == pytest.approx(sum(differences) / 7)
    assert row.pvalue == pytest.approx(2 * 0.5**7)  # all seven signs
    assert row.pvalue == wilcoxon_signed_rank(differences).pvalue


def test_all_tests_are_one_family(tmp_path: Path) -> None:
    one = write_run(tmp_path / "a", {"mimic_counting": [binary(i, a) for i, (a, _) in enumerate(CASES)],
                                     "mimic_common": [binary(i, True) for i in range(5)]}, NONE)  # fmt: skip
    others = []
    for name in ("b", "c"):
        rows = {"mimic_counting": [binary(i, b) for i, (_, b) in enumerate(CASES)],
                "mimic_common": [binary(i, True) for i in range(5)]}  # fmt: skip
        others.append(write_run(tmp_path / name, rows, {**BLOCK, "layers": "0-5" if name == "c" else "3-5"}))
    report = compare([read_arm(path) for path in (one, *others)])
    p = mcnemar_exact(3, 15).pvalue
    assert [(row.task, row.b, row.family) for row in report.rows] == [
        ("mimic_common", "block 3-5", 4),
        ("mimic_common", "block 0-5", 4),
        ("mimic_counting", "block 3-5", 4),
        ("mimic_counting", "block 0-5", 4),
    ]
    assert [row.adjusted for row in report.rows] == pytest.approx([1.0, 1.0, 4 * p, 4 * p])


def test_new_images_are_spoken_of_only_where_docs_share_few(tmp_path: Path) -> None:
    """Docs 2i and 2i + 1 share an image: 40 docs are 20 groups, 80 are 40."""
    few = two(tmp_path / "few", "mimic_counting", [binary(i, a) for i, (a, _) in enumerate(CASES)],
              [binary(i, b) for i, (_, b) in enumerate(CASES)])  # fmt: skip
    assert (few.new_images.low, few.new_images.high) == (None, None)
    assert few.new_images.method.startswith(
        "not estimable: docs share images too densely (largest group 5 %)"
    )
    many = two(tmp_path / "many", "mimic_counting", [binary(i, a) for i, (a, _) in enumerate(CASES * 2)],
               [binary(i, b) for i, (_, b) in enumerate(CASES * 2)])  # fmt: skip
    assert many.new_images.low is not None
    assert many.new_images.high is not None
    assert many.new_images.estimate == pytest.approx(0.3)
    assert many.new_images.low < 0.3 < many.new_images.high
    assert "40 groups of docs" in many.new_images.method


@pytest.mark.parametrize(
    ("b", "message"),
    [
        (
            [binary(i, True) for i in (0, 1, 9)],
            r"on different docs: 1 only in .*a \(doc 2\); 1 only in .*b \(doc 9\)",
        ),
        ([binary(i, True) for i in range(9)], r"6 only in .*b \(doc 3, 4, 5, 6, 7, \.\.\.\)"),
        ([binary(i, None) for i in range(3)], "no doc was scored in both none and block 3-5"),
        (
            [{"doc_id": i, "mimic": {"status": "parsed"}} for i in range(3)],
            r"b.1_samples_mimic_counting.jsonl: doc 0: 'kind' must be a text, got None",
        ),
    ],
)
def test_docs_that_do_not_match_are_refused(b: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        two(tmp_path, "mimic_counting", [binary(i, True) for i in range(3)], b)


def test_other_orders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"under different image orders \(first: doc 0\)"):
        two(tmp_path, "mimic_counting_permuted", permuted(0, [(0, 1), (1, 0)], (True, True)),
            permuted(0, [(1, 0), (0, 1)], (True, True)))  # fmt: skip


def test_runs_of_several_models_need_a_folder_each(tmp_path: Path) -> None:
    rows = {"mimic_counting": [binary(0, True)]}
    write_run(tmp_path / "both/a", rows, NONE, date="1")
    write_run(tmp_path / "both/b", rows, BLOCK, date="2")
    with pytest.raises(UserError, match=r"holds runs of 2 models or settings: give a folder of one"):
        read_arm(tmp_path / "both")
    write_run(
        tmp_path / "twice/a", {"mimic_counting": [binary(0, False)]}, {**NONE, "batch_size": 1}, date="1"
    )
    write_run(tmp_path / "twice/b", rows, {**NONE, "batch_size": 8}, date="2")
    arm = read_arm(tmp_path / "twice")
    assert arm.samples["mimic_counting"][0].score == 1.0
    assert arm.notes == (
        f"{tmp_path / 'twice'}: mimic_counting was run more than once; the newest run counts",
    )


def test_a_run_without_samples_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", {"mimic_counting": [binary(0, True)]}, NONE)
    (run / "1_samples_mimic_counting.jsonl").unlink()
    with pytest.raises(UserError, match="mimic_counting has no samples beside it; run it with --log_samples"):
        read_arm(run)
    with pytest.raises(UserError, match="its runs with scores evaluated no MIMIC task"):
        read_arm(write_run(tmp_path / "other", {"mmmu": []}, NONE))


def test_labels_tell_runs_apart(tmp_path: Path) -> None:
    rows = {"mimic_counting": [binary(0, True)]}
    settings = [NONE, {**NONE, "checkpoint": "n"}, {**NONE, "pool": 2}, {**BLOCK, "checkpoint": "n"}]
    arms = [read_arm(write_run(tmp_path / str(i), rows, own)) for i, own in enumerate(settings)]
    assert arm_labels([arms[0], arms[1]]) == ["m", "n"]
    assert arm_labels([arms[0], arms[3]]) == ["m, none", "n, block 3-5"]
    assert arm_labels([arms[0], arms[2]]) == ["pool 1", "pool 2"]
    both = [read_arm(write_run(tmp_path / f"u{i}", rows, NONE)) for i in range(2)]
    assert arm_labels(both) == [str(tmp_path / "u0"), str(tmp_path / "u1")]  # nothing tells them apart
    with pytest.raises(UserError, match="the same run is given twice"):
        arm_labels([arms[0], arms[0]])


def test_every_form_says_the_same(tmp_path: Path) -> None:
    report = compared(
        tmp_path,
        {
            "mimic_counting": [binary(i, a) for i, (a, _) in enumerate(CASES)],
            "mimic_oddone": [binary(0, True)],
        },
        {"mimic_counting": [binary(i, b) for i, (_, b) in enumerate(CASES)]},
    )
    (row,) = report.rows
    (record,) = json.loads(render_json(report))["rows"]
    (line,) = csv.DictReader(io.StringIO(render_csv(report)))
    assert record["delta"]["estimate"] == float(line["delta_estimate"]) == row.delta.estimate
    assert float(line["adjusted"]) == record["adjusted"] == row.adjusted
    for text in (render_text(report, "out"), render_markdown(report)):
        assert row.sentence in " ".join(text.split())
        assert f"mimic_oddone is left out: only {tmp_path / 'a'} ran it" in " ".join(text.split())
    assert "| mimic_counting |" in render_markdown(report)
    table = render_latex(report)
    assert f"% {row.sentence}.\n" in table
    low, high = (100 * end for end in (row.delta.low or 0, row.delta.high or 0))
    assert table.splitlines()[-5:] == [
        r"Task & n & base & block masking (layers 3-5) & Difference [95 \% CI] & p (Holm) \\",
        r"\midrule",
        rf"Counting & 40 & 32.5 & 62.5 & $+$30.0 [$+${low:.1f}, $+${high:.1f}] & 0.008 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_the_command(command: Command, tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", {"mimic_counting": [binary(i, a) for i, (a, _) in enumerate(CASES)]}, NONE)
    b = write_run(tmp_path / "b", {"mimic_counting": [binary(i, b) for i, (_, b) in enumerate(CASES)]}, BLOCK)
    done = command("mimic", "compare", a, b, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "Counting: block masking (layers 3-5) 62.5 % vs base 32.5 % (+30.0 points" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "compare.csv",
        "compare.json",
        "compare.md",
        "compare.tex",
    ]
    named = command(
        "mimic", "compare", a, b, "--out", tmp_path / "out", "--label", f"{b}=Ours_2", "--format", "latex"
    )
    assert named.stdout == (tmp_path / "out/compare.tex").read_text()
    assert r"& base & Ours\_2 &" in named.stdout
    wrong = command("mimic", "compare", a, b, "--label", "c=Ours")
    assert wrong.stderr == f"error: --label is RUN=NAME, RUN one of {a}, {b}; got 'c=Ours'\n"
    alone = command("mimic", "compare", a)
    assert (alone.returncode, alone.stderr) == (
        2,
        "error: compare needs two runs at least: the baseline first\n",
    )
    samples = b / "1_samples_mimic_counting.jsonl"
    samples.write_text(samples.read_text()[:-20])
    cut = command("mimic", "compare", a, b, "--out", tmp_path / "none")
    assert cut.returncode == 2
    assert f"skipped: {samples} ends within a line" in cut.stderr
    assert "holds no finished run" in cut.stderr
    assert not (tmp_path / "none").exists()
