"""The value that `mimic tune` chooses: the highest score, ties by the least effect, and its interval."""

from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leaderboard.arms import Arm
from leaderboard.choice import RESAMPLES, choose, scored_in_all
from mimic_eval.records import Sample, UserError
from tests.makers.runs import binary, listing


def arm(value: float, **tasks: list[dict[str, Any]]) -> Arm:
    samples = {task: [Sample.from_json(row, "f") for row in rows] for task, rows in tasks.items()}
    return Arm(Path(str(value)), "m", {"sigma": value}, samples)


def counting(rights: str, **more: Any) -> list[dict[str, Any]]:
    """``10-``: right, wrong, unscored."""
    return [binary(i, {"1": True, "0": False}.get(right), **more) for i, right in enumerate(rights)]


def of(**rights: str) -> dict[float, Arm]:
    """``v0_5="0110"``: the run of the value 0.5."""
    return {
        float(name[1:].replace("_", ".")): arm(0, mimic_counting=counting(text))
        for name, text in rights.items()
    }


def test_the_highest_score_is_chosen() -> None:
    choice = choose(of(v0="0000", v0_5="0110", v1="0100"), least_effect=0.0)
    assert choice.value == 0.5
    assert [(tried.value, tried.score) for tried in choice.grid] == [(0, 0), (0.5, 0.5), (1, 0.25)]
    assert choice.docs == {"mimic_counting": 4}


@pytest.mark.parametrize(
    ("least_effect", "chosen", "words"),
    [
        (0.0, 0.25, "of equal ones the one nearest to 0, where the method changes least"),
        (1.0, 1.0, "of equal ones the one nearest to 1, where the method changes least"),
        (0.6, 0.75, "of equal ones the one nearest to 0.6"),
        (inf, 1.0, "of equal ones the largest, where the method changes least"),
        (None, 0.25, "of equal ones the smallest"),
    ],
)
def test_of_equal_scores_the_least_effect_is_chosen(
    least_effect: float | None, chosen: float, words: str
) -> None:
    choice = choose(of(v0="1000", v0_25="1100", v0_75="0011", v1="0110"), least_effect=least_effect)
    assert choice.value == chosen
    assert words in choice.rule


def test_several_tasks_count_alike_whatever_their_docs() -> None:
    """Over all docs together the second value would be ahead, by 5 to 4."""
    arms = {
        0.0: arm(0, mimic_counting=counting("1111000000"), mimic_common=counting("0")),
        1.0: arm(1, mimic_counting=counting("0000111110"), mimic_common=counting("0")),
        2.0: arm(2, mimic_counting=counting("0000000000"), mimic_common=counting("1")),
    }
    choice = choose(arms, least_effect=0.0)
    assert choice.value == 2.0
    assert [tried.score for tried in choice.grid] == [0.2, 0.25, 0.5]
    assert "mean of the tasks' scores" in choice.rule


def test_the_interval_is_that_of_resampled_docs() -> None:
    """Written out: each resample of the docs chooses a value; the middle 95 % of these."""
    rights = {0.0: "110100101101", 0.5: "111010110101", 1.0: "001011011011"}
    arms = {value: arm(value, mimic_counting=counting(text)) for value, text in rights.items()}
    choice = choose(arms, least_effect=0.0, seed=4)
    rows = np.array([[int(c) for c in text] for text in rights.values()])
    draws = np.random.default_rng(4).multinomial(12, [1 / 12] * 12, size=RESAMPLES)
    chosen = sorted(list(rights)[int(np.argmax(rows @ draw))] for draw in draws)
    assert choice.value == 0.5
    assert (choice.low, choice.high) == (chosen[int(0.025 * 1999)], chosen[int(np.ceil(0.975 * 1999))])
    assert [tried.share for tried in choice.grid] == [
        pytest.approx(chosen.count(value) / RESAMPLES) for value in rights
    ]
    assert 0 < choice.grid[0].share < 1


def test_docs_that_clearly_prefer_a_value_leave_no_doubt() -> None:
    choice = choose(of(v0="000000000000", v0_5="111111111111", v1="000000000000"), least_effect=0.0)
    assert (choice.low, choice.value, choice.high) == (0.5, 0.5, 0.5)


def test_listing_counts_over_the_corpus() -> None:
    """The mean of the docs' F1 would choose 0: (1 + 0) / 2 against (0.4 + 0.4) / 2."""
    first = [listing(0, (1, 1, 1), ["cat"]), listing(1, (0, 9, 9), ["x"])]
    second = [listing(0, (0, 1, 1), ["cat"]), listing(1, (4, 9, 9), ["x"])]
    arms = {0.0: arm(0, mimic_listing=first), 1.0: arm(1, mimic_listing=second)}
    choice = choose(arms, least_effect=0.0)
    assert choice.value == 1.0
    assert [tried.score for tried in choice.grid] == [pytest.approx(0.1), pytest.approx(0.4)]


def test_the_docs_of_a_matched_set_are_drawn_together() -> None:
    """Twelve docs of one set are one observation: every resample has all of them."""
    more = {"cell": "n=2", "matched_set": 0}
    arms = {
        value: arm(value, mimic_counting=counting(text, **more))
        for value, text in ((0.0, "110100101100"), (1.0, "111010110101"))
    }
    choice = choose(arms, least_effect=0.0)
    assert [tried.share for tried in choice.grid] == [0.0, 1.0]


def test_a_doc_that_one_value_leaves_unscored_counts_for_none() -> None:
    arms = [arm(value, mimic_counting=counting(text)) for value, text in ((0.0, "1-01"), (1.0, "1110"))]
    scored, left_out = scored_in_all(arms)
    assert left_out == {"mimic_counting": 1}
    assert [[sample.score for sample in one.samples["mimic_counting"]] for one in scored] == [
        [1.0, 0.0, 1.0],
        [1.0, 1.0, 0.0],
    ]
    with pytest.raises(UserError, match="mimic_counting: no doc was scored under every value"):
        scored_in_all([arm(0, mimic_counting=counting("1-")), arm(1, mimic_counting=counting("-1"))])
