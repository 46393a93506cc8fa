"""Means over docs and clusters, and the change of micro F1, against slow resampling and SciPy's BCa."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stats import (
    NotEstimableError,
    cluster_bootstrap,
    f1_from_counts,
    mean_interval,
    micro_f1,
    micro_f1_difference,
)
from stats._resample import bca_ends, resampled_sums

scores = st.lists(st.integers(0, 12).map(lambda x: x / 12), min_size=1, max_size=25)


def quantile_error(drawn: np.ndarray, q: float, *sizes: int) -> float:
    """Five standard errors of the difference of two independent estimates of a quantile (normal density)."""
    from scipy.stats import norm

    density = norm.pdf(norm.ppf(q)) / np.std(drawn)
    return 5 * math.sqrt(q * (1 - q) * sum(1 / size for size in sizes)) / density


def test_the_bca_interval_is_scipys() -> None:
    from scipy.stats import bootstrap

    for seed, values in enumerate((skewed(40), np.random.default_rng(4).integers(0, 5, 60) / 4)):
        theirs = bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", rng=seed)
        ours = mean_interval(values, draws=20_000, seed=seed + 100)
        error = quantile_error(theirs.bootstrap_distribution, 0.025, 20_000, 20_000)
        assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=error)
        assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=error)
        assert ours.estimate == pytest.approx(values.mean())
        assert ours.method == "BCa bootstrap over docs"


def skewed(n: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).beta(0.5, 3, n)


def test_the_bca_ends_are_efrons_formula_written_out() -> None:
    from statistics import NormalDist

    values, normal = skewed(30), NormalDist()
    rng = np.random.default_rng(9)
    drawn = np.array([values[rng.integers(0, 30, 30)].mean() for _ in range(2000)])
    bias = normal.inv_cdf(np.mean(drawn < values.mean()))
    left_out = [np.delete(values, i).mean() for i in range(30)]
    gaps = np.mean(left_out) - left_out
    acceleration = np.sum(gaps**3) / (6 * np.sum(gaps**2) ** 1.5)
    assert acceleration > 0.02  # skewed to the right: the interval moves up
    expected = []
    for q in (0.05, 0.95):
        z = bias + normal.inv_cdf(q)
        expected.append(np.quantile(drawn, normal.cdf(bias + z / (1 - acceleration * z))))
    ours = bca_ends(drawn, values.mean(), np.array(left_out), 0.9)
    assert ours == pytest.approx(tuple(expected), rel=1e-9)
    assert ours[1] - values.mean() > values.mean() - ours[0]


def test_draws_equal_to_the_estimate_count_half_for_the_bias() -> None:
    drawn = np.repeat([-1.0, 0.0, 1.0], [30, 140, 30])
    assert bca_ends(drawn, 0.0, np.array([-1.0, 0.0, 1.0]), 0.95) == (-1.0, 1.0)


def test_a_symmetric_sample_gives_nearly_the_t_interval() -> None:
    from scipy.stats import t

    values = (np.random.default_rng(3).permutation(200) + 0.5) / 200
    ours = mean_interval(values, draws=20_000)
    half = t.ppf(0.975, 199) * values.std(ddof=1) / math.sqrt(200)
    error = quantile_error(np.array([0, 2 * half / 1.96]), 0.025, 20_000)
    assert (ours.low, ours.high) == pytest.approx((0.5 - half, 0.5 + half), abs=error + 0.01 * half)


def test_the_interval_covers_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(12)
    hits = 0
    for seed in range(500):
        result = mean_interval(rng.beta(2, 4, 40), draws=500, seed=seed)
        hits += result.low <= 2 / 6 <= result.high
    assert 0.90 <= hits / 500 <= 0.985  # 0.95 less the bootstrap's shortfall at 40 docs; four standard errors


@settings(max_examples=50, deadline=None)
@given(scores, st.randoms(use_true_random=False))
def test_a_mean_ignores_the_order_of_docs_and_stays_within_bounds(values: list[float], random) -> None:
    ours = mean_interval(values, draws=300)
    random.shuffle(values)
    assert mean_interval(values, draws=300) == ours
    assert 0 <= ours.low <= ours.estimate <= ours.high <= 1
    assert ours.estimate == pytest.approx(np.mean(values))
    flipped = mean_interval([-v for v in values], bounds=(-1, 0), draws=300)
    assert flipped.estimate == pytest.approx(-ours.estimate)


def test_equal_docs_bound_the_share_of_others_instead_of_claiming_certainty() -> None:
    for n in (1, 2, 20):
        share = 1 - 0.05 ** (1 / (n - 1)) if n > 1 else 1.0
        result = mean_interval([0.25] * n)
        assert (result.low, result.high) == pytest.approx((0.25 - 0.25 * share, 0.25 + 0.75 * share))
        assert result.method == "all docs alike: exact bound on the share of others"
    assert (mean_interval([0.25]).low, mean_interval([0.25]).high) == (0.0, 1.0)
    assert mean_interval([0.0] * 5, bounds=(-1, 1)).low == -mean_interval([0.0] * 5, bounds=(-1, 1)).high
    with pytest.raises(ValueError, match="all 3 values are equal: they give no interval without `bounds`"):
        mean_interval([7, 7, 7], bounds=None)
    assert mean_interval([7, 8, 9], bounds=None, draws=100).high <= 9


def test_two_mirrored_seeds_differ_and_equal_seeds_agree() -> None:
    values = skewed(30)
    assert mean_interval(values, seed=4) == mean_interval(values, seed=4)
    assert mean_interval(values, seed=4).low != mean_interval(values, seed=5).low


@pytest.mark.parametrize("kind", ["few values", "many values"])
def test_both_ways_of_resampling_agree_with_drawing_rows(kind: str) -> None:
    rng = np.random.default_rng(6)
    first = rng.integers(0, 3, 80) if kind == "few values" else rng.random(80)
    rows = np.stack([first, first**2], axis=1).astype(float)
    slow = np.array([rows[rng.integers(0, 80, 80)].sum(axis=0) for _ in range(10_000)])
    fast = resampled_sums(rows, draws=10_000, seed=3)
    for q in (0.05, 0.5, 0.95):
        for column in (0, 1):
            error = quantile_error(slow[:, column], q, 10_000, 10_000) + (kind == "few values")
            assert np.quantile(fast[:, column], q) == pytest.approx(
                np.quantile(slow[:, column], q), abs=error
            )
    assert np.cov(fast.T) == pytest.approx(np.cov(slow.T), rel=0.15)


@pytest.mark.parametrize("kind", ["few values", "many values"])
def test_chunks_do_not_change_the_draws(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(100) % (3 if kind == "few values" else 100) / 100
    whole = mean_interval(values, draws=300)
    monkeypatch.setattr("stats._resample._CHUNK_CELLS", 64)
    assert mean_interval(values, draws=300) == whole


def test_the_cluster_bootstrap_draws_whole_clusters() -> None:
    rng = np.random.default_rng(8)
    sizes = rng.integers(1, 6, 40)
    names = [f"c{i}" for i, size in enumerate(sizes) for _ in range(size)]
    values = np.repeat(rng.random(40), sizes)  # docs of a cluster agree: only clusters are independent
    groups = [values[[name == f"c{i}" for name in names]] for i in range(40)]
    slow = []
    for _ in range(5000):
        drawn = np.concatenate([groups[i] for i in rng.integers(0, 40, 40)])
        slow.append(drawn.mean())
    estimate = values.mean()
    left_out = [np.concatenate(groups[:i] + groups[i + 1 :]).mean() for i in range(40)]
    expected = bca_ends(np.array(slow), estimate, np.array(left_out), 0.9)
    ours = cluster_bootstrap(values, names, confidence=0.9, draws=20_000)
    assert ours.low == pytest.approx(expected[0], abs=quantile_error(slow, 0.05, 5000, 20_000))
    assert ours.high == pytest.approx(expected[1], abs=quantile_error(slow, 0.95, 5000, 20_000))
    assert ours.estimate == pytest.approx(estimate)
    assert (ours.clusters, ours.largest_share, ours.n) == (40, sizes.max() / sizes.sum(), sizes.sum())
    over_docs = mean_interval(values, confidence=0.9)
    assert ours.high - ours.low > 1.2 * (over_docs.high - over_docs.low)


def test_the_cluster_jackknife_leaves_out_whole_clusters() -> None:
    rng = np.random.default_rng(10)
    sizes = np.append(rng.integers(1, 4, 39), 9)
    owner = np.repeat(np.arange(40), sizes)
    values = np.where(owner == 39, 1.0, rng.beta(0.5, 4, len(owner)))
    left_out = np.array([values[owner != i].mean() for i in range(40)])
    sums = np.array([(values[owner == i].sum(), size) for i, size in enumerate(sizes)])
    drawn = resampled_sums(sums, draws=2000, seed=1)
    expected = bca_ends(drawn[:, 0] / drawn[:, 1], values.mean(), left_out, 0.95)
    ours = cluster_bootstrap(values, owner.tolist(), draws=2000, seed=1)
    assert (ours.low, ours.high) == pytest.approx(expected, rel=1e-9)


def test_one_doc_per_cluster_is_the_mean_over_docs() -> None:
    values = skewed(50)
    ours, docs = cluster_bootstrap(values, list(range(50))), mean_interval(values)
    assert (ours.estimate, ours.low, ours.high) == pytest.approx((docs.estimate, docs.low, docs.high))
    alike = cluster_bootstrap([1.0] * 50, list(range(50)))
    assert (alike.low, alike.high) == pytest.approx((0.05 ** (1 / 49), 1.0))
    assert alike.method == "all docs alike: exact bound on the share of other clusters"


@pytest.mark.parametrize(
    ("clusters", "message"),
    [
        (["a"] * 100, r"\(largest group 100 %\): 1 cluster, at least 30 are needed"),
        ([i % 29 for i in range(29 * 4)], r"\(largest group 3\.448 %\): 29 clusters, at least 30"),
        (
            ["a"] * 12 + list(range(88)),
            r"\(largest group 12 %\): 89 clusters, .* none may hold more than 10 %",
        ),
        (["a"] * 101 + list(range(899)), r"\(largest group 10\.1 %\): 900 clusters"),
    ],
)
def test_docs_that_share_images_too_densely_have_no_interval(clusters: list[object], message: str) -> None:
    values = np.arange(len(clusters)) % 2
    with pytest.raises(NotEstimableError, match="^not estimable: docs share images too densely " + message):
        cluster_bootstrap(values, clusters)
    assert issubclass(NotEstimableError, ValueError)


def test_thirty_clusters_and_ten_percent_are_enough() -> None:
    values = np.arange(100) % 2
    allowed = cluster_bootstrap(values, [0] * 10 + [i % 29 + 1 for i in range(90)], draws=100)
    assert (allowed.clusters, allowed.largest_share) == (30, 0.1)


def test_clusters_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="`clusters` must name the cluster of each of 2 docs, got 1"):
        cluster_bootstrap([0, 1], ["a"])
    with pytest.raises(ValueError, match="`clusters` must name a cluster for each doc, got None at doc 1"):
        cluster_bootstrap([0, 1], ["a", None])
    with pytest.raises(ValueError, match="all 30 values are equal: they give no interval without `bounds`"):
        cluster_bootstrap([1] * 30, list(range(30)), bounds=None)
    differences = cluster_bootstrap([-1, 1] * 30, list(range(60)), bounds=(-1, 1), draws=100)
    assert differences.low < 0 < differences.high


@pytest.mark.parametrize("call", [mean_interval, lambda v: cluster_bootstrap(v, list(range(len(v))))])
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "`values` needs at least 1 value, got 0"),
        ([0.5, math.nan], "`values` must hold finite numbers, got nan at 1"),
        ([0.5, None], "`values` must hold finite numbers, got None"),
        ([0.5, 1.5], r"`values` must lie between 0 and 1 \(`bounds`\), got 1.5 at 1"),
    ],
)
def test_scores_that_are_none_are_refused(call, values, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(values)


Triple = tuple[np.ndarray, np.ndarray, np.ndarray]


def counts(docs: int, seed: int) -> Triple:
    rng = np.random.default_rng(seed)
    relevant, generated = rng.integers(1, 6, docs), rng.integers(0, 8, docs)
    return np.minimum(np.minimum(relevant, generated), rng.integers(0, 6, docs)), generated, relevant


def f1(parts: Triple, docs: np.ndarray | slice = slice(None)) -> float:
    return f1_from_counts(*(int(part[docs].sum()) for part in parts)).f1


def test_the_f1_difference_agrees_with_drawing_docs_in_pairs() -> None:
    a, b = counts(60, 3), counts(60, 4)
    rng = np.random.default_rng(11)
    slow = []
    for _ in range(10_000):
        drawn = rng.integers(0, 60, 60)
        slow.append(f1(a, drawn) - f1(b, drawn))
    ours = micro_f1_difference(a, b, confidence=0.9, draws=20_000, seed=5)
    low, high = np.quantile(slow, [0.05, 0.95])
    assert ours.low == pytest.approx(low, abs=quantile_error(slow, 0.05, 10_000, 20_000))
    assert ours.high == pytest.approx(high, abs=quantile_error(slow, 0.95, 10_000, 20_000))
    assert (ours.f1_a, ours.f1_b) == (f1(a), f1(b))
    assert ours.estimate == f1(a) - f1(b)


def test_a_condition_that_finds_nothing_leaves_the_other_ones_interval() -> None:
    a = counts(100, 7)
    nothing = (np.zeros(100, dtype=int), np.zeros(100, dtype=int), a[2])
    ours, alone = micro_f1_difference(a, nothing, draws=20_000), micro_f1(*a, draws=20_000)
    assert ours.estimate == alone.estimate
    error = quantile_error(np.array([alone.low, alone.high]) / 1.96, 0.025, 20_000, 20_000)
    assert (ours.low, ours.high) == pytest.approx((alone.low, alone.high), abs=error)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 30))
def test_the_f1_difference_mirrors_and_ignores_the_order_of_docs(seed: int, docs: int) -> None:
    a, b = counts(docs, seed), counts(docs, seed + 1)
    ours, back = micro_f1_difference(a, b, draws=2000), micro_f1_difference(b, a, draws=2000)
    assert back.estimate == -ours.estimate
    moved = np.random.default_rng(seed).permutation(docs)
    again = micro_f1_difference(*(tuple(part[moved] for part in parts) for parts in (a, b)), draws=2000)
    assert again == ours
    assert -1 <= ours.low <= ours.high <= 1


def test_what_the_conditions_share_cancels() -> None:
    a = counts(200, 1)
    better = (np.minimum(a[0] + (np.arange(200) < 5), np.minimum(a[1], a[2])), a[1], a[2])
    paired, one = micro_f1_difference(better, a), micro_f1(*a)
    assert paired.high - paired.low < (one.high - one.low) / 4
    same = micro_f1_difference(a, a)
    assert (same.estimate, same.low, same.high) == (0.0, 0.0, 0.0)
    single = micro_f1_difference(([1], [2], [2]), ([0], [2], [2]))
    assert (single.estimate, single.low, single.high) == (0.5, -1.0, 1.0)


def test_counts_of_different_docs_are_refused() -> None:
    with pytest.raises(ValueError, match="`counts_a` and `counts_b` must hold the same docs, got 3 and 4"):
        micro_f1_difference(counts(3, 0), counts(4, 0))
    with pytest.raises(
        ValueError, match=r"`counts_b` must be \(recalled, generated, relevant\), got 2 arrays"
    ):
        micro_f1_difference(counts(3, 0), counts(3, 0)[:2])
    with pytest.raises(ValueError, match="`recalled` must not exceed `generated`, got 2 > 1 at doc 0"):
        micro_f1_difference(([2], [1], [2]), ([1], [1], [1]))


def test_twenty_thousand_docs_take_little_memory() -> None:
    import tracemalloc

    values = np.random.default_rng(0).random(20_000)
    result = mean_interval(values)
    half = 1.96 * values.std() / math.sqrt(20_000)
    assert (result.low, result.high) == pytest.approx(
        (values.mean() - half, values.mean() + half), abs=half / 10
    )
    tracemalloc.start()
    mean_interval(values, draws=300)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 * 2**20  # all indices at once would take 48 MB here, 1.6 GB with 10,000 draws
