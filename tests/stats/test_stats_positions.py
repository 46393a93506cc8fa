"""Order bias and the entropy null against their definitions, SciPy and closed forms."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stats import entropy_null, mean_interval, position_slope, spearman_per_doc

pair = st.tuples(st.integers(0, 4).map(lambda p: p / 4), st.sampled_from([0.0, 0.5, 1.0]))
several = st.lists(st.lists(pair, min_size=1, max_size=6), min_size=1, max_size=8)

# Kendall and Gibbons 1990 style worked example, as on Wikipedia "Spearman's rank correlation coefficient":
# IQ against hours of television, rho = -29/165.
IQ = [106, 100, 86, 101, 99, 103, 97, 113, 112, 110]
TELEVISION = [7, 27, 2, 50, 28, 29, 20, 12, 6, 17]


def line(orders: list[tuple[float, float]]) -> float | None:
    """The least-squares slope by the textbook, None without variation in position."""
    x, y = np.array(orders, dtype=float).T
    return None if np.ptp(x) == 0 else float(np.polyfit(x, y, 1)[0])


@settings(max_examples=40, deadline=None)
@given(several, st.randoms(use_true_random=False))
def test_the_slope_is_the_mean_of_each_docs_own_line(docs, random) -> None:
    slopes = [slope for orders in docs if (slope := line(orders)) is not None]
    if not slopes:
        with pytest.raises(
            ValueError, match=f"a slope needs a doc whose position varies, got none in {len(docs)}"
        ):
            position_slope(docs)
        return
    result = position_slope(docs)
    assert result.estimate == pytest.approx(np.mean(slopes), abs=1e-9)
    assert (result.n, result.constant_position) == (len(slopes), len(docs) - len(slopes))
    assert (result.low is None) == (result.n < 8)
    if result.low is not None and result.high is not None:
        assert result.low - 1e-9 <= result.estimate <= result.high + 1e-9
    turned = position_slope([[(1 - p, c) for p, c in orders] for orders in docs])
    assert turned.estimate == pytest.approx(-result.estimate, abs=1e-9)
    docs = [random.sample(orders, len(orders)) for orders in random.sample(docs, len(docs))]
    assert position_slope(docs).estimate == pytest.approx(result.estimate, abs=1e-9)


def test_the_slope_interval_is_the_mean_interval_over_docs() -> None:
    rng = np.random.default_rng(2)
    docs = [[(p, rng.random() < 0.7 - 0.4 * p) for p in (0.0, 0.5, 1.0)] for _ in range(80)]
    slopes = [float(orders[2][1]) - float(orders[0][1]) for orders in docs]  # of a line over 0, 1/2, 1
    ours = position_slope(docs)
    over_docs = mean_interval(slopes, bounds=(-1 - 1e-9, 1 + 1e-9))
    assert (ours.low, ours.high) == pytest.approx((over_docs.low, over_docs.high), abs=1e-9)
    assert ours.high < 0
    assert (ours.method, ours.confidence) == (over_docs.method, 0.95)


def test_docs_always_right_have_slope_0_and_room_around_it() -> None:
    result = position_slope([[(0.0, True), (1.0, True)]] * 30 + [[(0.5, True), (0.5, False)]])
    # The steepest line over positions 0 and 1 is 1; exact bound for 0 of 29 others.
    room = 1 - 0.05 ** (1 / 29)
    assert (result.estimate, result.n, result.constant_position) == (0.0, 30, 1)
    assert (result.low, result.high) == pytest.approx((-room, room), rel=1e-6)
    one = position_slope([[(0.0, 1), (0.5, 1), (1.0, 0)]])  # one doc says nothing of others
    assert (one.estimate, one.low, one.high) == (pytest.approx(-1.0), None, None)


def rho(orders: list[tuple[float, float]]) -> float | None:
    from scipy.stats import spearmanr

    x, y = np.array(orders, dtype=float).T
    return None if np.ptp(x) == 0 or np.ptp(y) == 0 else float(spearmanr(x, y).statistic)


@settings(max_examples=40, deadline=None)
@given(several)
def test_rho_is_scipys_in_each_doc_and_docs_without_one_are_counted(docs) -> None:
    rhos = [value for orders in docs if (value := rho(orders)) is not None]
    still = sum(len({p for p, _ in orders}) == 1 for orders in docs)
    if not rhos:
        with pytest.raises(
            ValueError, match="Spearman's rho needs a doc whose position and correctness vary"
        ):
            spearman_per_doc(docs)
        return
    result = spearman_per_doc(docs)
    assert result.estimate == pytest.approx(np.mean(rhos), abs=1e-9)
    assert (result.n, result.constant_position) == (len(rhos), still)
    assert result.n + result.constant_position + result.constant_correct == len(docs)
    if result.low is not None and result.high is not None:
        assert -1 <= result.low <= result.high <= 1
    cubed = spearman_per_doc([[(p**3, c) for p, c in orders] for orders in docs])
    assert cubed.estimate == pytest.approx(result.estimate, abs=1e-9)


def test_rho_of_the_television_example() -> None:
    doc = [(iq / 200, hours / 100) for iq, hours in zip(IQ, TELEVISION, strict=True)]
    result = spearman_per_doc([doc])
    assert result.estimate == pytest.approx(-29 / 165)
    assert (result.low, result.high, result.n) == (None, None, 1)
    two = spearman_per_doc([doc, [(0.0, 0), (0.5, 1), (1.0, 1)]])
    assert two.estimate == pytest.approx((-29 / 165 + math.sqrt(3) / 2) / 2)


@pytest.mark.parametrize("call", [position_slope, spearman_per_doc])
@pytest.mark.parametrize(
    ("docs", "message"),
    [
        ([], "`docs` needs at least 1 doc, got 0"),
        ([[(0.0, 1)], []], "each doc needs at least 1 order, got 0 at doc 1"),
        ([[(0.0, 1), (math.nan, 0)]], "`position` must hold finite numbers, got nan at 1"),
        ([[(0.0, 1), (1.0, None)]], "`correct` must hold finite numbers, got None"),
        ([[(0.0, 1), (3, 0)]], "`position` must lie between 0 and 1, got 3.0 at 1"),
        ([[(0.0, 1), (1.0, -1)]], "`correct` must lie between 0 and 1, got -1.0 at 1"),
    ],
)
def test_orders_that_are_none_are_refused(call, docs, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(docs)


def test_the_mean_entropy_of_random_shares_is_a_harmonic_sum() -> None:
    # psi(k + 1) - psi(2) = 1/2 + 1/3 + ... + 1/k (Wolpert and Wolf 1995; Page 1993, classical case).
    for k in (2, 3, 10):
        null = entropy_null(k)
        assert null.mean == pytest.approx(sum(1 / i for i in range(2, k + 1)))
        assert null.normalised_mean == pytest.approx(null.mean / math.log(k))
    assert entropy_null(2).mean == pytest.approx(0.5)


@pytest.mark.parametrize("k", [2, 5, 20])
def test_the_draws_have_scipys_dirichlet_entropies(k: int) -> None:
    from scipy.stats import dirichlet, entropy, ks_2samp

    theirs = entropy(dirichlet.rvs([1.0] * k, 4000, random_state=k).T, base=k)
    null = entropy_null(k, draws=4000, seed=1)
    assert ks_2samp(null._drawn, theirs).pvalue > 0.001
    error = 5 * theirs.std() / math.sqrt(4000)
    assert null._drawn.mean() == pytest.approx(null.normalised_mean, abs=error)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.45])
def test_two_images_follow_the_closed_form(share: float) -> None:
    # The smaller of two shares is even on (0, 1/2), and entropy grows with it: P(H <= h(u)) = 2 u.
    null = entropy_null(2, draws=40_000, seed=2)
    entropy = -(share * math.log2(share) + (1 - share) * math.log2(1 - share))
    error = 5 * math.sqrt(2 * share * (1 - 2 * share) / 40_000)
    assert null.pvalue_low(entropy) == pytest.approx(2 * share, abs=error)
    assert null.pvalue_high(entropy) == pytest.approx(1 - 2 * share, abs=error)
    below, above = null.quantile(2 * share - error), null.quantile(2 * share + error)
    assert below < entropy < above


def test_p_values_are_never_0_and_count_the_observed_value() -> None:
    null = entropy_null(4, draws=99)
    assert (null.pvalue_low(0.0), null.pvalue_high(0.0)) == (0.01, 1.0)
    assert (null.pvalue_low(1.0), null.pvalue_high(1.0)) == (1.0, 0.01)
    middle = float(null._drawn[49])
    assert (null.pvalue_low(middle), null.pvalue_high(middle)) == (51 / 100, 51 / 100)


def test_the_entropy_null_has_a_seed_and_chunks_do_not_change_it(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = entropy_null(6, draws=500, seed=9)
    assert whole.quantile(0.3) != entropy_null(6, draws=500, seed=8).quantile(0.3)
    monkeypatch.setattr("stats.entropy._CHUNK_CELLS", 30)
    assert np.array_equal(entropy_null(6, draws=500, seed=9)._drawn, whole._drawn)


def test_what_is_no_entropy_is_refused() -> None:
    with pytest.raises(ValueError, match="`k` must be an integer >= 2, got 1"):
        entropy_null(1)
    null = entropy_null(3, draws=10)
    for observed in (math.nan, 1.1, -0.1, True):
        with pytest.raises(ValueError, match="`observed` must be a normalised entropy within 0-1, got"):
            null.pvalue_low(observed)
    with pytest.raises(ValueError, match="`share` must be a number between 0 and 1, both excluded, got 1"):
        null.quantile(1)
