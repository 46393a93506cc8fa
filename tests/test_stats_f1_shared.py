"""Micro F1 of several conditions in the same resamples: the columns against `micro_f1_difference`."""

import numpy as np
import pytest

from stats import drawn_micro_f1, micro_f1, micro_f1_difference


def made(seed: int, docs: int = 80) -> tuple[list[int], list[int], list[int]]:
    draw = np.random.default_rng(seed)
    recalled = draw.integers(0, 4, docs)
    return tuple(
        (recalled + extra).tolist() for extra in (0, draw.integers(0, 3, docs), draw.integers(0, 3, docs))
    )


def test_a_column_is_the_bootstrap_of_one_and_a_difference_that_of_two() -> None:
    one, other = made(1), made(2)
    drawn = drawn_micro_f1([one, other], seed=5)
    assert drawn.shape == (10_000, 2)
    alone, change = micro_f1(*one), micro_f1_difference(other, one)
    assert np.quantile(drawn[:, 0], (0.025, 0.975)) == pytest.approx([alone.low, alone.high], abs=0.005)
    ends = np.quantile(drawn[:, 1] - drawn[:, 0], (0.025, 0.975))
    assert ends == pytest.approx([change.low, change.high], abs=0.005)
    same = drawn_micro_f1([one, one], draws=200)
    assert (same[:, 0] == same[:, 1]).all()  # the same docs are drawn for both


def test_draws_in_several_chunks_are_all_made_and_empty_lists_score_nothing() -> None:
    empty = ([0] * 5, [0] * 5, [0] * 5)
    drawn = drawn_micro_f1([empty, made(1, 5)], draws=1_001)
    assert (drawn[:, 0] == 0).all()
    assert ((drawn[:, 1] > 0) & (drawn[:, 1] <= 1)).all()
    assert drawn.tolist() == drawn_micro_f1([empty, made(1, 5)], draws=1_001).tolist()


def test_other_docs_or_none_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must hold the same docs, got \[80, 5\]"):
        drawn_micro_f1([made(1), made(2, 5)])
    with pytest.raises(ValueError, match="must hold the same docs"):
        drawn_micro_f1([])
