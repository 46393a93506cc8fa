"""The equivalence test: its true size, its agreement with its interval, and published values."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import multinomial, norm

from stats import (
    docs_for_equivalent_means,
    docs_for_equivalent_shares,
    equivalent_f1,
    equivalent_means,
    equivalent_shares,
    paired_risk_difference,
)
from stats._tango import score


def sizes(n: int, margin: float) -> list[float]:
    """The chance to call conditions equivalent whose true difference is the margin, by the share of docs
    that differ: every table counted."""
    tables = [(a, b) for a in range(n + 1) for b in range(n + 1 - a) if abs(a - b) < margin * n]
    called = [(a, b) for a, b in tables if equivalent_shares(n - a - b, a, b, 0, margin=margin).pvalue < 0.05]
    found = []
    for share in (margin, 1.5 * margin, 2 * margin, 0.3, 0.5):
        chances = ((share + margin) / 2, (share - margin) / 2, 1 - share)
        rows = [(a, b, n - a - b) for a, b in called]
        found.append(float(multinomial(n, chances).pmf(rows).sum()) if rows else 0.0)
    return found


@pytest.mark.parametrize(("n", "margin"), [(30, 0.1), (60, 0.1), (60, 0.05), (120, 0.05), (200, 0.02)])
def test_conditions_a_margin_apart_are_called_equivalent_in_hardly_more_than_5_percent(
    n: int, margin: float
) -> None:
    assert max(sizes(n, margin)) < 0.058  # Wald's test: 0.18 at (30, 0.1), 0.19 at (60, 0.05)


def test_the_verdict_and_the_90_percent_interval_never_contradict_each_other() -> None:
    for a, b, margin in product(range(16), range(16), (0.02, 0.05, 0.1, 0.3)):
        row = equivalent_shares(90 - a - b, a, b, 10, margin=margin)
        assert row.low is not None
        assert row.high is not None
        assert (row.pvalue < 0.05) == (-margin < row.low and row.high < margin)
        plain = paired_risk_difference(90 - a - b, a, b, 10, confidence=0.9)
        assert min(row.low, 0) == pytest.approx(min(plain.low, 0), abs=1e-12)
        assert max(row.high, 0) == pytest.approx(max(plain.high, 0), abs=1e-12)
    rng = np.random.default_rng(0)
    for n in (8, 30, 200):
        for margin in (0.02, 0.1, 0.4):
            values = rng.choice([0, 0, 0.25, -0.25, 1, -1], size=(20, n))
            for differences in (*values, np.zeros(n), np.full(n, 0.05)):
                clusters = None if rng.random() < 0.5 else (np.arange(n) // 2).tolist()
                row = equivalent_means(differences, margin=margin, clusters=clusters)
                if row.low is None or row.high is None:
                    assert row.pvalue == 1.0
                else:
                    assert (row.pvalue < 0.05) == (-margin < row.low and row.high < margin)


def test_tangos_own_example_of_crossed_lens_disinfectants() -> None:
    # Tango 1998, section 5: 44 pairs, 43 effective under both, 0 and 1 under one alone; non-inferiority
    # within 0.1: z = 1.709, p = 0.044 (one-sided).
    z = score(0, 1, 44, -0.1)
    assert z == pytest.approx(1.709, abs=0.001)
    assert norm.sf(z) == pytest.approx(0.0437, abs=0.0005)


def test_graded_scores_hold_their_level_where_few_docs_differ() -> None:
    rng = np.random.default_rng(1)
    n, margin, share, draws = 60, 0.05, 0.1, 1500
    called = 0
    for _ in range(draws):
        up = rng.random(n) < (1 + margin / (share * 0.5)) / 2
        sizes_of = rng.random(n) * (rng.random(n) < share)
        called += equivalent_means(np.where(up, sizes_of, -sizes_of), margin=margin).pvalue < 0.05
    assert called / draws < 0.075  # true size 0.058; 0.125 by the inverted sign-flip test


def test_clusters_count_as_one_observation() -> None:
    rng = np.random.default_rng(2)
    sets = rng.choice([0.0, 1.0, -1.0], p=[0.9, 0.05, 0.05], size=60)
    docs, clusters = np.repeat(sets, 5), np.repeat(np.arange(60), 5).tolist()
    clustered = equivalent_means(docs, margin=0.1, clusters=clusters)
    alone = equivalent_means(sets, margin=0.1)
    assert (clustered.n, clustered.units) == (300, 60)
    assert clustered.pvalue == pytest.approx(alone.pvalue)
    assert clustered.pvalue > 5 * equivalent_means(docs, margin=0.1).pvalue


def test_equal_answers_are_equivalent_once_there_are_docs_enough() -> None:
    # 0 of n differ: the exact 95 % bound is 3/n, 0.03 at 100 docs and 0.0149 at 200.
    assert equivalent_shares(100, 0, 0, 0, margin=0.02).pvalue > 0.05
    assert equivalent_shares(200, 0, 0, 0, margin=0.02).pvalue < 0.05
    few = equivalent_means(np.zeros(7), margin=0.5)
    assert (few.pvalue, few.low, few.method) == (1.0, None, "no interval below 8 docs")


def test_a_list_score_is_tested_by_the_corpus_f1() -> None:
    rng = np.random.default_rng(3)
    recalled, generated, relevant = rng.integers(1, 4, 150), np.full(150, 4), np.full(150, 5)
    other = np.where(np.arange(150) % 30 == 0, recalled - 1, recalled)
    row = equivalent_f1((recalled, generated, relevant), (other, generated, relevant), margin=0.05)
    assert row.estimate == pytest.approx(2 * 5 / (9 * 150))
    assert row.pvalue < 0.05
    assert row.low is not None
    assert row.high is not None
    assert -0.05 < row.low < row.estimate < row.high < 0.05
    assert (
        equivalent_f1((recalled, generated, relevant), (other, generated, relevant), margin=0.01).pvalue
        > 0.05
    )


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="`margin` must be a number between 0 and 1"):
        equivalent_shares(9, 1, 0, 0, margin=0)
    with pytest.raises(ValueError, match="`margin` must be above 0 and below 1, got 1"):
        equivalent_means([0.0] * 9, margin=1)
    with pytest.raises(ValueError, match=r"`alpha` must be below 0\.5, got 0\.6"):
        equivalent_shares(9, 1, 0, 0, margin=0.1, alpha=0.6)
    with pytest.raises(ValueError, match="at least 1 doc"):
        equivalent_shares(0, 0, 0, 0, margin=0.1)


def test_docs_for_equivalence_have_the_power_that_simulation_gives() -> None:
    needed = docs_for_equivalent_shares(0.05, 0.1)
    assert needed == pytest.approx(docs_for_equivalent_means(0.05, 0.1**0.5), rel=0.08)
    rng = np.random.default_rng(4)
    for n, power in ((needed, 0.8), (needed // 2, None)):
        draws = rng.multinomial(n, [0.05, 0.05, 0.9], size=600).tolist()
        called = np.mean([equivalent_shares(c, a, b, 0, margin=0.05).pvalue < 0.05 for a, b, c in draws])
        assert called == pytest.approx(power, abs=0.05) if power else called < 0.5
    exact = docs_for_equivalent_shares(0.1, 0.2)
    for n, enough in ((exact, True), (exact - 1, False)):
        tables = [
            (a, b) for a in range(n + 1) for b in range(n + 1 - a) if abs(a - b) < 0.1 * n and a + b < n / 2
        ]
        called_rows = [(a, b, n - a - b) for a, b in tables
                       if -score(a, b, n, 0.1) > 1.6449 < score(a, b, n, -0.1)]  # fmt: skip
        assert (multinomial(n, (0.1, 0.1, 0.8)).pmf(called_rows).sum() >= 0.8) == enough
    assert docs_for_equivalent_shares(0.05, 0.1, design=2) == 2 * needed
    assert docs_for_equivalent_means(0.5, 0.01) == 8
