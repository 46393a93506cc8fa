"""The draws behind a build: uniform where METHODS 2 says uniform."""

from collections import Counter
from itertools import combinations_with_replacement
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimic_eval.records import UserError
from mimic_tasks.planning import Controls, Range
from mimic_tasks.planning.base import without
from mimic_tasks.planning.partitions import Partitions
from mimic_tasks.planning.tree import ChoiceTree
from stats import connected_groups


def listed(available: dict[int, int], total: int, parts: int) -> list[tuple[int, ...]]:
    """Every partition by definition: all multisets of part values, kept if they add up and are available."""
    values = sorted(available)
    return [
        chosen
        for chosen in combinations_with_replacement(values, parts)
        if sum(chosen) == total and all(chosen.count(v) <= available[v] for v in chosen)
    ]


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.integers(1, 6), st.integers(1, 3), min_size=1, max_size=5),
    st.integers(1, 12),
    st.integers(1, 5),
)
def test_servable_partitions_are_counted_as_their_list(
    available: dict[int, int], total: int, parts: int
) -> None:
    assert Partitions(available).count(total, parts) == len(listed(available, total, parts))


def test_each_partition_of_4_is_drawn_equally_often() -> None:
    partitions, rng = Partitions({1: 9, 2: 9, 3: 9, 4: 9}), Random(0)
    drawn = Counter(tuple(sorted(partitions.draw(rng, 4, 2))) for _ in range(4000))
    assert set(drawn) == {(1, 3), (2, 2)}
    assert abs(drawn[2, 2] - 2000) < 4 * (4000 * 0.25) ** 0.5  # four standard deviations


def test_a_partition_that_the_data_cannot_serve_is_never_drawn() -> None:
    partitions = Partitions({1: 1, 2: 1, 3: 1})
    assert partitions.draw(Random(0), 4, 2) in ([3, 1], [1, 3])  # [2, 2] needs two pictures with two
    with pytest.raises(ValueError, match="no partition of 5 into 4 parts"):
        partitions.draw(Random(0), 5, 4)


def test_a_class_with_few_docs_is_drawn_as_often_as_one_with_many_while_it_lasts() -> None:
    tree = ChoiceTree([lambda p: ["rare", "common"], lambda p: [0] if p[0] == "rare" else list(range(1000))])
    rng = Random(1)
    drawn = Counter(tree.draw(rng)[0] for _ in range(2000))  # type: ignore[index]
    assert abs(drawn["rare"] - 1000) < 4 * 500**0.5


def test_retired_leaves_take_their_empty_branches_along() -> None:
    tree = ChoiceTree([lambda p: "ab", lambda p: [1, 2] if p == ("a",) else []])
    rng = Random(0)
    seen = set()
    while (leaf := tree.draw(rng)) is not None:
        seen.add(leaf)
        tree.retire(leaf)
    assert seen == {("a", 1), ("a", 2)}


def test_shapes_follow_from_any_two_of_n_s_and_d() -> None:
    assert Controls(spread=Range(2, 3), distractors=Range(1, 1)).counting_shapes() == [(3, 2), (4, 3)]
    assert Controls(n_images=Range(3, 3), spread=Range(1, 9)).counting_shapes() == [(3, 1), (3, 2), (3, 3)]
    assert (30, 1) in Controls(distractors=Range(29, 29), spread=Range(1, 1)).counting_shapes()
    with pytest.raises(UserError, match="n-images = spread"):
        Controls(n_images=Range(4, 4), spread=Range(1, 1), distractors=Range(1, 1))


def test_a_range_is_lifted_to_the_tasks_minimum_a_number_is_not() -> None:
    assert list(Controls().sizes("oddone")) == [3, 4, 5, 6]
    with pytest.raises(UserError, match="oddone needs at least 3 images"):
        Controls(n_images=Range(2, 2)).sizes("oddone")


def test_docs_that_share_images_through_others_are_one_cluster() -> None:
    clusters = connected_groups([["a", "b"], ["c"], ["b", "d"], ["d"], ["e"]])
    assert clusters.labels == (0, 1, 0, 0, 2)
    assert clusters.groups == 3
    assert clusters.largest_share == pytest.approx(0.6)
    assert connected_groups([["a"]]) == ((0,), 1, 1.0)


@pytest.mark.parametrize("seed", range(20))
def test_without_is_numpys_set_difference(seed: int) -> None:
    rng = np.random.default_rng(seed)
    population = np.flatnonzero(rng.random(40) < rng.random())
    taken = rng.integers(0, 45, rng.integers(0, 9)).tolist()
    left = without(population, taken)
    assert left.tolist() == np.setdiff1d(population, taken).tolist()
    assert left.dtype == population.dtype
