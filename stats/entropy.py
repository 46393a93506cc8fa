"""Entropy of attention over images against chance (METHODS 8): shares drawn from Dirichlet(1, ..., 1)."""

from dataclasses import dataclass, field
from math import log

import numpy as np
import numpy.typing as npt

from stats._checks import open_unit, whole_number

_CHUNK_CELLS = 2**20
"""Shares in memory at once, (draws in a chunk) x k: 8 MiB of float64."""


@dataclass(frozen=True)
class EntropyNull:
    """The null distribution of the entropy of k shares, natural log.

    `mean` is exact, in nats; `normalised_mean` the same divided by log k. Quantiles and p-values are of
    the normalised entropy, within [0, 1], from `draws` seeded draws.
    """

    k: int
    mean: float
    normalised_mean: float
    draws: int
    seed: int
    _drawn: npt.NDArray[np.float64] = field(repr=False, compare=False)

    def quantile(self, share: float) -> float:
        """The normalised entropy below which `share` of the draws lie, 0 < share < 1."""
        return float(np.quantile(self._drawn, open_unit("share", share)))

    def pvalue_low(self, observed: float) -> float:
        """P(entropy <= observed): small where mass is more concentrated than chance. Never 0.

        The observed value counts as one more draw: (1 + draws at or below) / (1 + draws) (Davison and
        Hinkley 1997, section 4.2).

        Raises:
            ValueError: `observed` is not within [0, 1]: give the normalised entropy.
        """
        return (1 + int(np.searchsorted(self._drawn, _normalised(observed), "right"))) / (1 + self.draws)

    def pvalue_high(self, observed: float) -> float:
        """P(entropy >= observed): small where mass is more even than chance; as `pvalue_low`."""
        below = int(np.searchsorted(self._drawn, _normalised(observed), "left"))
        return (1 + self.draws - below) / (1 + self.draws)


def entropy_null(k: int, *, draws: int = 10_000, seed: int = 0) -> EntropyNull:
    """The entropy of a point drawn evenly from the simplex of k shares, Dirichlet(1, ..., 1) (METHODS 8).

    Its mean is psi(k + 1) - psi(2) nats (Wolpert and Wolf 1995, Physical Review E 52, 6841).

    Args:
        k: number of images, at least 2 (one image has no entropy to speak of: log k is 0).
        draws: number of Monte Carlo draws, at least 1.
        seed: of NumPy's default generator, at least 0; it is in the result.

    Raises:
        ValueError: an argument is out of its range.
    """
    from scipy.special import digamma

    k = whole_number("k", k, least=2)
    draws = whole_number("draws", draws, least=1)
    seed = whole_number("seed", seed, least=0)
    mean = float(digamma(k + 1) - digamma(2))
    return EntropyNull(k, mean, mean / log(k), draws, seed, np.sort(_drawn_entropies(k, draws, seed)))


def _drawn_entropies(k: int, draws: int, seed: int) -> npt.NDArray[np.float64]:
    """Normalised entropies, shape (draws,): exponentials over their sum are Dirichlet(1, ..., 1)."""
    from scipy.special import entr

    rng = np.random.default_rng(seed)
    entropies = np.empty(draws)
    step = max(1, _CHUNK_CELLS // k)
    for start in range(0, draws, step):
        mass = rng.standard_exponential((min(step, draws - start), k))
        entropies[start : start + len(mass)] = entr(mass / mass.sum(axis=1, keepdims=True)).sum(axis=1)
    return entropies / log(k)


def _normalised(observed: float) -> float:
    if isinstance(observed, bool | str | bytes) or not 0.0 <= observed <= 1.0:
        raise ValueError(f"`observed` must be a normalised entropy within 0-1, got {observed!r}")
    return float(observed)
