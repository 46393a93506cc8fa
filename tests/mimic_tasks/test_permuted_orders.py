"""Which orders the permuted tasks show, and the variables that say so."""

import itertools
import math
import subprocess
import sys
from collections import Counter

import pytest

from mimic_eval.records import (
    UserError,
)
from mimic_tasks.permuted.orders import Orders, orders_from_environment, parse_orders
from tests.mimic_tasks.test_sweeps import built  # noqa: F401


@pytest.mark.parametrize("n", range(1, 9))
def test_cyclic_shows_each_image_once_at_each_place(n: int) -> None:
    orders = Orders("cyclic").of(base_hash="a", n=n)
    assert len(orders) == n
    assert orders[0] == tuple(range(n))
    for place in range(n):
        assert sorted(order[place] for order in orders) == list(range(n))
    neighbours = {(a, b) for order in orders for a, b in itertools.pairwise((*order, order[0]))}
    assert neighbours == {(i, (i + 1) % n) for i in range(n)}  # shifts, not just any Latin square


@pytest.mark.parametrize("n", range(1, 6))
def test_all_is_every_order_once_the_docs_own_first(n: int) -> None:
    orders = Orders("all").of(base_hash="a", n=n)
    assert len(orders) == math.factorial(n)
    assert orders[0] == tuple(range(n))
    assert set(orders) == set(itertools.permutations(range(n)))


def test_all_is_refused_beyond_five_images() -> None:
    with pytest.raises(UserError, match=r"MIMIC_ORDERS=all .* at most 5 images; a doc has 6: choose"):
        Orders("all").of(base_hash="a", n=6)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 7, 8, 12, 35])
@pytest.mark.parametrize("asked", [1, 2, 6, 20])
def test_random_draws_distinct_orders_the_docs_own_first(n: int, asked: int) -> None:
    orders = Orders(f"random:{asked}", 3).of(base_hash="a", n=n)
    assert len(orders) == len(set(orders)) == min(asked, math.factorial(n))
    assert orders[0] == tuple(range(n))
    assert all(sorted(order) == list(range(n)) for order in orders)


@pytest.mark.parametrize(("n", "seeds"), [(3, 4000), (8, 4000)])
def test_random_draws_the_others_alike(n: int, seeds: int) -> None:
    drawn = [Orders("random:2", seed).of(base_hash="a", n=n)[1] for seed in range(seeds)]
    counts = Counter(drawn) if n == 3 else Counter(order[0] for order in drawn)
    assert len(counts) == (5 if n == 3 else 8)
    expected = seeds / len(counts)
    chi_squared = sum((count - expected) ** 2 / expected for count in counts.values())
    assert chi_squared < (18.467 if n == 3 else 24.322)  # 0.999 quantiles, 4 and 7 degrees, printed table


def test_random_moves_with_the_doc_and_with_the_seed_alone() -> None:
    drawn = [tuple(Orders("random:5", seed).of(base_hash=doc, n=8)) for seed in (0, 1) for doc in "ab"]
    assert len(set(drawn)) == 4
    assert Orders("random:5").of(base_hash="a", n=8)[:3] == Orders("random:3").of(base_hash="a", n=8)


def test_random_is_the_same_in_every_process() -> None:
    code = (
        "from mimic_tasks.permuted.orders import Orders\n"
        "print([Orders('random:4', 7).of(base_hash=f'{i:064x}', n=n) for i in range(5) for n in (4, 9)])"
    )
    here = [Orders("random:4", 7).of(base_hash=f"{i:064x}", n=n) for i in range(5) for n in (4, 9)]
    for salt in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONHASHSEED": salt}
        )
        assert done.stdout.strip() == str(here), done.stderr
    assert Orders("random:3", 7).of(base_hash="a", n=4) == FROZEN  # what runs have recorded stays readable


FROZEN = [(0, 1, 2, 3), (3, 1, 2, 0), (1, 2, 0, 3)]


def test_the_variables_are_read_with_their_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MIMIC_ORDERS", "MIMIC_SEED"):
        monkeypatch.delenv(name, raising=False)
    assert orders_from_environment() == Orders("cyclic", 0)
    monkeypatch.setenv("MIMIC_ORDERS", "random:007")
    monkeypatch.setenv("MIMIC_SEED", "12")
    assert orders_from_environment() == Orders("random:7", 12)


@pytest.mark.parametrize(
    ("rule", "seed", "message"),
    [
        (
            "cyclik",
            "0",
            "Unknown MIMIC_ORDERS 'cyclik'. Did you mean 'cyclic'? Valid: all, cyclic, random:P.",
        ),
        ("cyclic:3", "0", "Unknown MIMIC_ORDERS 'cyclic:3'. Did you mean 'cyclic'?"),
        ("random", "0", "an integer within 1-1000, got 'random'"),
        ("random:0", "0", "an integer within 1-1000, got 'random:0'"),
        ("random:1001", "0", "got 'random:1001'"),
        ("random:-3", "0", "got 'random:-3'"),
        ("random:x", "0", "got 'random:x'"),
        ("cyclic", "x", "MIMIC_SEED must be an integer of 1 to 18 digits, got 'x'"),
        ("cyclic", "-1", "got '-1'"),
        ("cyclic", "1.5", "got '1.5'"),
    ],
)
def test_a_wrong_variable_is_said_in_one_line(rule: str, seed: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        parse_orders(rule, seed)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
