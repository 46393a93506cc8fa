"""Whether sinks recur at the same places of a doc's images (METHODS 8; papers/001, Eq. 5 and 6)."""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from model_adapters.relevance.places import TokenPlaces

DRAWS = 10
"""Random sets of places for each image."""


class Recurrence(NamedTuple):
    """Of one layer of one doc.

    Attributes:
        distance: symmetric Chamfer distance, its mean over pairs of images; NaN without a pair.
        random: the same of random places, as many in each image, its mean over draws.
        pairs: pairs of images that both have sinks.
        without: the other pairs.
    """

    distance: float
    random: float
    pairs: int
    without: int


def centres(places: TokenPlaces) -> Tensor:
    """float64 (P, 2): the middle of each token's place, x and y within 0-1; NaN where it has none."""
    x, y = (places.mean(places.centres[:, side]) for side in (0, 1))
    return torch.where(places.is_place[:, None], torch.stack([x, y], dim=1), torch.nan)


def chamfer(first: Tensor, second: Tensor) -> Tensor:
    """The symmetric Chamfer distance of two sets of points (Eq. 5).

    Args:
        first: (..., n, 2), n at least 1.
        second: (..., m, 2), m at least 1.

    Returns:
        (...), the mean of each set's distances to the nearest point of the other, added.
    """
    distances = torch.cdist(first, second)
    return distances.amin(dim=-1).mean(dim=-1) + distances.amin(dim=-2).mean(dim=-1)


def recurrence(sinks: Sequence[Tensor], points: Sequence[Tensor], *, seed: Sequence[int]) -> Recurrence:
    """Eq. 6 of the sinks of one layer, and of random places.

    Args:
        sinks: for each image bool (P,).
        points: for each image (P, 2), from `centres`. Tokens without a place take no part.
        seed: of the draws.
    """
    rng = np.random.default_rng(list(seed))
    real, drawn = [], []
    for marks, at in zip(sinks, points, strict=True):
        placed = ~at[:, 0].isnan()
        chosen, among = at[marks & placed], at[placed]
        picks = [rng.choice(len(among), len(chosen), replace=False) for _ in range(DRAWS)]
        real.append(chosen)
        drawn.append(among[torch.as_tensor(np.array(picks), dtype=torch.long)])
    pairs = list(combinations(range(len(real)), 2))
    both = [(m, n) for m, n in pairs if len(real[m]) and len(real[n])]
    if not both:
        return Recurrence(float("nan"), float("nan"), 0, len(pairs))
    distance = float(torch.stack([chamfer(real[m], real[n]) for m, n in both]).mean())
    random = float(torch.stack([chamfer(drawn[m], drawn[n]).mean() for m, n in both]).mean())
    return Recurrence(distance, random, len(both), len(pairs) - len(both))
