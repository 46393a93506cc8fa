"""Flips, paired binary scores and Holm against their definitions, published tables, R and statsmodels."""

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stats import (
    any_change,
    clopper_pearson,
    discordant_odds_ratio,
    flip_rate,
    holm,
    mcnemar_exact,
    paired_risk_difference,
    pairwise_disagreement,
    wilson,
)

# both, only_a, only_b, neither, confidence -> Tango's score interval for p_a - p_b.
TANGO = {
    # Tango 1998 (Statistics in Medicine 17, 891-908), both examples, as in ratesci's tests ("Score").
    (4, 9, 3, 16, 0.95): (-0.027, 0.390),
    (43, 0, 1, 0, 0.90): (-0.096, 0.037),
    # Agresti and Min 2005 (Statistics in Medicine 24, 729-740), as in ratesci's tests.
    (53, 16, 8, 9, 0.95): (-0.020, 0.207),
    # Tang, Li, Tang 2010 (Statistics in Medicine 29, 46-62), as in ratesci's tests.
    (8, 3, 1, 2, 0.95): (-0.1670, 0.4327),
    # Chang 2024, as in ratesci's tests.
    (7, 25, 2, 68, 0.95): (0.139, 0.321),
}

# only_a, only_b -> p, low, high of the odds ratio: R's exact2x2, mcnemar.exact.
EXACT2X2 = {
    (15, 7): (0.1338, 0.8224084, 6.2125863),  # Hodgkin's disease and tonsillectomy, Johnson and Johnson 1972
    (1, 8): (0.03906, 0.00281705, 0.93235414),
    (2, 9): (0.06543, 0.02336464, 1.07363844),
    (4, 21): (0.0009105, 0.04753664, 0.56452522),
}

counts = st.integers(0, 12)


@pytest.mark.parametrize("case", TANGO)
def test_the_paired_difference_gives_the_published_intervals(case: tuple[int, int, int, int, float]) -> None:
    *table, confidence = case
    result = paired_risk_difference(*table, confidence=confidence)
    low, high = TANGO[case]
    digits = max(len(str(abs(low))), len(str(abs(high)))) - 2
    assert (round(result.low, digits), round(result.high, digits)) == (low, high)
    assert result.n == sum(table)
    assert result.estimate == (table[1] - table[2]) / result.n


def test_the_interval_keeps_0_where_mcnemars_exact_test_does() -> None:
    # Fagerland, Lydersen and Laake 2014 (Statistics in Medicine 33, 2850-2875): airway hyper-responsiveness.
    # Tango's interval is -0.517 to -0.026, the exact p 0.0703: shown side by side they contradict each other.
    result = paired_risk_difference(1, 1, 7, 12)
    assert (round(result.low, 3), result.high, round(result.pvalue, 4)) == (-0.517, 0.0, 0.0703)
    # Table of the issue: exact p below 0.05 beside a Newcombe interval that holds 0, in 82 of 1,596 tables.
    assert paired_risk_difference(0, 6, 0, 0).pvalue == 0.03125
    assert paired_risk_difference(0, 6, 0, 0).low > 0


def test_the_interval_excludes_0_exactly_where_p_is_below_5_percent() -> None:
    """Every table of up to 40 docs: 6,390 of discordant counts (the concordant ones matter by n alone).

    With fewer docs right only in A; the others mirror these (the test of swapped conditions).
    """
    tables = 0
    for n in range(1, 41):
        for only_a in range(n + 1):
            for only_b in range(only_a, n - only_a + 1):
                result = paired_risk_difference(n - only_a - only_b, only_a, only_b, 0)
                assert (result.low > 0 or result.high < 0) == (result.pvalue < 0.05), (n, only_a, only_b)
                assert result.low <= result.estimate <= result.high
                assert result.high - result.low > 0.05  # never without width
                if only_a != only_b and result.pvalue < 0.05:
                    assert (result.low > 0) == (only_a > only_b)
                tables += 1
    assert tables == 6_390


def test_runs_that_agree_on_every_doc_still_have_an_interval() -> None:
    z2 = 1.959963984540054**2
    for n in (1, 12, 60):
        result = paired_risk_difference(n, 0, 0, 0)
        assert (result.estimate, result.pvalue) == (0.0, 1.0)
        assert (result.low, result.high) == pytest.approx((-z2 / (n + z2), z2 / (n + z2)))


