"""Relative standard deviation over positions against its definition."""

import itertools

import numpy as np
import pytest

from stats import relative_deviation


def test_one_number_of_images_by_the_definition() -> None:
    answers = [[1, None, None], [None, 1, None], [None, 0, None], [None, None, 0], [None, None, 1]]
    means = [1, 0.5, 0.5]
    result = relative_deviation(answers, range(5), draws=0)
    assert result.estimate == pytest.approx(np.std(means) / np.mean(means))
    assert result.expected is None


def test_several_numbers_of_images_are_weighted_by_their_answers() -> None:
    two, three = [[1, 0]] * 3, [[1, 1, 0]]
    result = relative_deviation([*two, *three], range(4), draws=0)
    assert result.estimate == pytest.approx((3 * 1.0 + np.std([1, 1, 0]) / np.mean([1, 1, 0])) / 4)


def test_the_expectation_is_the_mean_over_all_shuffles_within_blocks() -> None:
    """Two docs of two orders each: enumerated by hand."""
    answers = [[1, None], [None, 0], [1, None], [None, 1]]
    blocks = ["a", "a", "b", "b"]
    values = []
    for first, second in itertools.product(itertools.permutations([1, 0]), itertools.permutations([1, 1])):
        means = [(first[0] + second[0]) / 2, (first[1] + second[1]) / 2]
        values.append(np.std(means) / np.mean(means))
    result = relative_deviation(answers, blocks, draws=199)
    assert result.expected == pytest.approx(np.mean(values))
    assert result == relative_deviation(answers, blocks, draws=199)


def test_without_a_right_score_or_a_second_position_there_is_none() -> None:
    for answers in ([[0, 0]], [[1, None]]):
        result = relative_deviation(answers, [0])
        assert (result.estimate, result.expected, result.draws) == (None, None, 0)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="one block each, got 1 and 2"):
        relative_deviation([[1]], [0, 1])
    with pytest.raises(ValueError, match="at least 1 score"):
        relative_deviation([[None]], [0])
    with pytest.raises(ValueError, match="score"):
        relative_deviation([[1.5, 0]], [0])
