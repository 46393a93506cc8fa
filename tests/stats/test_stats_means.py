"""Means, micro F1 and their differences: tests, intervals, clusters, against slow definitions."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stats import (
    NotEstimableError,
    f1_from_counts,
    image_clusters,
    mcnemar_exact,
    mean_interval,
    micro_f1,
    micro_f1_difference,
    paired_mean_difference,
    sign_flip,
)
from stats._sign_sums import counted, inverted

scores = st.lists(st.integers(0, 12).map(lambda x: x / 12), min_size=1, max_size=25)


def by_all_signs(values: list[float]) -> float:
    total = abs(sum(values))
    sums = [abs(np.dot(signs, values)) for signs in itertools.product((-1, 1), repeat=len(values))]
    return float(np.mean([value >= total - 1e-9 for value in sums]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-6, 6), min_size=1, max_size=11), st.sampled_from([1, 0.5, 1 / 3, 1 / 7]))
def test_the_sign_flip_p_is_the_share_of_all_signs(numbers: list[int], unit: float) -> None:
    values = [number * unit for number in numbers]
    result = sign_flip(values)
    assert result.pvalue == pytest.approx(by_all_signs(values))
    assert (result.n, result.zeros) == (len(values), numbers.count(0))
    assert sign_flip([-value for value in values]).pvalue == result.pvalue
    assert sign_flip(values[::-1]).pvalue == result.pvalue


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-1, 1).filter(lambda x: abs(x) > 0.01), min_size=2, max_size=11))
def test_weights_without_a_common_measure_err_upwards_and_little(values: list[float]) -> None:
    exact = by_all_signs(values)
    assert exact - 1e-9 <= sign_flip(values).pvalue <= exact + 2 ** (2 - len(values)) + 0.01


def test_the_sign_flip_test_gives_darwins_maize_as_fisher_published_it() -> None:
    # Fisher 1935, The Design of Experiments, section 21: 1,726 of 32,768 assignments (863 on one side).
    maize = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
    assert sign_flip(maize).pvalue == 1726 / 32768
    assert sign_flip(maize).statistic == 314


def test_of_right_and_wrong_answers_the_sign_flip_test_is_mcnemars_exact_one() -> None:
    for right, wrong in ((7, 1), (40, 20), (0, 5), (3, 3)):
        values = [1] * right + [-1] * wrong + [0] * 9
        assert sign_flip(values).pvalue == pytest.approx(mcnemar_exact(right, wrong).pvalue, rel=1e-12)


def test_many_docs_agree_with_drawn_signs_and_the_tail_is_counted() -> None:
    values = np.random.default_rng(1).normal(0.1, 1, 200)
    signs = np.random.default_rng(2).choice((-1, 1), (100_000, 200))
    drawn = float(np.mean(np.abs(signs @ values) >= abs(values.sum())))
    assert sign_flip(values).pvalue == pytest.approx(drawn, abs=4 * math.sqrt(drawn / 100_000))
    assert sign_flip([1.0] * 300).pvalue == 2.0**-299  # a large family of tests needs small p-values
    few_heavy = [1000.0] * 4 + list(np.random.default_rng(3).normal(0, 1e-3, 60))
    assert sign_flip(few_heavy).pvalue == pytest.approx(0.125, rel=0.01)  # z = 2 would give 0.046


@pytest.mark.parametrize("share", [1.0, 0.6, 0.3, 0.02])
def test_the_chance_by_inversion_is_the_counted_one_however_small(share: float) -> None:
    draw = np.random.default_rng(4)
    many = 40 * draw.integers(1, 6, 450) + draw.integers(-1, 2, 450)
    for weights in (
        many,
        np.full(400, 7),
        np.r_[draw.integers(1, 5, 90), 900, 1700],
        draw.geometric(0.02, 333),
    ):
        less = int(share * weights.sum() / 2)
        assert inverted(less, weights) == pytest.approx(counted(less, weights), rel=1e-11)
    assert counted(0, np.ones(600, dtype=np.int64)) == 2.0**-600


def test_a_long_sign_flip_test_is_by_inversion_and_a_short_one_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = np.random.default_rng(5).integers(-40, 50, 500)
    long = sign_flip(values).pvalue
    monkeypatch.setattr("stats._sign_sums.inverted", counted)
    assert long == pytest.approx(sign_flip(values).pvalue, rel=1e-11)
    assert long != sign_flip(values).pvalue  # in the last digits: so it was not counted


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-4, 4), min_size=8, max_size=60), st.sampled_from([0.9, 0.95]))
def test_p_and_the_interval_of_a_mean_difference_never_contradict(
    numbers: list[int], confidence: float
) -> None:
    a = [max(number, 0) / 4 for number in numbers]
    b = [max(-number, 0) / 4 for number in numbers]
    result = paired_mean_difference(a, b, confidence=confidence)
    assert result.low is not None
    assert result.high is not None
    assert (result.low > 0 or result.high < 0) == (result.pvalue < 1 - confidence)
    assert -1 <= result.low <= result.estimate <= result.high <= 1
    assert result.low < result.high
    if result.pvalue < 1 - confidence:
        assert (result.low > 0) == (result.estimate > 0)
    back = paired_mean_difference(b, a, confidence=confidence)
    assert (back.estimate, back.low, back.high) == pytest.approx(
        (-result.estimate, -result.high, -result.low)
    )
    assert back.pvalue == result.pvalue


def test_the_interval_inverts_the_tests_large_sample_form() -> None:
    values = np.random.default_rng(5).uniform(-0.2, 0.8, 60)
    result = paired_mean_difference(values, np.zeros(60))
    for end in (result.low, result.high):
        moved = values - end
        assert abs(moved.sum()) / math.sqrt((moved**2).sum()) == pytest.approx(1.959963984540054)
    # A little wider than Student's: 2.001 / sqrt(59) against 1.960 / sqrt(60 - 1.960^2).
    half = 2.0009953780882688 * values.std(ddof=1) / math.sqrt(60)
    assert half < (result.high - result.low) / 2 < 1.01 * half
    assert (result.method, result.test) == ("inverted sign-flip test", "paired sign-flip permutation")


def test_docs_that_all_agree_have_an_interval_from_n() -> None:
    """The exact bound on the share of other docs, and the p that goes with it."""
    same = paired_mean_difference([0.5] * 20, [0.5] * 20)
    assert (same.low, same.high) == pytest.approx((-(1 - 0.05 ** (1 / 19)), 1 - 0.05 ** (1 / 19)))
    assert same.pvalue == 1.0
    third = paired_mean_difference([1 / 3] * 8, [0] * 8)
    assert third.pvalue == pytest.approx(0.75**7)  # 8 equal signs alone would give 0.0078
    assert third.low < 0 < third.high
    more = paired_mean_difference([1 / 3] * 12, [0] * 12)
    assert more.pvalue == pytest.approx(0.75**11)
    assert more.low > 0
    assert paired_mean_difference([1] * 8, [0] * 8).pvalue == pytest.approx(mcnemar_exact(8, 0).pvalue)


def test_below_8_docs_there_is_a_test_and_no_interval() -> None:
    result = paired_mean_difference([0.5] * 7, [0.25, 0.1, 0.2, 0, 0, 0, 0.3])
    assert (result.low, result.high, result.method) == (None, None, "no interval below 8 docs")
    assert result.pvalue == pytest.approx(2 / 2**7)
    one = mean_interval([0.5, 0.7])
    assert (one.estimate, one.low, one.method) == (0.6, None, "no interval below 8 docs")


def test_0_and_1_scores_have_wilsons_interval_with_students_quantile() -> None:
    from statsmodels.stats.proportion import proportion_confint

    result = mean_interval([1] * 7 + [0] * 13)
    # The variance has n - 1 below the line: the effective size is 19 of 20.
    t = 2.093024054408263
    k, share = t * t / 19, 7 / 20
    half = math.sqrt(k * share * (1 - share) + k * k / 4) / (1 + k)
    assert result.low == pytest.approx((share + k / 2) / (1 + k) - half)
    wide = mean_interval([1] * 700 + [0] * 1300)
    assert (wide.low, wide.high) == pytest.approx(proportion_confint(700, 2000, method="wilson"), abs=2e-4)


@settings(max_examples=50, deadline=None)
@given(scores, st.randoms(use_true_random=False))
def test_a_mean_ignores_the_order_of_docs_and_stays_within_bounds(values: list[float], random) -> None:
    ours = mean_interval(values)
    random.shuffle(values)
    assert mean_interval(values) == ours
    if ours.low is not None and ours.high is not None:
        assert 0 <= ours.low <= ours.estimate <= ours.high <= 1
        assert ours.low < ours.high
    assert ours.estimate == pytest.approx(np.mean(values))
    flipped = mean_interval([-v for v in values], bounds=(-1, 0))
    assert flipped.estimate == pytest.approx(-ours.estimate)
    if ours.low is not None:
        assert -flipped.high == pytest.approx(ours.low)


def test_equal_docs_bound_the_share_of_others_instead_of_claiming_certainty() -> None:
    share = 1 - 0.05 ** (1 / 19)
    result = mean_interval([0.25] * 20)
    assert (result.low, result.high) == pytest.approx((0.25 - 0.25 * share, 0.25 + 0.75 * share))
    assert result.method == "all alike: exact bound on the share of others"
    with pytest.raises(ValueError, match="all 9 values are equal: they give no interval without `bounds`"):
        mean_interval([7] * 9, bounds=None)
    half = 2.306004135204166 * np.std(range(9), ddof=1) / 3
    unbounded = mean_interval(list(range(9)), bounds=None)
    assert (unbounded.low, unbounded.high) == pytest.approx((4 - half, 4 + half))


@pytest.mark.parametrize("n", [8, 12, 20])
def test_few_docs_are_covered_as_often_as_the_interval_says(n: int) -> None:
    """BCa covered 87 to 91 % here."""
    rng = np.random.default_rng(12)
    means = differences = 0
    for _ in range(1500):
        skill = rng.beta(1.2, 0.8, n)
        a, b = rng.binomial(4, skill) / 4, rng.binomial(4, 0.7 * skill) / 4
        one, two = mean_interval(a), paired_mean_difference(a, b)
        means += one.low <= 0.6 <= one.high
        differences += two.low <= 0.18 <= two.high
    assert 0.93 <= means / 1500 <= 0.985
    assert 0.93 <= differences / 1500 <= 0.985


def test_clusters_are_the_units_of_tests_and_intervals() -> None:
    rng = np.random.default_rng(8)
    a, b = rng.integers(0, 2, 30), rng.integers(0, 2, 30)
    sets = np.repeat(np.arange(30), 8).tolist()
    copied = paired_mean_difference(np.repeat(a, 8), np.repeat(b, 8), clusters=sets)
    once = paired_mean_difference(a, b)
    assert (copied.estimate, copied.low, copied.high) == pytest.approx((once.estimate, once.low, once.high))
    assert copied.pvalue == once.pvalue
    assert (copied.n, copied.units, once.units) == (240, 30, 30)
    alone = paired_mean_difference(np.repeat(a, 8), np.repeat(b, 8))
    assert alone.high - alone.low < (copied.high - copied.low) / 2  # as 240 docs: too narrow
    mean = mean_interval(np.repeat(a, 8), clusters=sets)
    assert (mean.low, mean.high) == pytest.approx((mean_interval(a).low, mean_interval(a).high))


def test_clusters_of_unequal_size_are_a_ratio() -> None:
    rng = np.random.default_rng(10)
    sizes = rng.integers(1, 6, 40)
    owner = np.repeat(np.arange(40), sizes)
    values = np.where(owner % 3 == 0, 1.0, rng.beta(0.5, 4, len(owner)))
    ours = mean_interval(values, bounds=None, clusters=owner.tolist())
    total = np.bincount(owner, values)
    residual = total - values.mean() * sizes  # Cochran 1977, section 6.3: a ratio of two sums
    error = math.sqrt((residual**2).sum() / 39 * 40) / len(values)
    half = 2.0226909117347285 * error
    assert (ours.low, ours.high) == pytest.approx((values.mean() - half, values.mean() + half))


def test_clusters_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="`clusters` must name the cluster of each of 2 docs, got 1"):
        mean_interval([0, 1], clusters=["a"])
    with pytest.raises(ValueError, match="`clusters` must name a cluster for each doc, got None at doc 1"):
        mean_interval([0, 1], clusters=["a", None])


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([["a"]] * 100, r"\(largest group 100 %\): 1 group, at least 30 are needed"),
        ([[i % 29] for i in range(29 * 4)], r"\(largest group 3\.448 %\): 29 groups, at least 30"),
        ([["a"]] * 12 + [[i] for i in range(88)], r"\(largest group 12 %\): 89 groups, .* more than 10 %"),
        ([["a"]] * 101 + [[i] for i in range(899)], r"\(largest group 10\.1 %\): 900 groups"),
    ],
)
def test_docs_that_share_images_too_densely_say_nothing_of_new_images(images: list, message: str) -> None:
    with pytest.raises(NotEstimableError, match="^not estimable: docs share images too densely " + message):
        image_clusters(images)
    assert issubclass(NotEstimableError, ValueError)


def test_thirty_groups_and_ten_percent_are_enough() -> None:
    allowed = image_clusters([["a"]] * 10 + [[i % 29] for i in range(90)])
    assert (allowed.groups, allowed.largest_share) == (30, 0.1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "`values` needs at least 1 value, got 0"),
        ([0.5, math.nan], "`values` must hold finite numbers, got nan at 1"),
        ([0.5, None], "`values` must hold finite numbers, got None"),
        ([0.5, 1.5], r"`values` must lie between 0 and 1 \(`bounds`\), got 1.5 at 1"),
    ],
)
def test_scores_that_are_none_are_refused(values, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mean_interval(values)


Triple = tuple[np.ndarray, np.ndarray, np.ndarray]


def counts(docs: int, seed: int) -> Triple:
    rng = np.random.default_rng(seed)
    relevant, generated = rng.integers(1, 6, docs), rng.integers(0, 8, docs)
    return np.minimum(np.minimum(relevant, generated), rng.integers(0, 6, docs)), generated, relevant


def pair(docs: int, seed: int) -> tuple[Triple, Triple]:
    """Two conditions on the same docs: the same items are relevant."""
    a, b = counts(docs, seed), counts(docs, seed + 1000)
    return a, (np.minimum(b[0], a[2]), b[1], a[2])


def f1(parts: Triple) -> float:
    return f1_from_counts(*(int(part.sum()) for part in parts)).f1


@pytest.mark.parametrize("seed", range(6))
def test_the_f1_test_exchanges_each_docs_counts(seed: int) -> None:
    """The permutation distribution of the F1 difference itself, all 2^9 exchanges written out."""
    a, b = pair(9, seed)
    observed, hits = f1(a) - f1(b), 0
    for swap in itertools.product((False, True), repeat=9):
        left = tuple(np.where(swap, y, x) for x, y in zip(a, b, strict=True))
        right = tuple(np.where(swap, x, y) for x, y in zip(a, b, strict=True))
        # The tested sum is the difference times K^2 - G^2, which exchanges change little: see the docstring.
        scale = (f1(left) - f1(right)) * (left[1] + left[2]).sum() * (right[1] + right[2]).sum()
        hits += abs(scale) >= abs(observed * (a[1] + a[2]).sum() * (b[1] + b[2]).sum()) - 1e-9
    assert micro_f1_difference(a, b).pvalue >= hits / 2**9 - 1e-9
    assert micro_f1_difference(a, b).pvalue == pytest.approx(max(hits / 2**9, 0), abs=0.06)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(8, 40))
def test_p_interval_and_sign_of_the_f1_difference_never_contradict(seed: int, docs: int) -> None:
    a, b = pair(docs, seed)
    better = (np.minimum(np.minimum(a[1], a[2]), a[0] + seed % 3), a[1], a[2])  # some pairs differ clearly
    ours, back = micro_f1_difference(better, b), micro_f1_difference(b, better)
    assert ours.estimate == f1(better) - f1(b)
    assert (back.estimate, back.pvalue) == (-ours.estimate, ours.pvalue)
    assert ours.low is not None
    assert ours.high is not None
    assert (ours.low > 0 or ours.high < 0) == (ours.pvalue < 0.05)
    assert -1 <= ours.low <= ours.estimate <= ours.high <= 1
    moved = np.random.default_rng(seed).permutation(docs)
    again = micro_f1_difference(*(tuple(part[moved] for part in parts) for parts in (better, b)))
    assert again == ours


def test_the_f1_difference_covers_as_often_as_it_says_from_8_docs() -> None:
    """The percentile bootstrap covers 88 % at n = 8."""
    a, b = pair(200_000, 1)
    truth = f1(a) - f1(b)
    for n in (8, 12, 60):
        hits = 0
        for i in range(1500):
            docs = slice(i * n, (i + 1) * n)
            found = micro_f1_difference(*(tuple(part[docs] for part in parts) for parts in (a, b)))
            hits += found.low <= truth <= found.high
        assert 0.93 <= hits / 1500 <= 0.985


def test_what_the_conditions_share_cancels_and_identical_answers_have_an_interval() -> None:
    a = counts(200, 1)
    better = (np.minimum(a[0] + (np.arange(200) < 5), np.minimum(a[1], a[2])), a[1], a[2])
    paired, one = micro_f1_difference(better, a), micro_f1(*a)
    assert paired.high - paired.low < (one.high - one.low) / 4
    same = micro_f1_difference(a, a)
    assert (same.estimate, same.pvalue) == (0.0, 1.0)
    assert (same.low, same.high) == pytest.approx((-(1 - 0.05 ** (1 / 199)), 1 - 0.05 ** (1 / 199)))
    single = micro_f1_difference(([1], [2], [2]), ([0], [2], [2]))
    assert (single.estimate, single.low, single.pvalue) == (0.5, None, 1.0)


def test_a_few_docs_with_long_lists_do_not_make_a_difference_that_many_docs_deny() -> None:
    """A is better in 49 of 60 docs, B's 11 docs have ten classes each (shared/cases/attack/direction.py)."""
    big = np.arange(60) < 11
    relevant = np.where(big, 10, 2)
    a = (np.full(60, 2), np.full(60, 2), relevant)
    b = (np.where(big, 10, 1), np.where(big, 10, 1), relevant)
    result = micro_f1_difference(b, a)
    assert result.estimate == pytest.approx(0.135, abs=0.001)
    assert result.pvalue > 0.05  # Wilcoxon's, of docs of which 49 say the opposite, was 0.014
    assert result.low <= 0 <= result.high


def test_counts_of_different_docs_are_refused() -> None:
    with pytest.raises(ValueError, match="`counts_a` and `counts_b` must hold the same docs, got 3 and 4"):
        micro_f1_difference(counts(3, 0), counts(4, 0))
    with pytest.raises(
        ValueError, match=r"`counts_b` must be \(recalled, generated, relevant\), got 2 arrays"
    ):
        micro_f1_difference(counts(3, 0), counts(3, 0)[:2])
    with pytest.raises(ValueError, match="`recalled` must not exceed `generated`, got 2 > 1 at doc 0"):
        micro_f1_difference(([2], [1], [2]), ([1], [1], [1]))