@settings(max_examples=150, deadline=None)
@given(counts, counts, counts, counts.filter(bool))
def test_swapping_the_conditions_mirrors_the_difference(both: int, a: int, b: int, neither: int) -> None:
    ours, swapped = paired_risk_difference(both, a, b, neither), paired_risk_difference(both, b, a, neither)
    assert (swapped.estimate, swapped.cohens_h) == (-ours.estimate, -ours.cohens_h)
    assert (swapped.low, swapped.high) == pytest.approx((-ours.high, -ours.low))
    assert swapped.pvalue == pytest.approx(ours.pvalue)
    assert -1 <= ours.low <= ours.estimate <= ours.high <= 1
    more = paired_risk_difference(both, a + 1, b, neither - 1)
    assert more.estimate > ours.estimate


@pytest.mark.parametrize(
    ("n", "share", "difference"), [(8, 0.5, 0.2), (20, 0.3, 0.1), (40, 0.3, 0.1), (40, 0.2, 0.0)]
)
def test_the_paired_interval_covers_what_it_says(n: int, share: float, difference: float) -> None:
    """Counted over all tables, not drawn: of `share` discordant docs."""
    from scipy.stats import binom

    covered = 0.0
    for discordant in range(n + 1):
        for only_a in range(discordant + 1):
            chance = binom.pmf(discordant, n, share)
            chance *= binom.pmf(only_a, discordant, (1 + difference / share) / 2)
            table = (n - discordant, only_a, discordant - only_a, 0)
            covered += chance * abs_in(paired_risk_difference(*table), difference)
    assert 0.94 <= covered <= 1


def abs_in(interval, truth: float) -> bool:
    return interval.low - 1e-12 <= truth <= interval.high + 1e-12


def test_cohens_h_is_statsmodels_effect_size() -> None:
    from statsmodels.stats.proportion import proportion_effectsize

    result = paired_risk_difference(794, 150, 86, 570)
    assert result.cohens_h == pytest.approx(proportion_effectsize(944 / 1600, 880 / 1600))
    assert (result.p_a, result.p_b) == (944 / 1600, 880 / 1600)


@pytest.mark.parametrize(("only_a", "only_b"), EXACT2X2)
def test_mcnemar_and_the_odds_ratio_are_rs_exact2x2(only_a: int, only_b: int) -> None:
    pvalue, low, high = EXACT2X2[only_a, only_b]
    result, odds = mcnemar_exact(only_a, only_b), discordant_odds_ratio(only_a, only_b)
    assert float(f"{result.pvalue:.4g}") == pvalue
    assert (result.only_a, result.only_b) == (only_a, only_b)
    assert (odds.estimate, odds.low, odds.high) == pytest.approx((only_a / only_b, low, high), rel=1e-6)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_the_two_sided_binomial_and_agrees_with_the_odds_interval(a: int, b: int) -> None:
    from statsmodels.stats.contingency_tables import mcnemar

    n = a + b
    tail = sum(math.comb(n, x) for x in range(min(a, b) + 1)) / 2**n
    result = mcnemar_exact(a, b)
    assert result.pvalue == pytest.approx(min(1.0, 2 * tail))
    assert result.pvalue == mcnemar_exact(b, a).pvalue
    assert result.pvalue == pytest.approx(mcnemar([[0, a], [b, 0]], exact=True).pvalue)
    if n:
        odds = discordant_odds_ratio(a, b)
        assert (odds.low > 1 or odds.high < 1) == (result.pvalue < 0.05)
        assert odds.low <= odds.estimate <= odds.high


def test_without_discordant_docs_p_is_1_and_there_is_no_odds_ratio() -> None:
    assert mcnemar_exact(0, 0).pvalue == 1.0
    with pytest.raises(ValueError, match="an odds ratio needs at least 1 discordant doc, got 0"):
        discordant_odds_ratio(0, 0)


