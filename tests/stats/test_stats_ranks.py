"""Signed ranks and the Hodges-Lehmann shift against enumeration, Hollander and Wolfe, R, coin and SciPy."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stats import hodges_lehmann, rank_biserial, wilcoxon_signed_rank

# Hollander and Wolfe 1973, table 3.1: Hamilton depression scale factor of nine patients, two visits.
FIRST = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30]
SECOND = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29]
DEPRESSION = [y - x for x, y in zip(FIRST, SECOND, strict=True)]

# Fifty pairs of ratings 1-7 for which R's coin printed, zeros as Pratt, distribution = "exact":
# Z = 4.5276, p-value = 1.474e-06.
COIN_A = "64557666766566553665654666743466564665766567666577"
COIN_B = "53535362362556464553756643432454462674455557453267"
COIN = [int(a) - int(b) for a, b in zip(COIN_A, COIN_B, strict=True)]

small = st.lists(st.integers(-4, 4).map(lambda d: d / 4), min_size=1, max_size=9)


def midranks(sizes: list[float]) -> list[float]:
    return [sum(s < size for s in sizes) + (sizes.count(size) + 1) / 2 for size in sizes]


def pratt_by_enumeration(differences: list[float]) -> tuple[float, float]:
    """Statistic and two-sided p over all 2^m signs of the nonzero differences, zeros ranked then dropped."""
    ranks = midranks([abs(d) for d in differences])
    kept = [(rank, d) for rank, d in zip(ranks, differences, strict=True) if d != 0]
    centre = sum(rank for rank, _ in kept) / 2
    statistic = sum(rank for rank, d in kept if d > 0)
    far = [
        abs(sum(rank for (rank, _), up in zip(kept, signs, strict=True) if up) - centre)
        >= abs(statistic - centre)
        for signs in itertools.product((False, True), repeat=len(kept))
    ]
    return statistic, sum(far) / len(far)


@settings(max_examples=80, deadline=None)
@given(small)
def test_the_exact_test_enumerates_all_signs_with_ties_and_zeros(differences: list[float]) -> None:
    result = wilcoxon_signed_rank(differences)
    assert (result.statistic, result.pvalue) == pratt_by_enumeration(differences)
    assert (result.n, result.zeros) == (len(differences), differences.count(0))


def test_the_depression_data_give_hollander_and_wolfes_p_value() -> None:
    # Hollander and Wolfe 1999, page 40 (also R's reg-tests, PR 1150): 0.0391; R prints V = 40 for x - y.
    result = wilcoxon_signed_rank(DEPRESSION)
    assert (result.statistic, result.pvalue) == (5.0, 20 / 512)
    assert wilcoxon_signed_rank([-d for d in DEPRESSION]).statistic == 40.0
    assert result.method == "Wilcoxon signed-rank, two-sided, zeros as Pratt, exact (all signs)"


def test_the_exact_distribution_and_the_approximation_equal_r_coin(monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy.stats import norm

    assert wilcoxon_signed_rank(COIN).pvalue == pytest.approx(2 * norm.sf(4.5276), rel=3e-4)
    monkeypatch.setattr("stats.ranks.EXACT_NONZERO", 50)
    assert float(f"{wilcoxon_signed_rank(COIN).pvalue:.3e}") == 1.474e-06


def test_the_approximation_equals_scipys_published_pratt_value() -> None:
    # SciPy 1.17, tests/test_morestats.py, test_accuracy_wilcoxon: T = 423, p = 0.0031724568006762576.
    differences = np.repeat(np.arange(-4, 5), [1, 4, 16, 15, 8, 4, 5, 1, 2])
    result = wilcoxon_signed_rank(differences)
    assert result.pvalue == pytest.approx(0.0031724568006762576, rel=1e-12)
    assert (result.statistic, result.n, result.zeros) == (423.0, 56, 8)
    assert result.method.endswith("normal approximation")


@pytest.mark.parametrize("n", [30, 61, 400])
def test_the_approximation_equals_scipy_with_ties_and_zeros(n: int) -> None:
    from scipy.stats import wilcoxon

    rng = np.random.default_rng(n)
    for differences in (rng.normal(0.1, 1, n), rng.integers(-2, 4, n)):
        theirs = wilcoxon(differences, zero_method="pratt", method="asymptotic").pvalue
        assert wilcoxon_signed_rank(differences).pvalue == pytest.approx(theirs, rel=1e-9)


def test_scipys_exact_is_not_followed_where_zeros_make_it_wrong() -> None:
    from scipy.stats import wilcoxon

    differences = [0, 0, 0, 1, 2, 3, 4]
    assert wilcoxon_signed_rank(differences).pvalue == 2 / 16
    assert wilcoxon(differences, zero_method="pratt", method="exact").pvalue != pytest.approx(2 / 16)


def test_exact_up_to_25_nonzero_however_many_zeros_and_normal_from_26() -> None:
    exact = wilcoxon_signed_rank([1.0] * 25 + [0.0] * 3000)
    assert exact.pvalue == 2 / 2**25
    assert exact.method.endswith("exact (all signs)")
    assert wilcoxon_signed_rank([1.0] * 26).method.endswith("normal approximation")


def test_all_zero_differences_have_p_1_and_say_so() -> None:
    result = wilcoxon_signed_rank([0.0] * 4)
    assert (result.statistic, result.pvalue, result.n, result.zeros) == (0.0, 1.0, 4, 4)
    assert result.method.endswith("all differences zero")
    assert wilcoxon_signed_rank([0.3]).pvalue == 1.0


def test_rounding_errors_make_neither_ranks_nor_signs() -> None:
    noisy = [0.3 - 0.1, 0.2, -0.2, 0.1 + 0.2 - 0.3, 0.9 - 0.7]
    assert len({abs(d) for d in noisy}) > 2
    assert wilcoxon_signed_rank(noisy) == wilcoxon_signed_rank([0.2, 0.2, -0.2, 0.0, 0.2])


@settings(max_examples=60, deadline=None)
@given(small, st.randoms(use_true_random=False), st.sampled_from([0.25, 3.0]))
def test_tests_and_effects_ignore_order_and_scale_and_mirror_signs(differences, random, scale) -> None:
    shuffled = [scale * d for d in differences]
    random.shuffle(shuffled)
    mirrored = [-d for d in differences]
    ours, other, mirror = (wilcoxon_signed_rank(d) for d in (differences, shuffled, mirrored))
    assert ours == other
    assert mirror.pvalue == ours.pvalue
    ranks = midranks([abs(d) for d in differences])
    assert ours.statistic + mirror.statistic == sum(
        rank for rank, d in zip(ranks, differences, strict=True) if d
    )
    effect, same, back = (rank_biserial(d, draws=200) for d in (differences, shuffled, mirrored))
    assert effect == same
    assert back.estimate == -effect.estimate
    assert -1 <= effect.low <= effect.high <= 1


def test_the_rank_biserial_of_the_depression_data_is_rs() -> None:
    # R's effectsize, rank_biserial(depression$first, depression$second, paired = TRUE): 0.78.
    result = rank_biserial([-d for d in DEPRESSION])
    assert result.estimate == (40 - 5) / 45
    assert round(result.estimate, 2) == 0.78
    assert result.low < result.estimate <= result.high


def test_zeros_dilute_the_rank_biserial() -> None:
    # Ranks 1.5, 1.5 for the zeros, 3 and 4: (7 - 0) / 10.
    assert rank_biserial([0, 0, 1, 2]).estimate == 0.7
    assert rank_biserial([0] * 998 + [1, 2]).estimate == pytest.approx((999 + 1000) / (1000 * 1001 / 2))


@pytest.mark.parametrize("kind", ["continuous", "tied"])
def test_the_rank_biserial_bootstrap_agrees_with_ranking_each_resample(kind: str) -> None:
    rng = np.random.default_rng(3)
    data = rng.normal(0.4, 1, 25) if kind == "continuous" else rng.integers(-2, 4, 25).astype(float)
    slow = []
    for _ in range(4000):
        drawn = data[rng.integers(0, 25, 25)].tolist()
        ranks = midranks([abs(d) for d in drawn])
        slow.append(sum(r * np.sign(d) for r, d in zip(ranks, drawn, strict=True)) / (25 * 26 / 2))
    fast = rank_biserial(data, draws=20_000, confidence=0.9, seed=8)
    # A quantile's standard error over N draws is sqrt(q (1 - q) / N) / density, here about 0.103 / sd.
    error = 5 * np.std(slow) * math.sqrt(0.05 * 0.95 * (1 / 4000 + 1 / 20_000)) / 0.103
    assert (fast.low, fast.high) == pytest.approx(tuple(np.quantile(slow, [0.05, 0.95])), abs=error)
    assert (fast.method, fast.draws, fast.seed) == ("percentile bootstrap over docs", 20_000, 8)


@pytest.mark.parametrize("data", [np.arange(-3, 8) / 2, np.array([-1, 0, 0, 1, 1, 2, -2, 2])])
def test_each_resample_is_ranked_anew_with_its_own_ties(data: np.ndarray) -> None:
    from stats.ranks import _drawn_biserial, signed_ranks

    n = len(data)
    fast = _drawn_biserial(signed_ranks(data.astype(float)), 50, 4)
    in_order = data[np.argsort(signed_ranks(data.astype(float)), kind="stable")]
    for drawn, value in zip(in_order[np.random.default_rng(4).integers(0, n, (50, n))], fast, strict=True):
        ranks = midranks(np.abs(drawn).tolist())
        assert value == pytest.approx(sum(ranks * np.sign(drawn)) / (n * (n + 1) / 2), abs=1e-12)


def test_docs_that_all_agree_bound_the_others_and_not_by_their_own_spread() -> None:
    share = 1 - 0.05 ** (1 / 9)  # of docs unlike ten alike ones
    kept = (1 - share) ** 2
    up, down, still = (rank_biserial([sign * 0.1] * 10) for sign in (1, -1, 0))
    assert (up.estimate, up.low, up.high) == (1.0, pytest.approx(2 * kept - 1), 1.0)
    assert (down.estimate, down.low, down.high) == (-1.0, -1.0, pytest.approx(1 - 2 * kept))
    assert (still.estimate, still.low, still.high) == (0.0, pytest.approx(kept - 1), pytest.approx(1 - kept))
    assert [rank_biserial([1.0]).low, rank_biserial([1.0]).high] == [-1.0, 1.0]


def walsh(data: list[float]) -> list[float]:
    return sorted((data[i] + data[j]) / 2 for i in range(len(data)) for j in range(i, len(data)))


def test_the_depression_data_give_hollander_and_wolfes_shift() -> None:
    # Hollander and Wolfe 1999, page 53 (R's reg-tests, PR 1150): -0.46, 95 % (-0.786, -0.010).
    result = hodges_lehmann(DEPRESSION)
    assert (round(result.estimate, 3), round(result.low, 3), round(result.high, 3)) == (-0.46, -0.786, -0.01)
    assert result.method == "inverted signed-rank test, exact"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-50, 50).map(lambda d: d / 64), min_size=6, max_size=12))
def test_the_interval_holds_the_shifts_that_the_enumerated_test_does_not_reject(differences) -> None:
    averages = walsh(differences)
    result = hodges_lehmann(differences)
    assert result.estimate == np.median(averages)
    n = len(differences)
    # All 2^n sums of the ranks 1..n, from their generating function.
    ways = np.array([1])
    for rank in range(1, n + 1):
        ways = np.convolve(ways, [1] + [0] * (rank - 1) + [1])
    ways = ways.tolist()
    tails = [sum(ways[:c]) / 2**n for c in range(len(ways))]
    rank = max(c for c, tail in enumerate(tails) if tail <= 0.025)
    assert (result.low, result.high) == (averages[rank - 1], averages[-rank])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-30, 30).map(lambda d: d / 10), min_size=6, max_size=40))
def test_the_shift_moves_with_the_data_and_mirrors(differences: list[float]) -> None:
    ours = hodges_lehmann(differences)
    moved = hodges_lehmann([d + 5 for d in differences])
    mirror = hodges_lehmann([-d for d in reversed(differences)])
    for name, opposite in (("estimate", "estimate"), ("low", "high"), ("high", "low")):
        assert getattr(moved, name) == pytest.approx(getattr(ours, name) + 5, abs=1e-12)
        assert getattr(mirror, opposite) == pytest.approx(-getattr(ours, name), abs=1e-12)
    assert min(differences) <= ours.low <= ours.estimate <= ours.high <= max(differences)


@pytest.mark.parametrize("kind", ["continuous", "few values", "mostly zero", "far apart"])
@pytest.mark.parametrize("n", [51, 300])
def test_counting_finds_the_averages_that_sorting_finds(kind: str, n: int, monkeypatch) -> None:
    rng = np.random.default_rng(n)
    data = {
        "continuous": rng.normal(0.2, 1, n),
        "few values": rng.integers(-3, 5, n) / 3,
        "mostly zero": np.where(rng.random(n) < 0.9, 0.0, rng.normal(0, 1, n)),
        "far apart": rng.normal(0, 1, n) * 10.0 ** rng.integers(-9, 9, n),
    }[kind]
    whole = hodges_lehmann(data)
    monkeypatch.setattr("stats.shift._ALL_AVERAGES", 10)
    counted = hodges_lehmann(data)
    for name in ("estimate", "low", "high"):
        assert getattr(counted, name) == pytest.approx(getattr(whole, name), rel=1e-12, abs=1e-15)
    averages = walsh(data.tolist())
    assert whole.estimate == pytest.approx(np.median(averages), rel=1e-12)


def test_the_normal_ranks_meet_the_exact_ones_where_they_take_over(monkeypatch) -> None:
    data = np.random.default_rng(5).normal(0, 1, 50)
    exact = hodges_lehmann(data)
    monkeypatch.setattr("stats.shift.EXACT_DOCS", 0)
    normal = hodges_lehmann(data)
    averages = walsh(data.tolist())
    for name in ("low", "high"):
        places = [int(np.argmin(np.abs(np.array(averages) - getattr(r, name)))) for r in (exact, normal)]
        assert abs(places[0] - places[1]) <= 1
    assert normal.method == "inverted signed-rank test, normal approximation"


def test_the_shift_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(17)
    hits = 0
    for _ in range(1000):
        result = hodges_lehmann(rng.normal(0.3, 1, 15))
        hits += result.low <= 0.3 <= result.high
    assert 0.93 <= hits / 1000 <= 0.98  # exact level 0.9521, within four standard errors of 1000 trials


def test_twenty_thousand_docs_need_little_memory() -> None:
    import tracemalloc

    data = np.random.default_rng(0).normal(0.1, 1, 20_000)
    tracemalloc.start()
    result = hodges_lehmann(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * 2**20  # all averages would take 1.6 GB
    # For normal data the interval is near the mean's: efficiency 3 / pi.
    half = 1.96 / math.sqrt(20_000 * 3 / math.pi)
    assert (result.estimate - result.low, result.high - result.estimate) == pytest.approx(
        (half, half), rel=0.05
    )


def test_too_few_docs_for_a_shift_interval_need_bounds() -> None:
    with pytest.raises(
        ValueError, match=r"5 docs are too few for a 0\.95 interval of the shift; give `bounds`"
    ):
        hodges_lehmann([0.1, 0.2, 0.3, 0.4, 0.5])
    trivial = hodges_lehmann([0.25], bounds=(-1, 1))
    assert (trivial.estimate, trivial.low, trivial.high) == (0.25, -1, 1)
    assert trivial.method == "too few docs: the bounds of a difference"
    six = hodges_lehmann([1, 2, 3, 4, 5, 6])  # 2 / 64 is the first two-sided level below 5 %
    assert (six.low, six.high) == (1, 6)
    same = hodges_lehmann([0.5] * 3000)
    assert (same.estimate, same.low, same.high) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("call", [wilcoxon_signed_rank, rank_biserial, hodges_lehmann])
@pytest.mark.parametrize(
    ("differences", "message"),
    [
        ([], "`differences` needs at least 1 value, got 0"),
        ([0.1, math.nan], "`differences` must hold finite numbers, got nan at 1"),
        ([math.inf, 0.1], "`differences` must hold finite numbers, got inf at 0"),
        ([0.1, None], "`differences` must hold finite numbers, got None"),
        (["a"], "`differences` must hold finite numbers, got 'a'"),
        ([[0.1]], r"`differences` must have one axis, shape \(docs,\), got shape \(1, 1\)"),
    ],
)
def test_differences_that_are_no_numbers_are_refused(call, differences, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(differences)


def test_differences_outside_their_bounds_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"`differences` must lie between -1 and 1 \(`bounds`\), got 1.5 at 1"
    ):
        hodges_lehmann([0.1, 1.5], bounds=(-1, 1))
    for bounds in ((1, -1), (-math.inf, 1), (0, math.nan)):
        with pytest.raises(
            ValueError, match="`bounds` must be two finite numbers, the first below the second"
        ):
            hodges_lehmann([0.1, 0.5], bounds=bounds)
