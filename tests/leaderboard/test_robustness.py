"""`mimic robustness`: numbers over image orders against definitions written out by hand."""

import csv
import io
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from leaderboard.arms import read_arm
from leaderboard.robustness import Robustness, RobustnessReport, robustness
from leaderboard.robustness_figure import render_svg
from leaderboard.robustness_output import render_csv, render_json, render_markdown, render_text
from mimic_eval.records import UserError
from stats import equivalent_means, mean_interval, paired_mean_difference, wilson
from tests.conftest import Command
from tests.makers.runs import BLOCK, NONE, binary, permuted, write_run

CYCLIC = [(0, 1, 2), (1, 2, 0), (2, 0, 1)]  # the image with the answer is first, last, in the middle
# Right with the image first, last, in the middle:
RIGHT = (
    [(True, True, True)] * 4 + [(True, False, False)] * 3 + [(False, True, False)] * 6 + [(False,) * 3] * 2
)


def docs(rights: Any, **more: Any) -> list[dict[str, Any]]:
    return [sample for d, own in enumerate(rights) for sample in permuted(d, CYCLIC, own, **more)]


def measured(folder: Path, samples: Any) -> Robustness:
    (row,) = report(folder, samples).rows
    return row


def report(folder: Path, *runs: Any) -> RobustnessReport:
    settings = (NONE, BLOCK, {**BLOCK, "layers": "0-5"})
    arms = [
        read_arm(write_run(folder / str(i), {"mimic_counting_permuted": own}, settings[i]))
        for i, own in enumerate(runs)
    ]
    return robustness(arms)


def test_every_number_of_one_run(tmp_path: Path) -> None:
    row = measured(tmp_path, docs(RIGHT))
    n = len(RIGHT)
    shares = [sum(own) / 3 for own in RIGHT]
    score = mean_interval(shares)
    assert (row.n, row.unscored, row.single) == (n, 0, 0)
    assert (row.score.estimate, row.score.low) == (score.estimate, score.low)
    consistent, changed = wilson(4, n), wilson(9, n)
    assert (row.consistent.estimate, row.consistent.high) == (consistent.estimate, consistent.high)
    assert (row.any_change.estimate, row.any_change.low) == (changed.estimate, changed.low)
    pairs = [sum(a != b for a, b in itertools.combinations(own, 2)) / 3 for own in RIGHT]
    assert row.disagreement.estimate == pytest.approx(sum(pairs) / n)
    assert (row.placed, row.spread_out) == (n, 0)
    # Slope: least squares over the places 0, 1, 1/2 of one doc is (last - first); so is recency here.
    slopes = [float(own[1]) - float(own[0]) for own in RIGHT]
    assert row.slope is not None
    assert row.slope.estimate == pytest.approx(sum(slopes) / n)
    assert row.recency is not None
    assert row.recency.estimate == pytest.approx(sum(slopes) / n)
    curve = {(own.n_images, own.place): own for own in row.places}
    for index, place, number in ((0, "first", "1"), (1, "last", "3"), (2, "middle", "2")):
        want = sum(own[index] for own in RIGHT) / n
        assert curve[None, place].score.estimate == curve[3, number].score.estimate == pytest.approx(want)
        assert curve[None, place].docs == n
    assert len(curve) == 6


def test_docs_are_left_out_and_counted(tmp_path: Path) -> None:
    samples = docs([(True, None, True), (True, True, True), (False, True, True)])
    samples += permuted(7, [(0,)], [True])
    spread = permuted(8, CYCLIC, (True, True, True))
    for sample in spread:
        sample["mimic"]["target_positions"] = [0, 2]
    row = measured(tmp_path, samples + spread)
    assert (row.n, row.unscored, row.single, row.placed, row.spread_out) == (3, 1, 1, 2, 1)
    assert row.consistent.estimate == pytest.approx(2 / 3)


def test_without_a_placed_doc_or_a_change_there_is_no_slope(tmp_path: Path) -> None:
    samples = docs([(True, True, True)])
    for sample in samples:
        sample["mimic"]["target_positions"] = None
    row = measured(tmp_path, samples)
    assert (row.slope, row.rho, row.recency, row.places) == (None, None, None, ())
    still = measured(tmp_path / "still", docs([(True, True, True)] * 9))
    assert still.rho is None
    assert still.slope is not None
    assert still.slope.estimate == 0
    assert still.slope.low is not None
    assert still.slope.low < 0


