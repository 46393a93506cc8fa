"""Sinks: scores against their definitions, streaming against exact statistics, planted sinks found again."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from mimic_eval.records import UserError
from model_adapters.layout import Layout, Span
from model_adapters.sinks import (
    FindSinks,
    ratio_score,
    visual_tokens,
    z_score,
)
from model_adapters.sinks.streaming import TOKENS_AT_ONCE, Largest, Magnitudes, Moments
from tests.makers.calibrations import made

LAYOUTS = (Layout(12, 2, (Span(3, 6), Span(6, 8))), Layout(12, 0, (Span(1, 11),)), Layout(12))


@pytest.mark.parametrize(
    ("dtype", "near"),
    [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 1e-5), (torch.float16, 1e-5)],
)
def test_ratio_score_is_the_largest_sink_coordinate_over_the_root_mean_square(
    dtype: torch.dtype, near: float
) -> None:
    hidden = torch.from_numpy(np.random.default_rng(0).normal(0, 50, (2, 9, 40))).to(dtype)
    hidden[1, 3, 4] = 3e4  # its square does not fit float16
    x = hidden.double().numpy()
    expected = np.abs(x[..., [1, 4, 30]]).max(-1) / np.sqrt((x**2).mean(-1))
    score = ratio_score(hidden, [1, 4, 30])
    assert score.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    np.testing.assert_allclose(score.double().numpy(), expected, rtol=near)
    assert float(score.max()) <= 40**0.5 + 1e-5


def test_ratio_score_of_a_zero_state_is_zero() -> None:
    assert ratio_score(torch.zeros(1, 2, 6), [0]).tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_z_score_is_equation_3(dtype: torch.dtype) -> None:
    hidden = torch.from_numpy(np.random.default_rng(1).normal(2, 30, (3, 5, 16))).to(dtype)
    dims, mu, sigma = [2, 11], [1.5, -3.0], [4.0, 0.25]
    x = hidden.double().numpy()
    expected = np.maximum((x[..., 2] - 1.5) / 4.0, (x[..., 11] + 3.0) / 0.25)
    np.testing.assert_array_equal(z_score(hidden, dims, mu, sigma).numpy(), expected)


def test_z_score_keeps_its_sign() -> None:
    hidden = torch.tensor([[[-900.0, 0.0], [900.0, 0.0]]])
    assert z_score(hidden, [0], [0.0], [10.0]).tolist() == [[-90.0, 90.0]]


def test_a_dimension_without_spread_scores_zero() -> None:
    hidden = torch.tensor([[[5.0, 1.0]]])
    assert z_score(hidden, [0, 1], [5.0, 3.0], [0.0, 1.0]).tolist() == [[0.0]]


@pytest.mark.parametrize("score", ["ratio", "z"])
def test_text_and_padding_are_never_sinks(score: str) -> None:
    hidden = torch.ones(3, 12, 8)
    hidden[..., 1] = 1e4
    found = FindSinks(made(), score=score, tau=2.0)(hidden, LAYOUTS, 0)
    expected = torch.zeros(3, 12, dtype=torch.bool)
    expected[0, 3:8] = True
    expected[1, 1:11] = True
    assert torch.equal(found, expected)
    assert torch.equal(visual_tokens(LAYOUTS), expected)


@pytest.mark.parametrize("score", ["ratio", "z"])
def test_text_is_scored_as_images_are_where_it_is_wanted(score: str) -> None:
    hidden = torch.ones(3, 12, 8)
    hidden[:, ::2, 1] = 1e4
    visual = FindSinks(made(), score=score, tau=2.0)(hidden, LAYOUTS, 0)
    found = FindSinks(made(), score=score, tau=2.0, text=True)(hidden, LAYOUTS, 0)
    expected = (torch.arange(12) % 2 == 0).repeat(3, 1)
    expected[0, :2] = False  # padding
    assert torch.equal(found, expected)
    assert torch.equal(visual, expected & visual_tokens(LAYOUTS))
    assert not FindSinks(made(dims=(), tau=None), score=score, text=True)(hidden, LAYOUTS, 0).any()


def test_ratio_must_exceed_tau_and_z_must_reach_it() -> None:
    layouts = (Layout(1, 0, (Span(0, 1),)),)
    hidden = torch.zeros(1, 1, 4)
    hidden[0, 0, 1] = 3.0  # ratio sqrt(4) = 2; z (3 - 0.5) / 2 = 1.25
    calibration = made(dims=(1,), tau=1.25)
    assert not FindSinks(calibration, tau=2.0)(hidden, layouts, 0).any()
    assert FindSinks(calibration, tau=1.999)(hidden, layouts, 0).all()
    assert FindSinks(calibration, score="z")(hidden, layouts, 0).all()
    assert not FindSinks(calibration, score="z", tau=1.2500001)(hidden, layouts, 0).any()


def test_thresholds_come_from_the_paper_the_calibration_or_the_user() -> None:
    assert FindSinks(made()).tau == 20.0
    assert FindSinks(made(tau=7.5), score="z").tau == 7.5
    assert FindSinks(made(tau=7.5), score="z", tau=-1.0).tau == -1.0
    with pytest.raises(UserError, match="score must be ratio or z, got 'zz'"):
        FindSinks(made(), score="zz")
    with pytest.raises(UserError, match="tau must be above 0 for score=ratio, got 0"):
        FindSinks(made(), tau=0)


def test_settings_are_all_that_sinks_depend_on() -> None:
    assert FindSinks(made()).settings() == {
        "score": "ratio",
        "tau": 20.0,
        "sink_dimensions": [1, 4],
    }
    assert FindSinks(made(), score="z").settings() == {
        "score": "z",
        "tau": 2.0,
        "sink_dimensions": [1, 4],
        "mu": [0.5, 2.0],
        "sigma": [2.0, 5.0],
    }


@pytest.mark.parametrize("score", ["ratio", "z"])
def test_a_model_without_sink_dimensions_has_no_sinks(score: str) -> None:
    finder = FindSinks(made(dims=(), tau=None), score=score)
    assert not finder(torch.full((3, 12, 8), 1e4), LAYOUTS, 0).any()


def test_layouts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="3 layouts of 12 tokens do not fit an input of \\(3, 11\\)"):
        FindSinks(made())(torch.zeros(3, 11, 8), LAYOUTS, 0)


def pieces(values: np.ndarray[Any, Any], seed: int) -> Iterator[torch.Tensor]:
    """Values cut at random places, some pieces empty, one longer than what is done at once."""
    cuts = np.sort(np.random.default_rng(seed).integers(0, len(values) - TOKENS_AT_ONCE - 9, 12))
    yield from (torch.from_numpy(part) for part in np.split(values, [*cuts, cuts[-1]]))


def test_moments_in_pieces_equal_the_exact_ones() -> None:
    values = np.random.default_rng(2).normal(1e4, [1e-3, 1.0, 500.0], (5000, 3))
    moments = Moments(3, torch.device("cpu"))
    for part in pieces(values, 5):
        moments.add(part)
    assert moments.count == 5000
    np.testing.assert_allclose(moments.mean.numpy(), values.mean(0), rtol=1e-13)
    np.testing.assert_allclose(moments.deviation.numpy(), values.std(0), rtol=1e-9)


@pytest.mark.parametrize("count", [1, 2, 999, 5000, 6000])
def test_the_largest_are_numpys_and_no_other_is_kept(count: int) -> None:
    values = np.random.default_rng(count).normal(size=5000)
    largest = Largest(count)
    for part in np.array_split(values, 7):
        largest.add(torch.from_numpy(part))
    assert largest.least == np.sort(values)[-min(count, 5000)]
    assert len(largest._top) == min(count, 5000)
    with pytest.raises(RuntimeError, match="no value came"):
        Largest(3).least  # noqa: B018


@pytest.mark.parametrize("scale", [1e-6, 1.0, 3e4])
def test_the_median_is_within_its_stated_error_and_exact_in_bfloat16(scale: float) -> None:
    values = (np.random.default_rng(3).normal(size=(4001, 5)) * scale).astype(np.float32)
    exact = float(np.sort(np.abs(values), axis=None)[(values.size - 1) // 2])
    coarse = torch.from_numpy(values).bfloat16()
    for given, low, high in ((torch.from_numpy(values), 1 - 2**-7, 1.0), (coarse, None, None)):
        found = Magnitudes(5, torch.device("cpu"))
        for part in pieces(np.arange(len(values)), 1):
            found.add(given[part])
        if low is None:
            assert found.median == float(given.abs().flatten().median())
        else:
            assert low * exact < found.median <= high * exact
        assert torch.equal(found.largest, given.float().abs().amax(dim=0))


def test_magnitudes_show_what_is_not_finite() -> None:
    for bad in (float("nan"), float("inf")):
        found = Magnitudes(2, torch.device("cpu"))
        found.add(torch.tensor([[1.0, bad]]))
        found.add(torch.tensor([[1.0, 2.0]]))
        assert found.largest.isfinite().tolist() == [True, False]
