"""`mimic power`: plans from numbers and from two runs, against the statistics and the words of `compare`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leaderboard.arms import Arm, read_arm
from leaderboard.comparison import compare
from leaderboard.planning import MCNEMAR, SIGN_FLIP, WILCOXON, Goal, plan_runs, plan_share, plan_spread
from leaderboard.planning_text import render_json, render_text
from mimic_eval.records import UserError
from stats import (
    design_effect,
    detectable_share,
    docs_for_equivalent_means,
    docs_for_equivalent_shares,
    docs_for_mean,
    docs_for_share,
    docs_for_wilcoxon,
    micro_f1_difference,
)
from tests.conftest import Command
from tests.makers.runs import BLOCK, NONE, binary, listing, write_run

ASKED = Goal((0.05,))


def arms(folder: Path, a: dict[str, Any], b: dict[str, Any]) -> list[Arm]:
    runs = (("a", a, NONE), ("b", b, BLOCK))
    return [read_arm(write_run(folder / name, tasks, how)) for name, tasks, how in runs]


def test_a_pilot_of_right_and_wrong_gives_its_discordant_share(tmp_path: Path) -> None:
    a = [binary(i, i < 60) for i in range(120)]
    b = [binary(i, i < 50 or 100 <= i < 114) for i in range(120)]
    runs = arms(tmp_path, {"mimic_counting": a}, {"mimic_counting": b})
    ((plan,), notes) = plan_runs(ASKED, runs)
    assert (plan.task, plan.test, plan.n, plan.discordant, plan.design) == (
        "mimic_counting", MCNEMAR, 120, 24 / 120, 1.0,
    )  # fmt: skip
    assert plan.needed[0].docs == docs_for_share(0.05, 0.2) == 658
    (row,) = compare(runs).rows
    assert plan.detectable == row.detectable == detectable_share(120, 24)
    ((larger,), _) = plan_runs(ASKED._replace(docs=658), runs)
    assert larger.detectable == pytest.approx(0.05, rel=0.03)
    text = render_text(ASKED, [plan], notes)
    assert (
        f"mimic_counting: with 120 docs the smallest detectable difference is {100 * plan.detectable:.1f}"
        in text
    )
    assert json.loads(render_json(ASKED, [plan], notes))["plans"][0]["needed"][0]["docs"] == 658


def test_lists_are_planned_by_the_corpus_test_and_by_wilcoxon_of_the_docs_f1(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    counts_a = [(int(r), 3, 3) for r in rng.integers(0, 4, 80)]
    counts_b = [(int(r), 3, 3) for r in rng.integers(0, 4, 80)]
    runs = arms(
        tmp_path,
        {"mimic_listing": [listing(i, c, "abc") for i, c in enumerate(counts_a)]},
        {"mimic_listing": [listing(i, c, "abc") for i, c in enumerate(counts_b)]},
    )
    mean, ranks = plan_runs(ASKED, runs)[0]
    assert (mean.test, ranks.test) == (SIGN_FLIP, WILCOXON)
    columns = [tuple(np.array(c).T) for c in (counts_b, counts_a)]
    assert mean.needed[0].docs == docs_for_mean(0.05, micro_f1_difference(*columns).spread)
    f1 = np.array([b[0] - a[0] for a, b in zip(counts_a, counts_b, strict=True)]) / 3
    assert ranks.needed[0].docs == docs_for_wilcoxon(0.05, differences=f1).docs
    assert mean.detectable == compare(runs).rows[0].detectable
    assert ranks.detectable is None


def test_a_sweeps_matched_sets_cost_docs(tmp_path: Path) -> None:
    def samples(rights: Any) -> list[dict[str, Any]]:
        cells = [{"cell": f"n_images={n}", "n_images": n} for n in (2, 4)]
        return [binary(2 * i + j, right, image_ids=[i], **cells[j])
                for i, own in enumerate(rights) for j, right in enumerate(own)]  # fmt: skip

    rng = np.random.default_rng(0)
    alike = [bool(x) for x in rng.random(60) < 0.5]  # both docs of a set change together
    before = [(True, True)] * 60
    after = [(x, x) for x in alike]
    runs = arms(tmp_path, {"mimic_counting_n": samples(before)}, {"mimic_counting_n": samples(after)})
    ((plan,), _) = plan_runs(ASKED, runs)
    differences = [float(b) - 1 for own in after for b in own]
    effect = design_effect(differences, [i // 2 for i in range(120)])
    assert effect == pytest.approx(2.0, abs=0.02)
    assert plan.design == effect
    assert plan.discordant is not None
    assert plan.needed[0].docs == docs_for_share(0.05, plan.discordant, design=plan.design)


def test_docs_for_equivalence_are_planned_with_the_margin(tmp_path: Path) -> None:
    goal = ASKED._replace(margin=0.05)
    plan = plan_share(goal, 0.1)
    assert plan.equivalence is not None
    assert plan.equivalence.docs == docs_for_equivalent_shares(0.05, 0.1)
    text = render_text(goal, [plan], [])
    assert (
        f"called equivalent within 5 points where there is no difference: {plan.equivalence.docs} docs."
        in text
    )
    mean, ranks = plan_spread(goal, 0.3)
    assert mean.equivalence is not None
    assert mean.equivalence.docs == docs_for_equivalent_means(0.05, 0.3)
    assert ranks.equivalence is None
    assert plan_share(ASKED, 0.1).equivalence is None
    a = [binary(i, i < 60) for i in range(120)]
    b = [binary(i, i < 50 or 100 <= i < 114) for i in range(120)]
    ((pilot,), _) = plan_runs(goal, arms(tmp_path, {"mimic_counting": a}, {"mimic_counting": b}))
    assert pilot.equivalence is not None
    assert pilot.equivalence.docs == docs_for_equivalent_shares(0.05, 0.2)


def test_given_numbers_and_equal_runs(tmp_path: Path) -> None:
    assert plan_share(ASKED, 0.02).needed[0].docs == docs_for_share(0.05, 0.05), (
        "as many docs differ at least"
    )
    mean, ranks = plan_spread(ASKED._replace(docs=285), 0.3)
    assert (mean.needed[0].docs, mean.detectable) == (285, pytest.approx(0.05, rel=0.01))
    assert ranks.needed[0].docs == docs_for_wilcoxon(0.05, spread=0.3).docs
    same = {"mimic_listing": [listing(i, (1, 2, 2), "ab") for i in range(20)]}
    ((none,), _) = plan_runs(ASKED, arms(tmp_path, same, same))
    assert none.needed[0].docs is None
    assert "no doc differs" in render_text(ASKED, [none], [])
    with pytest.raises(UserError, match="mimic power reads two runs, got 1"):
        plan_runs(ASKED, [read_arm(tmp_path / "a")])


def test_the_command(command: Command, tmp_path: Path) -> None:
    done = command("mimic", "power", "--delta", "5", "--discordant", "0.2", "--docs", "658")
    assert done.returncode == 0, done.stderr
    assert "docs for 5 points" in done.stdout
    assert " 658\n" in done.stdout
    assert "with 658 docs the smallest detectable difference is 5.0 points (McNemar exact)." in done.stdout
    assert "Power 0.8, two-sided, level 0.05 of one test." in done.stdout
    runs = [write_run(tmp_path / name, {"mimic_counting": [binary(i, i < k) for i in range(60)]}, how)
            for name, k, how in (("a", 30, NONE), ("b", 36, BLOCK))]  # fmt: skip
    planned = command("mimic", "power", *runs, "--delta", "10", "--json")
    assert json.loads(planned.stdout)["plans"][0]["discordant"] == pytest.approx(0.1)
    for words, message in (
        ((), "give two runs, or --discordant (right and wrong), or --spread (graded scores)"),
        (("--discordant", "20"), "--discordant must be above 0 and at most 1, got 20"),
        (("--discordant", "0.02", "--delta", "5"), "at least 0.05 of the docs are right under one run alone"),
        ((str(runs[0]),), "mimic power reads two runs, got 1"),
        ((*map(str, runs), "--spread", "3"), "--spread comes from the runs"),
        (("--spread", "30", "--power", "1"), "--power must be above 0 and below 1, got 1"),
    ):
        refused = command("mimic", "power", *words)
        assert refused.returncode == 2, words
        assert message in refused.stderr
