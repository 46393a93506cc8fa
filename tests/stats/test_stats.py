"""Intervals against their definitions, SciPy, statsmodels and published tables."""

import math
import tracemalloc

import numpy as np
import pytest

from stats import clopper_pearson, f1_from_counts, micro_f1, rule_of_three, wilson

# Newcombe 1998 (Statistics in Medicine 17, 857-872), table I, 95 %: methods 3 (score) and 5 (exact).
NEWCOMBE = {
    (81, 263): ((0.2553, 0.3662), (0.2527, 0.3676)),
    (15, 148): ((0.0624, 0.1605), (0.0578, 0.1617)),
    (0, 20): ((0.0000, 0.1611), (0.0000, 0.1684)),
    (1, 29): ((0.0061, 0.1718), (0.0009, 0.1776)),
}


@pytest.mark.parametrize(("successes", "n"), NEWCOMBE)
def test_wilson_and_clopper_pearson_give_newcombes_published_digits(successes: int, n: int) -> None:
    score, exact = NEWCOMBE[successes, n]
    for interval, published in ((wilson(successes, n), score), (clopper_pearson(successes, n), exact)):
        assert (round(interval.low, 4), round(interval.high, 4)) == published
        assert interval.estimate == successes / n


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.999])
def test_wilson_ends_solve_the_score_equation(confidence: float) -> None:
    from statistics import NormalDist

    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    for n in (1, 2, 7, 263):
        for successes in range(0, n + 1, max(1, n // 5)):
            interval = wilson(successes, n, confidence=confidence)
            assert 0 <= interval.low <= interval.estimate <= interval.high <= 1
            for end in (interval.low, interval.high):
                gap = (successes / n - end) ** 2 - z * z * end * (1 - end) / n
                assert gap == pytest.approx(0, abs=1e-12) or end in (0.0, 1.0)


@pytest.mark.parametrize("n", [1, 2, 30])
def test_intervals_equal_scipy_and_statsmodels(n: int) -> None:
    from scipy.stats import binomtest
    from statsmodels.stats.proportion import proportion_confint

    for successes in range(n + 1):
        ours = clopper_pearson(successes, n)
        theirs = binomtest(successes, n).proportion_ci(0.95, method="exact")
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
        score = wilson(successes, n)
        assert (score.low, score.high) == pytest.approx(
            proportion_confint(successes, n, method="wilson"), abs=1e-12
        )


def test_clopper_pearson_ends_leave_the_stated_tail() -> None:
    from scipy.stats import binom

    ours = clopper_pearson(4, 20, confidence=0.9)
    assert binom.sf(3, 20, ours.low) == pytest.approx(0.05)
    assert binom.cdf(4, 20, ours.high) == pytest.approx(0.05)
    upper = clopper_pearson(4, 20, confidence=0.9, side="upper")
    assert (upper.low, binom.cdf(4, 20, upper.high)) == (0.0, pytest.approx(0.1))
    lower = clopper_pearson(4, 20, confidence=0.9, side="lower")
    assert (lower.high, binom.sf(3, 20, lower.low)) == (1.0, pytest.approx(0.1))


def test_clopper_pearson_covers_at_least_what_it_promises_and_wilson_about_that() -> None:
    from scipy.stats import binom

    n = 25
    exact = [clopper_pearson(x, n) for x in range(n + 1)]
    score = [wilson(x, n) for x in range(n + 1)]
    covered = []
    for truth in np.linspace(0.02, 0.98, 49):
        law = binom.pmf(np.arange(n + 1), n, truth)
        assert sum(p for p, ci in zip(law, exact, strict=True) if ci.low <= truth <= ci.high) >= 0.95 - 1e-12
        covered.append(sum(p for p, ci in zip(law, score, strict=True) if ci.low <= truth <= ci.high))
    assert np.mean(covered) == pytest.approx(0.95, abs=0.01)


def test_one_sided_exact_bound_at_zero_is_its_closed_form_and_near_the_rule_of_three() -> None:
    # P(no event in n) = (1 - p)^n = 0.05 (Hanley and Lippman-Hand 1983, JAMA 249, 1743).
    for n in (1, 10, 30, 1000):
        bound = clopper_pearson(0, n, side="upper")
        assert bound.high == pytest.approx(1 - 0.05 ** (1 / n))
        assert (bound.low, bound.estimate) == (0.0, 0.0)
        assert rule_of_three(n) == 3 / n
    assert clopper_pearson(0, 1000, side="upper").high == pytest.approx(rule_of_three(1000), rel=0.01)
    assert rule_of_three(1) == 3.0
    assert clopper_pearson(7, 7, side="lower").low == pytest.approx(0.05 ** (1 / 7))


def test_extreme_proportions_touch_the_edge_exactly() -> None:
    for interval in (wilson, clopper_pearson):
        assert interval(0, 9).low == 0.0
        assert interval(9, 9).high == 1.0


@pytest.mark.parametrize(
    ("successes", "n", "message"),
    [
        (0, 0, r"`n` must be an integer >= 1, got 0"),
        (0, -3, r"`n` must be an integer >= 1, got -3"),
        (-1, 5, r"`successes` must be an integer within 0-5, got -1"),
        (6, 5, r"`successes` must be an integer within 0-5, got 6"),
        (math.nan, 5, r"`successes` must be an integer within 0-5, got nan"),
        (2.5, 5, r"`successes` must be .*, got 2.5"),
        (True, 5, r"`successes` must be .*, got True"),
        (np.True_, 5, r"`successes` must be .*True"),
        ("2", 5, r"`successes` must be .*, got '2'"),
        (1, math.inf, r"`n` must be an integer >= 1, got inf"),
    ],
)
def test_counts_that_are_no_counts_are_refused(successes: int, n: int, message: str) -> None:
    for interval in (wilson, clopper_pearson):
        with pytest.raises(ValueError, match=message):
            interval(successes, n)


@pytest.mark.parametrize("confidence", [0, 1, -0.1, 95, math.nan, "0.95", None, True])
def test_a_confidence_outside_0_and_1_is_refused(confidence: float) -> None:
    for call in (
        lambda: wilson(1, 2, confidence=confidence),
        lambda: clopper_pearson(1, 2, confidence=confidence),
        lambda: micro_f1([1], [1], [1], confidence=confidence),
    ):
        with pytest.raises(
            ValueError, match="`confidence` must be a number between 0 and 1, both excluded, got"
        ):
            call()


def test_an_unknown_side_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="`side` must be one of two-sided, lower, upper, got 'up'"):
        clopper_pearson(1, 2, side="up")
    with pytest.raises(ValueError, match="`n` must be an integer >= 1, got 0"):
        rule_of_three(0)


def test_numpy_integers_are_counts() -> None:
    assert wilson(np.int64(3), np.int32(7)) == wilson(3, 7)


def counts(docs: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    relevant, generated = rng.integers(1, 6, docs), rng.integers(0, 8, docs)
    return np.minimum(np.minimum(relevant, generated), rng.integers(0, 6, docs)), generated, relevant


def test_micro_f1_is_its_definition() -> None:
    result = micro_f1([1, 0, 2], [2, 1, 2], [2, 3, 4])
    assert (result.precision, result.recall) == (3 / 5, 3 / 9)
    assert result.estimate == pytest.approx(2 * (3 / 5) * (3 / 9) / (3 / 5 + 3 / 9))
    assert (result.docs, result.units, result.low, result.high, result.confidence) == (3, 3, None, None, 0.95)
    assert result.method == "no interval below 8 docs"


def test_f1_is_0_where_precision_and_recall_are_0() -> None:
    assert f1_from_counts(0, 0, 0) == (0.0, 0.0, 0.0)
    assert f1_from_counts(0, 3, 2) == (0.0, 0.0, 0.0)
    nothing = micro_f1([0] * 10, [0] * 10, [0] * 10)
    t2 = 2.262157162740992**2  # Student's 0.975 quantile, 9 degrees of freedom (Fisher's table: 2.262)
    assert (nothing.estimate, nothing.low) == (0.0, 0.0)
    assert nothing.high == pytest.approx(t2 / (10 + t2))  # [0, 0] before: no width


def test_the_f1_interval_is_the_jackknifes_score_interval_written_out() -> None:
    from scipy.stats import t

    data = counts(60, seed=3)
    ours = micro_f1(*data)

    def f1(docs: np.ndarray) -> float:
        return f1_from_counts(*(int(column[docs].sum()) for column in data)).f1

    alone = [f1(np.delete(np.arange(60), i)) for i in range(60)]
    variance = 59 / 60 * np.sum((np.array(alone) - np.mean(alone)) ** 2)  # the delete-one jackknife's
    share = ours.estimate
    size = share * (1 - share) / variance  # the effective sample size
    k = t.ppf(0.975, 59) ** 2 / size
    half = math.sqrt(k * share * (1 - share) + k * k / 4) / (1 + k)
    expected = ((share + k / 2) / (1 + k) - half, (share + k / 2) / (1 + k) + half)
    assert (ours.low, ours.high) == pytest.approx(expected, abs=2e-3)  # the infinitesimal jackknife's


def test_the_f1_interval_covers_the_true_f1_about_as_often_as_it_says() -> None:
    right, made, wanted = counts(200_000, seed=1)
    truth = f1_from_counts(int(right.sum()), int(made.sum()), int(wanted.sum())).f1
    for n in (8, 20, 100):
        hits = 0
        for i in range(1000):
            docs = slice(i * n, (i + 1) * n)
            interval = micro_f1(right[docs], made[docs], wanted[docs])
            hits += interval.low <= truth <= interval.high
        assert 0.922 <= hits / 1000 <= 0.978  # 0.95, within four standard errors of 1000 trials


def test_the_order_of_docs_does_not_matter() -> None:
    data = counts(80, seed=2)
    shuffled = np.random.default_rng(0).permutation(80)
    assert micro_f1(*data) == micro_f1(*(column[shuffled] for column in data))


def test_a_cluster_counts_as_one_doc_with_its_counts_added() -> None:
    data = counts(80, seed=5)
    sets = [i // 4 for i in range(80)]
    ours = micro_f1(*data, clusters=sets)
    added = micro_f1(*(column.reshape(20, 4).sum(axis=1) for column in data))
    assert (ours.estimate, ours.low, ours.high) == pytest.approx((added.estimate, added.low, added.high))
    assert (ours.docs, ours.units) == (80, 20)
    copies = micro_f1(*(np.repeat(column[:20], 4) for column in data), clusters=sets)
    once = micro_f1(*(column[:20] for column in data))
    assert (copies.low, copies.high) == pytest.approx((once.low, once.high))  # copies say nothing new


def test_twenty_thousand_docs_take_little_memory() -> None:
    data = counts(20_000, seed=0)
    tracemalloc.start()
    micro_f1(*data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 * 2**20  # all indices at once would take 48 MB here, 1.6 GB with 10,000 draws


@pytest.mark.parametrize(
    ("recalled", "generated", "relevant", "message"),
    [
        ([], [], [], "micro F1 needs at least 1 doc, got 0"),
        ([1], [1, 2], [1], r"one shape \(docs,\), got recalled \(1,\), generated \(2,\), relevant \(1,\)"),
        ([[1]], [[1]], [[1]], r"one shape \(docs,\)"),
        (1, 1, 1, r"one shape \(docs,\)"),
        ([1.0], [1], [1], "`recalled` must hold integers >= 0, got float64"),
        ([True], [1], [1], "`recalled` must hold integers >= 0, got bool"),
        ([0], [-1], [1], "`generated` must hold integers >= 0, got -1"),
        ([1, 2], [1, 1], [1, 2], "`recalled` must not exceed `generated`, got 2 > 1 at doc 1"),
        ([1, 2], [1, 2], [1, 1], "`recalled` must not exceed `relevant`, got 2 > 1 at doc 1"),
    ],
)
def test_counts_that_cannot_be_are_refused(
    recalled: list[int], generated: list[int], relevant: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        micro_f1(recalled, generated, relevant)