def test_two_runs_are_compared_doc_by_doc_in_one_family(tmp_path: Path) -> None:
    after = [(True, True, True)] * 9 + [(False, True, False)] * 4 + [(False,) * 3] * 2
    result = report(tmp_path, docs(RIGHT), docs(after))
    tests = {test.measure: test for test in result.tests}
    assert set(tests) == {
        "any change",
        "right under all orders",
        "pairwise disagreement",
        "score",
        "slope over positions",
    }
    assert {test.family for test in result.tests} == {1}
    # One primary measure is tested, by the mean difference and its sign-flip test; the others describe.
    primary = tests.pop("pairwise disagreement")
    differing = [
        [sum(a != b for a, b in itertools.combinations(own, 2)) / 3 for own in side]
        for side in (RIGHT, after)
    ]
    want = paired_mean_difference(differing[1], differing[0])
    assert primary.pvalue == primary.adjusted == pytest.approx(want.pvalue)
    assert (primary.delta.low, primary.delta.high) == pytest.approx((want.low, want.high))
    assert {(test.pvalue, test.adjusted, test.test) for test in tests.values()} == {(None, None, "describes")}
    means = [100 * sum(side) / 15 for side in differing]
    low, high = 100 * (want.low or 0), 100 * (want.high or 0)
    assert primary.sentence == (
        f"Counting (permuted), pairwise disagreement: block masking (layers 3-5) {means[1]:.1f} % vs base "
        f"{means[0]:.1f} % ({means[1] - means[0]:+.1f} points, 95 % CI {low:.1f} to {high:.1f}; paired "
        f"permutation, p = {want.pvalue:.3f}; n = 15): no difference shown; smallest detectable difference "
        f"{100 * (primary.detectable or 0):.1f} points (power 0.8)"
    )
    assert tests["any change"].sentence.startswith(
        "Counting (permuted), any change (describes): -33.3 points for block masking (layers 3-5) "
    )
    assert tests["any change"].delta.estimate == pytest.approx((4 - 9) / 15)
    gains = [(sum(b) - sum(a)) / 3 for a, b in zip(RIGHT, after, strict=True)]
    assert tests["score"].delta.estimate == pytest.approx(sum(gains) / 15)
    turned = [(b[1] - b[0]) - (a[1] - a[0]) for a, b in zip(RIGHT, after, strict=True)]
    assert tests["slope over positions"].delta.estimate == pytest.approx(sum(turned) / 15)
    assert (result.tests[0].a, result.tests[0].b) == ("none", "block 3-5")
    text = render_text(result, "out")
    assert "Holm's family: 1 test, the pairwise disagreement of each task and run" in text
    assert f"{primary.sentence}." in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 100
    assert all(f"- {test.sentence}." in render_markdown(result) for test in result.tests)


def test_a_run_whose_answers_change_less_is_steadier(tmp_path: Path) -> None:
    result = report(tmp_path, docs([(True, False, True)] * 20), docs([(True, True, True)] * 20))
    primary = next(test for test in result.tests if test.pvalue is not None)
    assert primary.delta.estimate == pytest.approx(-2 / 3)
    assert primary.verdict == "steadier"
    assert primary.sentence.endswith("p < 0.001; n = 20): steadier")
    (turned,) = (test for test in report(tmp_path / "turned", docs([(True, True, True)] * 20),
                                         docs([(True, False, True)] * 20)).tests if test.verdict)  # fmt: skip
    assert turned.verdict == "less steady"


def test_the_docs_of_a_sweep_are_matched_sets_here_too(tmp_path: Path) -> None:
    """A sweep under two image orders: 10 sets of 3 docs that change together. As 30 docs: [19.2, 51.2]."""

    def samples(turned: bool) -> list[dict[str, Any]]:
        return [
            binary(3 * i + j, not (turned and i % 3 == 0), cell=f"n_images={2 + j}", n_images=2 + j)
            for i in range(10) for j in range(3)
        ]  # fmt: skip

    arms = [
        read_arm(write_run(tmp_path / order, {"mimic_counting_n": samples(order == "reversed")},
                           {**NONE, "order": order}))
        for order in ("fixed", "reversed")
    ]  # fmt: skip
    (row,) = robustness(arms).rows
    want = mean_interval([float(i % 3 == 0) for i in range(10)])
    assert (row.n, row.units) == (30, 10)
    for measure in (row.any_change, row.disagreement):
        assert (measure.estimate, measure.low, measure.high) == pytest.approx((0.4, want.low, want.high))
    assert "the 30 docs are 10 matched sets" in " ".join(render_text(robustness(arms), "out").split())


def test_docs_without_a_place_are_in_every_comparison_but_that_of_slopes(tmp_path: Path) -> None:
    """Before, any such doc ended `mimic robustness A B` with a traceback."""

    def samples(rights: Any) -> list[dict[str, Any]]:
        found = docs(rights)
        for sample in found[:6]:  # of two docs
            sample["mimic"]["target_positions"] = [0, 2]
        return found

    result = report(tmp_path, samples(RIGHT), samples(RIGHT[::-1]))
    assert {test.measure: test.n for test in result.tests} == {
        "any change": 15,
        "right under all orders": 15,
        "pairwise disagreement": 15,
        "score": 15,
        "slope over positions": 13,
    }


