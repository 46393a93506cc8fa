"""Statistics of values that come a piece at a time and are not stored."""

from collections.abc import Iterator

import torch
from torch import Tensor

TOKENS_AT_ONCE = 1024
_DROPPED_BITS = 16
_BINS = 1 << 15


def _parts(values: Tensor) -> Iterator[Tensor]:
    """Values (T, D), a bounded number of tokens at a time."""
    for first in range(0, len(values), TOKENS_AT_ONCE):
        yield values[first : first + TOKENS_AT_ONCE]


class Magnitudes:
    """The largest magnitude of each dimension, and the median magnitude of all values.

    The median is read off a histogram over the upper half of |x| as float32 (sign, 8 bits of exponent, 7 of
    mantissa: bfloat16's values), so memory does not grow with the corpus: it is the lower median, rounded
    toward 0 to 8 significant bits: at most 0.8 % low, and exact if the model runs in bfloat16.
    """

    def __init__(self, width: int, device: torch.device) -> None:
        self._counts = torch.zeros(_BINS, dtype=torch.int64, device=device)
        self._largest = torch.zeros(width, dtype=torch.float32, device=device)

    def add(self, values: Tensor) -> None:
        """Enter values (T, D)."""
        for part in _parts(values):
            size = part.float().abs()
            self._largest = torch.maximum(self._largest, size.amax(dim=0))  # passes NaN on
            bins = size.view(torch.int32).flatten() >> _DROPPED_BITS
            self._counts += torch.bincount(bins, minlength=_BINS)

    @property
    def largest(self) -> Tensor:
        """float32 (D,) on the CPU; not finite where a value was not."""
        return self._largest.cpu()

    @property
    def median(self) -> float:
        """Of |x| over all values; 0 if there are none."""
        counts = self._counts.cpu()
        total = int(counts.sum())
        if total == 0:
            return 0.0
        middle = int((counts.cumsum(0) > (total - 1) // 2).int().argmax())
        return float(torch.tensor(middle << _DROPPED_BITS, dtype=torch.int32).view(torch.float32))


class Moments:
    """Mean and standard deviation of each dimension, merged piece by piece (Chan et al. 1983), in float64."""

    def __init__(self, width: int, device: torch.device) -> None:
        self.count = 0
        self._mean = torch.zeros(width, dtype=torch.float64, device=device)
        self._squares = torch.zeros(width, dtype=torch.float64, device=device)

    def add(self, values: Tensor) -> None:
        """Enter values (T, D)."""
        for part in _parts(values):
            exact = part.double()
            count = self.count + len(exact)
            mean = exact.mean(dim=0)
            step = mean - self._mean
            self._squares += (exact - mean).square().sum(dim=0) + step.square() * (
                self.count * len(exact) / count
            )
            self._mean += step * (len(exact) / count)
            self.count = count

    @property
    def mean(self) -> Tensor:
        """float64 (D,) on the CPU."""
        return self._mean.cpu()

    @property
    def deviation(self) -> Tensor:
        """float64 (D,) on the CPU, n in the denominator; 0 if there are no values."""
        return (self._squares / max(self.count, 1)).sqrt().cpu()


class Largest:
    """The largest of values that come a piece at a time; no other is stored.

    Args:
        count: how many are stored, at least 1.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._top = torch.empty(0, dtype=torch.float64)

    def add(self, values: Tensor) -> None:
        """Enter values (T,)."""
        both = torch.cat([self._top, values.double().cpu()])
        self._top = both.topk(min(self._count, len(both))).values

    @property
    def least(self) -> float:
        """The smallest of those that are stored; all of the values if there were fewer.

        Raises:
            RuntimeError: no value came.
        """
        if not len(self._top):
            raise RuntimeError("no value came")
        return float(self._top[-1])
