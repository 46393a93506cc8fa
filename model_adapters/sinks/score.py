"""Which visual tokens are sinks, from a decoder layer's input (METHODS 6; AR Eq. 3 and 4)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mimic_eval.records import UserError
from model_adapters.layout import Layout
from model_adapters.sinks.calibration import Calibration

DEFAULT_TAU = 20.0
"""Threshold of the ``ratio`` score, VAR's."""


def ratio_score(hidden: Tensor, dimensions: Sequence[int]) -> Tensor:
    """max over sink dimensions d of |x[d]| / sqrt(mean(x^2)), at most sqrt(D) (METHODS 6).

    Args:
        hidden: (..., D), a layer's input; low precision is widened to float32.
        dimensions: sink dimensions, at least one.

    Returns:
        (...), float32, or float64 for a float64 input; 0 where x is 0.
    """
    exact = torch.promote_types(hidden.dtype, torch.float32)
    largest = hidden[..., list(dimensions)].to(exact).abs().amax(dim=-1)
    norm = torch.linalg.vector_norm(hidden, dim=-1, dtype=exact)
    return torch.where(norm > 0, largest * hidden.shape[-1] ** 0.5 / norm, 0)


def z_score(hidden: Tensor, dimensions: Sequence[int], mu: Sequence[float], sigma: Sequence[float]) -> Tensor:
    """max over sink dimensions d of (x[d] - mu_d) / sigma_d (AR Eq. 3), signed as the paper has it.

    Args:
        hidden: (..., D), a layer's input.
        dimensions: K sink dimensions, at least one.
        mu: K means.
        sigma: K deviations; a dimension of deviation 0 scores 0, it cannot tell a token from another.

    Returns:
        (...), float64: only K of D values are widened, and a token that set tau meets it exactly.
    """
    chosen = hidden[..., list(dimensions)].double()
    mean = torch.tensor(mu, dtype=torch.float64, device=chosen.device)
    deviation = torch.tensor(sigma, dtype=torch.float64, device=chosen.device)
    score = (chosen - mean) / deviation
    return torch.where(deviation > 0, score, 0).amax(dim=-1)


def prompt_tokens(layouts: Sequence[Layout], *, device: torch.device | None = None) -> Tensor:
    """Bool (B, N), True = a token of an image or of text; False at padding."""
    return torch.stack([layout.is_token(torch.device("cpu")) for layout in layouts]).to(device)


def visual_tokens(layouts: Sequence[Layout], *, device: torch.device | None = None) -> Tensor:
    """Bool (B, N), True = a token of an image; False at text and padding."""
    return torch.stack([layout.image_numbers() >= 0 for layout in layouts]).to(device)


class FindSinks:
    """An `engine.SinkFinder`: the visual tokens, or all, whose score reaches tau.

    The sets differ from layer to layer because the layers' inputs do; dimensions, mu, sigma and tau are the
    same in all layers (see `Calibration`). No sink dimension: no sinks.

    Args:
        calibration: of the model.
        score: ``ratio`` (score > tau) or ``z`` (score >= tau, Eq. 4).
        tau: the threshold, or None for 20 with ``ratio`` and the calibration's with ``z``.
        text: text tokens too, scored the same way.

    Raises:
        UserError: another score, or a tau that is not above 0 for ``ratio``.
    """

    def __init__(
        self,
        calibration: Calibration,
        *,
        score: str = "ratio",
        tau: float | None = None,
        text: bool = False,
    ) -> None:
        if score not in ("ratio", "z"):
            raise UserError(f"score must be ratio or z, got '{score}'")
        if score == "ratio" and tau is not None and not tau > 0:
            raise UserError(f"tau must be above 0 for score=ratio, got {tau}")
        self.score = score
        self.calibration = calibration
        self.text = text
        chosen = DEFAULT_TAU if score == "ratio" else calibration.tau
        self.tau = chosen if tau is None else tau
        self._dimensions = [dimension.index for dimension in calibration.dimensions]
        self._mu = [dimension.mu for dimension in calibration.dimensions]
        self._sigma = [dimension.sigma for dimension in calibration.dimensions]

    def settings(self) -> dict[str, Any]:
        """For the run's record: all that the sinks depend on beside the input."""
        settings: dict[str, Any] = {"score": self.score, "tau": self.tau, "sink_dimensions": self._dimensions}
        return settings if self.score == "ratio" else {**settings, "mu": self._mu, "sigma": self._sigma}

    def __call__(self, hidden: Tensor, layouts: tuple[Layout, ...], layer: int) -> Tensor:
        """The sinks of a layer.

        Args:
            hidden: (B, N, D), the layer's input.
            layouts: B layouts of length N.
            layer: from 0; not used, see above.

        Returns:
            Bool (B, N), on the input's device; False at padding, and at text unless `text`.

        Raises:
            ValueError: the layouts do not fit the input.
        """
        if hidden.shape[:2] != (len(layouts), layouts[0].length):
            raise ValueError(
                f"{len(layouts)} layouts of {layouts[0].length} tokens do not fit an input of "
                f"{tuple(hidden.shape[:2])}"
            )
        scored = (prompt_tokens if self.text else visual_tokens)(layouts, device=hidden.device)
        if self.tau is None or not self._dimensions:
            return torch.zeros_like(scored)
        if self.score == "ratio":
            return scored & (ratio_score(hidden, self._dimensions) > self.tau)
        return scored & (z_score(hidden, self._dimensions, self._mu, self._sigma) >= self.tau)
