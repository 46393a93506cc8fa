"""Printed scores against every count that could be behind them."""

from fractions import Fraction

import numpy as np
import pytest

from stats import attainable, attainable_numbers, overall_attainable


def _rounds_to(n: int, decimals: int, full: int) -> set[str]:
    """Every number with so many decimals that some k/n is rounded to; a tie either way."""
    step = Fraction(1, 10**decimals)
    exact = [Fraction(full * k, n) for k in range(n + 1)]
    units = [Fraction(i) * step for i in range(full * 10**decimals + 1)]
    return {f"{float(u):.{decimals}f}" for u in units if any(abs(u - e) <= step / 2 for e in exact)}


@pytest.mark.parametrize(("n", "decimals", "full"), [(7, 1, 100), (64, 1, 100), (200, 0, 100), (48, 2, 1)])
def test_a_number_is_attainable_exactly_where_some_count_is_rounded_to_it(
    n: int, decimals: int, full: int
) -> None:
    possible = _rounds_to(n, decimals, full)
    every = [f"{i / 10**decimals:.{decimals}f}" for i in range(full * 10**decimals + 1)]
    said = {text for text in every if attainable(text, n, full=full).verdict == "attainable"}
    assert said == possible
    assert attainable_numbers(n, decimals, full=full) == len(possible)


def test_the_reason_names_the_count_or_the_nearest_ones() -> None:
    assert attainable("43.75", 64).reason == "28/64"
    wrong = attainable("44.0", 64)
    assert (wrong.verdict, wrong.reason) == ("not attainable", "the nearest: 28/64 = 43.75, 29/64 = 45.31")
    assert wrong.chance == pytest.approx(73 / 1001), "65 counts, 8 of them ties between two numbers"


def test_trailing_zeros_count_and_both_ways_of_rounding_a_tie_are_taken() -> None:
    assert attainable("33", 3).verdict == "attainable"
    assert attainable("33.0", 3).verdict == "not attainable"
    assert [attainable(text, 16, full=1).verdict for text in ("0.062", "0.063")] == ["attainable"] * 2


def test_what_cannot_be_counted_cannot_be_said_and_what_is_no_share_is_refused() -> None:
    assert attainable("44.7", None).verdict == "cannot be said"
    assert attainable("100.2", None).verdict == "not attainable"
    assert attainable("-0.2", 600).verdict == "not attainable"
    every = attainable("44.7", 2600)
    assert (every.chance, every.reason) == (
        1.0, "1161/2600 to 1163/2600, as every number with so many decimals is",
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"`printed` must be a decimal number such as 30.0, got '44,7'"):
        attainable("44,7", 60)
    with pytest.raises(ValueError, match="must be a decimal number"):
        attainable("nan", 60)


def test_an_overall_follows_as_weighted_or_as_unweighted_mean_and_says_which() -> None:
    sizes = [100, 300]
    weighted = overall_attainable("40.0", ["10.0", "50.0"], sizes)
    assert weighted.verdict == "attainable"
    assert weighted.reason.startswith("the mean weighted by n (400 items)")
    assert overall_attainable("30.0", ["10.0", "50.0"], sizes).reason.startswith("the unweighted mean")
    neither = overall_attainable("35.0", ["10.0", "50.0"], sizes)
    assert neither.verdict == "not attainable"
    assert "unweighted mean 30.00; mean weighted by n (400 items) 40.00" in neither.reason


def test_without_sizes_only_an_overall_outside_its_parts_is_refused() -> None:
    assert overall_attainable("35.0", ["10.0", "50.0"]).verdict == "cannot be said"
    assert overall_attainable("50.2", ["10.0", "50.0"]).verdict == "not attainable"
    assert overall_attainable("30.0", ["10.0", "50.0"]).verdict == "attainable"


def test_true_overalls_are_never_refused() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        sizes = rng.integers(1, 500, size=rng.integers(1, 13)).tolist()
        right = [int(rng.integers(0, n + 1)) for n in sizes]
        parts = [f"{100 * k / n:.1f}" for k, n in zip(right, sizes, strict=True)]
        assert all(attainable(p, n).verdict == "attainable" for p, n in zip(parts, sizes, strict=True))
        overall = f"{100 * sum(right) / sum(sizes):.1f}"
        assert overall_attainable(overall, parts, sizes).verdict == "attainable", (overall, parts, sizes)
