"""Slopes within matched sets: against a regression with cluster-robust errors, and in simulations."""

import numpy as np
import numpy.typing as npt
import pytest
from statsmodels.regression.linear_model import OLS

from stats import mean_interval, micro_f1_difference, paired_mean_difference, set_slopes

Floats = npt.NDArray[np.float64]
N = np.log2([2, 4, 8, 16])


def drawn(rng: np.random.Generator, sets: int, fall: float) -> Floats:
    """0/1 scores, shape (sets, cells): sets differ in difficulty and in how far they fall per doubling."""
    level = rng.normal(0.9, 0.05, sets)[:, None]
    slope = fall * 2 * (rng.random(sets) < 0.5)[:, None]
    chance = np.clip(level + slope * (N - 1), 0.02, 0.98)
    return (rng.random((sets, len(N))) < chance).astype(float)


def test_mean_and_error_are_those_of_a_cluster_robust_regression() -> None:
    """statsmodels: an intercept for each set, one slope, errors clustered by set."""
    rng = np.random.default_rng(0)
    scores = drawn(rng, 30, -0.1)
    sets = np.repeat(np.arange(30), len(N))
    x = np.tile(N, 30)
    fitted = set_slopes(x, scores.ravel(), sets.tolist())
    design = np.column_stack([x, (sets[:, None] == np.arange(30)).astype(float)])
    robust = OLS(scores.ravel(), design).fit(
        cov_type="cluster", cov_kwds={"groups": sets, "use_correction": False}
    )
    assert fitted.slopes.mean() == pytest.approx(robust.params[0])
    assert fitted.slopes.std() / 30**0.5 == pytest.approx(robust.bse[0])
    other = drawn(rng, 30, -0.02)
    slopes = set_slopes(x, other.ravel(), sets.tolist()).slopes
    change = paired_mean_difference(slopes, fitted.slopes)
    by_difference = OLS((other - scores).ravel(), design).fit(
        cov_type="cluster", cov_kwds={"groups": sets, "use_correction": False}
    )
    assert change.estimate == pytest.approx(by_difference.params[0])
    assert change.spread / 30**0.5 == pytest.approx(by_difference.bse[0])


def test_strata_have_intercepts_of_their_own() -> None:
    """Distractors for s = 1 and s = 3: N = s + d. The lower score at s = 3 is not an effect of N."""
    n = [2, 4, 8, 4, 8, 16]
    spread = [1, 1, 1, 3, 3, 3]
    scores = [0.9, 0.9, 0.9, 0.3, 0.3, 0.3]
    assert set_slopes(np.log2(n), scores, [0] * 6, spread).slopes == pytest.approx([0.0])
    assert set_slopes(np.log2(n), scores, [0] * 6).slopes[0] < -0.1
    only_spread = set_slopes([1.0, 2.0, 1.0, 2.0], [1, 0, 1, 0], [0, 0, 1, 1], ["s1", "s2", "s1", "s2"])
    assert np.isnan(only_spread.slopes).all()
    assert only_spread.steepest == 0.0


def test_a_set_of_unequal_cells_is_fitted_on_those_it_has() -> None:
    fitted = set_slopes([1, 2, 3, 1, 3, 2], [1, 0.5, 0, 0, 1, 1], ["a", "a", "a", "b", "b", "c"])
    assert fitted.slopes[:2] == pytest.approx([-0.5, 0.5])
    assert np.isnan(fitted.slopes[2])
    assert fitted.steepest == pytest.approx(0.5)  # from 0 to 1 over two doublings
    with pytest.raises(ValueError, match=r"one value for each doc, got 2, 2, 1 and 2"):
        set_slopes([1, 2], [0, 1], [0])
    with pytest.raises(ValueError, match="`scores` must lie between 0 and 1"):
        set_slopes([1, 2], [0, 2], [0, 0])


@pytest.mark.parametrize("sets", [12, 30])
def test_the_interval_of_the_slope_covers_under_clustering(sets: int) -> None:
    """Sets differ in level and slope. Errors of a regression that takes docs for independent cover less."""
    rng = np.random.default_rng(7)
    everything = drawn(rng, 200_000, -0.15)
    truth = set_slopes(
        np.tile(N, len(everything)),
        everything.ravel(),
        np.repeat(np.arange(len(everything)), len(N)).tolist(),
    ).slopes.mean()
    covered = alone = 0
    repeats, x, numbers = 1000, np.tile(N, sets), np.repeat(np.arange(sets), len(N)).tolist()
    for _ in range(repeats):
        scores = drawn(rng, sets, -0.15)
        fitted = set_slopes(x, scores.ravel(), numbers)
        mean = mean_interval(fitted.slopes, bounds=(-fitted.steepest, fitted.steepest))
        assert mean.low is not None
        assert mean.high is not None
        covered += mean.low <= truth <= mean.high
        alone += abs(fitted.slopes.mean() - truth) < 1.96 * _independent_error(scores)
    assert 0.935 <= covered / repeats <= 0.975
    assert alone / repeats < 0.925


def _independent_error(scores: Floats) -> float:
    """Of the slope, by the classical formula: an intercept for each set, independent docs."""
    sets, cells = scores.shape
    apart, y = N - N.mean(), scores - scores.mean(axis=1, keepdims=True)
    spread = sets * (apart**2).sum()
    rest = y - apart * (y @ apart).sum() / spread
    return float(np.sqrt((rest**2).sum() / (sets * (cells - 1) - 1) / spread))


def test_a_difference_of_slopes_is_called_by_chance_in_5_percent_of_sweeps() -> None:
    rng = np.random.default_rng(3)
    sets, repeats = 30, 1000
    x, numbers = np.tile(N, sets), np.repeat(np.arange(sets), len(N)).tolist()
    called = 0
    for _ in range(repeats):
        level, slope = rng.normal(0.75, 0.12, sets)[:, None], rng.normal(-0.1, 0.08, sets)[:, None]
        chance = np.clip(level + slope * (N - 1), 0.02, 0.98)
        a, b = (set_slopes(x, (rng.random(chance.shape) < chance).ravel(), numbers).slopes for _ in range(2))
        called += paired_mean_difference(b, a).pvalue < 0.05
    assert 0.03 <= called / repeats <= 0.068


@pytest.mark.parametrize(("sets", "cells"), [(40, 1), (20, 6)])
def test_the_permutation_test_of_micro_f1_has_its_size_with_sets_of_docs(sets: int, cells: int) -> None:
    """Docs of a set share their difficulty and their list; two runs of the same skill."""
    rng = np.random.default_rng(5)
    repeats, called, alone = 600, 0, 0
    clusters = np.repeat(np.arange(sets), cells).tolist()
    for _ in range(repeats):
        relevant = np.repeat(rng.integers(1, 6, sets), cells)
        skill = np.repeat(rng.beta(2, 1, sets), cells)
        habit = np.repeat(rng.normal(0, 0.1, sets), cells)  # of a set, for one run: as cells share pictures
        sides = []
        for turn in (habit, -habit):
            recalled = rng.binomial(relevant, np.clip(skill + turn, 0, 1))
            sides.append((recalled, recalled + rng.poisson(0.5, len(relevant)), relevant))
        called += micro_f1_difference(sides[0], sides[1], clusters=clusters).pvalue < 0.05
        alone += cells > 1 and micro_f1_difference(sides[0], sides[1]).pvalue < 0.05
    assert 0.025 <= called / repeats <= 0.075
    assert cells == 1 or alone / repeats > 0.1