def test_runs_without_permuted_tasks_or_on_other_docs_are_refused(tmp_path: Path) -> None:
    plain = read_arm(write_run(tmp_path / "plain", {"mimic_counting": [binary(0, True)]}, NONE))
    with pytest.raises(UserError, match="holds no permuted task: run "):
        robustness([plain])
    with pytest.raises(UserError, match="on different docs"):
        report(tmp_path, docs(RIGHT), docs(RIGHT[:3]))
    with pytest.raises(UserError, match="no scored doc of two image or option orders"):
        report(tmp_path / "one", permuted(0, [(0,)], [True]))


def test_the_files_say_what_the_report_says(command: Command, tmp_path: Path) -> None:
    runs = [docs(RIGHT), docs(RIGHT[::-1])]
    result = report(tmp_path, *runs)
    lines = list(csv.DictReader(io.StringIO(render_csv(result.rows))))
    assert len(lines) == 12
    assert {line["n_images"] for line in lines} == {"", "3"}
    assert json.loads(render_json(result))["rows"][0]["score"]["estimate"] == result.rows[0].score.estimate
    svg = render_svg(result.rows)
    assert svg == render_svg(result.rows)
    assert svg.startswith(b"<?xml")
    done = command("mimic", "robustness", tmp_path / "0", tmp_path / "1", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(render_text(result, str(tmp_path / "out")))
    names = ["mimic_counting_permuted.csv", "mimic_counting_permuted.svg"]
    names += [f"robustness.{end}" for end in ("csv", "json", "md", "tex")]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == names
    assert max(map(len, render_text(result, "out").splitlines())) <= 100
    named = command("mimic", "robustness", tmp_path / "0", tmp_path / "1", "--out", tmp_path / "named",
                    "--label", f"{tmp_path / '0'}=LLaVA", "--format", "latex")  # fmt: skip
    assert named.stdout == (tmp_path / "named/robustness.tex").read_text()
    assert "Counting (permuted) & LLaVA & 15 & 46.7 [" in named.stdout
    assert (tmp_path / "out/mimic_counting_permuted.svg").read_bytes() == svg


def test_a_margin_tests_whether_order_effects_are_smaller(tmp_path: Path) -> None:
    # 200 docs: right with the image first 150 times, last 152 times, in the middle 151 times.
    rights = [(i < 150, i < 152, i < 151) for i in range(200)]
    arm = read_arm(write_run(tmp_path / "p", {"mimic_counting_permuted": docs(rights)}, NONE))
    result = robustness([arm], margin=0.05)
    last, others = result.effects
    want = equivalent_means([float(b) - float(a) for a, b, _ in rights], margin=0.05)
    assert last.verdict is not None
    assert others.verdict is not None
    assert (last.effect, last.verdict.pvalue, last.verdict.low) == (
        "answer's image last - first", want.pvalue, want.low,
    )  # fmt: skip
    assert last.verdict.estimate == pytest.approx(0.01)
    assert last.verdict.equivalent
    mean = equivalent_means([(b + c) / 2 - a for a, b, c in rights], margin=0.05)
    assert (others.effect, others.verdict.pvalue) == ("other orders - first order", mean.pvalue)
    assert (last.verdict.family, others.verdict.family) == (2, 2)
    text = " ".join(render_text(result, "out").split())
    assert "answer's image last - first (+1.0 points, 90 % CI " in text
    assert "; n = 200): equivalent within 5 points." in text
    assert "one Holm family of 2 tests, two for each task and run whose" in text
    assert json.loads(render_json(result))["effects"][0]["verdict"]["pvalue"] == want.pvalue
    assert robustness([arm]).effects == ()
    narrow = robustness([arm], margin=0.01).effects[0].verdict
    assert narrow is not None
    assert narrow.sentence.endswith("n = 200): not shown to be equivalent within 1 point")


def test_an_order_effect_that_no_doc_determines_is_not_tested(tmp_path: Path) -> None:
    samples = docs(RIGHT)
    for sample in samples:
        sample["mimic"]["target_positions"] = [0, 2]
    arm = read_arm(write_run(tmp_path / "p", {"mimic_counting_permuted": samples}, NONE))
    last, others = robustness([arm], margin=0.2).effects
    assert (last.verdict, last.reason) == (
        None, "no doc has its targets in one image that comes first and last",
    )  # fmt: skip
    assert others.verdict is not None
    assert others.verdict.family == 1
    assert "not tested: no doc has its targets" in render_text(robustness([arm], margin=0.2), "out")