def test_a_one_sided_split_has_an_infinite_odds_ratio_with_a_finite_lower_end() -> None:
    one_way, other_way = discordant_odds_ratio(5, 0), discordant_odds_ratio(0, 5)
    share = 0.025 ** (1 / 5)
    assert (one_way.estimate, one_way.high) == (math.inf, math.inf)
    assert one_way.low == pytest.approx(share / (1 - share))
    assert (other_way.estimate, other_way.low) == (0.0, 0.0)
    assert other_way.high == pytest.approx(1 / one_way.low)


def test_counts_that_are_no_counts_are_refused() -> None:
    for call in (mcnemar_exact, discordant_odds_ratio):
        with pytest.raises(ValueError, match="`only_b` must be an integer >= 0, got -1"):
            call(1, -1)
    with pytest.raises(ValueError, match=r"`both` must be an integer >= 0, got 0\.5"):
        paired_risk_difference(0.5, 1, 1, 1)
    with pytest.raises(ValueError, match="a paired risk difference needs at least 1 doc, got 0"):
        paired_risk_difference(0, 0, 0, 0)
    with pytest.raises(ValueError, match="`confidence` must be a number between 0 and 1"):
        paired_risk_difference(1, 1, 1, 1, confidence=95)


def test_flip_rate_counts_changed_answers_with_wilsons_interval() -> None:
    result = flip_rate(["a", "b", 3, "d"], ["a", "c", 3.0, ("d",)])
    share = wilson(2, 4)
    assert (result.estimate, result.low, result.high) == (0.5, share.low, share.high)
    assert (result.n, result.flips, result.rule_of_three, result.exact_upper) == (4, 2, None, None)


def test_no_flip_brings_the_rule_of_three_and_the_exact_bound() -> None:
    # Hanley and Lippman-Hand 1983, JAMA 249, 1743: 0 of 300 is below 1 %.
    result = flip_rate(["a"] * 300, ["a"] * 300)
    assert (result.estimate, result.low, result.flips, result.rule_of_three) == (0.0, 0.0, 0, 0.01)
    assert result.exact_upper == pytest.approx(1 - 0.05 ** (1 / 300))
    assert result.exact_upper == clopper_pearson(0, 300, side="upper").high
    at_99 = flip_rate(["a"] * 300, ["a"] * 300, confidence=0.99)
    assert at_99.exact_upper == pytest.approx(1 - 0.01 ** (1 / 300))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=1), st.randoms())
def test_flips_have_no_direction_and_docs_no_order(pairs, random) -> None:
    before, after = zip(*pairs, strict=True)
    ours = flip_rate(before, after)
    assert flip_rate(after, before) == ours
    random.shuffle(pairs)
    assert flip_rate(*zip(*pairs, strict=True)) == ours
    assert any_change(pairs) == ours


def disagreeing(given_answers: list[str]) -> float:
    return np.mean([a != b for a, b in itertools.combinations(given_answers, 2)])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcd"), min_size=2, max_size=6), min_size=1, max_size=12))
def test_disagreement_is_the_share_of_differing_pairs_averaged_over_docs(answers: list[list[str]]) -> None:
    result = pairwise_disagreement(answers)
    assert result.estimate == pytest.approx(np.mean([disagreeing(given) for given in answers]))
    assert (result.low is None) == (len(answers) < 8)
    if result.low is not None and result.high is not None:
        assert 0 <= result.low <= result.estimate <= result.high <= 1
    assert result.n == len(answers)
    changed = any_change(answers)
    assert changed.flips == sum(len(set(given)) > 1 for given in answers)
    assert (result.estimate == 0) == (changed.flips == 0)


def test_disagreement_takes_docs_with_unequal_numbers_of_orders() -> None:
    # Pairs that differ: 2 of 3, 0 of 1, 3 of 6.
    result = pairwise_disagreement([["a", "a", "b"], ["a", "a"], ["a", "b", "b", "b"]])
    assert result.estimate == pytest.approx((2 / 3 + 0 + 1 / 2) / 3)
    assert (result.low, result.method) == (None, "no interval below 8 docs")


