"""The texts of image orders: what is written is read again as the same order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimic_eval.records import image_order, order_text, parse_order, reordered
from mimic_tasks.permuted.orders import Orders, parse_orders

SEEDS = st.integers(0, 10**18 - 1)


@given(order=st.sampled_from(["fixed", "reversed"]) | SEEDS.map(lambda seed: f"seeded:{seed}"))
def test_the_order_of_a_run_is_read_as_it_is_recorded(order: str) -> None:
    assert parse_order(order) == order


@pytest.mark.parametrize(("text", "recorded"), [("seeded", "seeded:0"), ("seeded:007", "seeded:7")])
def test_other_spellings_of_a_seed_are_recorded_as_one(text: str, recorded: str) -> None:
    assert parse_order(text) == recorded


@given(
    rule=st.sampled_from(["cyclic", "all"]) | st.integers(1, 1000).map(lambda p: f"random:{p}"), seed=SEEDS
)
def test_the_rule_of_a_permuted_task_is_read_as_it_is_recorded(rule: str, seed: int) -> None:
    orders = Orders(rule, seed)
    assert parse_orders(orders.rule, str(orders.seed)) == orders


@given(st.permutations(range(6)))
def test_people_count_images_from_1(order: list[int]) -> None:
    assert [int(word) - 1 for word in order_text(order).split(", ")] == order


def test_values_follow_the_order_and_values_that_are_not_of_the_images_stay() -> None:
    assert reordered("abc", (2, 0, 1)) == ["c", "a", "b"]
    assert reordered(["stitched"], (2, 0, 1)) == ["stitched"]


def test_draws_are_those_that_runs_have_recorded() -> None:
    assert image_order("seeded:7", content_hash="a", n=6) == (4, 5, 3, 1, 2, 0)
    assert Orders("random:3", 0).of(base_hash="a", n=4)[0] == (0, 1, 2, 3)