def test_docs_that_never_change_leave_room_above_zero() -> None:
    result = pairwise_disagreement([["a", "a", "a"]] * 40)
    assert (result.estimate, result.low) == (0.0, 0.0)
    t2 = 2.0226909117347285**2  # Student's 0.975 quantile, 39 degrees of freedom: as 0 of 40, by Wilson
    assert result.high == pytest.approx(t2 / (40 + t2))


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ([], [], "`before` needs at least 1 answer, got 0"),
        (["a"], ["a", "b"], "`before` and `after` must hold the same docs, got 1 and 2"),
        (["a", None], ["a", "b"], r"`before` must hold scored answers only, got None \(unscored\) at 1"),
        (["a"], [math.nan], r"`after` must hold scored answers only, got nan \(unscored\) at 0"),
        (["a"], [["b"]], r"`after` must hold hashable answers, got \['b'\] at 0"),
        ("ab", ["a", "b"], "`before` must be a sequence of answers, got the text 'ab'"),
    ],
)
def test_answers_that_cannot_be_compared_are_refused(before, after, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        flip_rate(before, after)


@pytest.mark.parametrize("call", [any_change, pairwise_disagreement])
@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([], "`answers` needs at least 1 doc, got 0"),
        ([["a", "b"], ["a"]], "each doc needs at least 2 answers to compare, got 1 at doc 1"),
        ([["a", None]], r"`answers\[0\]` must hold scored answers only, got None \(unscored\) at 1"),
        (["yes", "no"], r"`answers\[0\]` must be a sequence of answers, got the text 'yes'"),
    ],
)
def test_docs_without_two_answers_are_refused(call, answers, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(answers)


def test_holm_gives_the_textbook_values_and_statsmodels() -> None:
    from statsmodels.stats.multitest import multipletests

    # R 4, p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm").
    assert holm([0.01, 0.02, 0.03, 0.04, 0.05]).adjusted == pytest.approx((0.05, 0.08, 0.09, 0.09, 0.09))
    # Wikipedia, "Holm-Bonferroni method", example: at 5 % the first and the last are rejected.
    result = holm([0.01, 0.04, 0.03, 0.005])
    pvalues = np.random.default_rng(1).random(20) ** 3
    assert holm(pvalues).adjusted == pytest.approx(
        multipletests(pvalues, method="holm")[1].tolist(), rel=1e-12
    )
    assert result.adjusted == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert result.family == 4


def holm_by_definition(pvalues: list[float]) -> list[float]:
    """The smallest level at which Holm's sequential procedure rejects: max over ranks up to one's own."""
    order = sorted(range(len(pvalues)), key=lambda i: pvalues[i])
    adjusted = [0.0] * len(pvalues)
    worst = 0.0
    for passed, i in enumerate(order):
        worst = max(worst, (len(pvalues) - passed) * pvalues[i])
        adjusted[i] = min(1.0, worst)
    return adjusted


@settings(max_examples=80, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.randoms())
def test_holm_is_its_definition_keeps_order_and_lies_between_p_and_bonferroni(pvalues, random) -> None:
    result = holm(pvalues)
    assert result.adjusted == pytest.approx(tuple(holm_by_definition(pvalues)))
    for p, adjusted in zip(pvalues, result.adjusted, strict=True):
        assert p <= adjusted <= min(1.0, len(pvalues) * p) * (1 + 1e-12)
    moved = list(range(len(pvalues)))
    random.shuffle(moved)
    assert holm([pvalues[i] for i in moved]).adjusted == tuple(result.adjusted[i] for i in moved)


@pytest.mark.parametrize(
    ("pvalues", "message"),
    [
        ([], "`pvalues` needs at least 1 value, got 0"),
        ([0.1, math.nan], "`pvalues` must hold finite numbers, got nan at 1"),
        ([0.1, 1.2], r"`pvalues` must lie between 0 and 1, got 1.2 at 1"),
        ([-0.1], r"`pvalues` must lie between 0 and 1, got -0.1 at 0"),
    ],
)
def test_p_values_that_are_none_are_refused(pvalues: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        holm(pvalues)


def test_importing_stats_loads_neither_scipy_nor_statsmodels_nor_anything_of_ours() -> None:
    code = "import sys, stats; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    unwanted = {"scipy", "statsmodels", "pandas", "torch", "mimic_eval", "mimic_tasks", "model_adapters"}
    assert "stats" in loaded.split()
    assert not unwanted & set(loaded.split())
