"""Argument checks shared by the statistics. Messages say what, the allowed range, and what came."""

import operator
from math import inf
from typing import SupportsIndex

import numpy as np
import numpy.typing as npt


def whole_number(name: str, value: SupportsIndex, *, least: int, most: int | None = None) -> int:
    """`value` as an int within [least, most]; bools, floats and NaN are refused.

    Raises:
        ValueError: not an integer, or out of range.
    """
    allowed = f"an integer >= {least}" if most is None else f"an integer within {least}-{most}"
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"`{name}` must be {allowed}, got {value!r}") from None
    if number < least or (most is not None and number > most):
        raise ValueError(f"`{name}` must be {allowed}, got {number}")
    return number


def open_unit(name: str, value: float) -> float:
    """`value` as a float strictly between 0 and 1.

    Raises:
        ValueError: not a number, NaN, or out of range.
    """
    if isinstance(value, bool | str | bytes):
        raise ValueError(f"`{name}` must be a number between 0 and 1, both excluded, got {value!r}")
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"`{name}` must be a number between 0 and 1, both excluded, got {value!r}") from None
    if not 0.0 < number < 1.0:
        raise ValueError(f"`{name}` must be a number between 0 and 1, both excluded, got {value!r}")
    return number


def finite_vector(name: str, values: npt.ArrayLike, *, least: int = 1) -> npt.NDArray[np.float64]:
    """`values` as floats, shape (docs,), each of them finite; at least `least` of them. Bools are 0 and 1.

    Raises:
        ValueError: not one-dimensional, too few, not numbers (None too), NaN or infinite.
    """
    came = np.asarray(values)
    if came.ndim != 1:
        raise ValueError(f"`{name}` must have one axis, shape (docs,), got shape {came.shape}")
    if len(came) < least:
        raise ValueError(f"`{name}` needs at least {least} value{'s' * (least > 1)}, got {len(came)}")
    if came.dtype.kind not in "biuf":
        odd = next((value for value in came.tolist() if not isinstance(value, int | float)), came.tolist()[0])
        raise ValueError(f"`{name}` must hold finite numbers, got {odd!r}")
    numbers = came.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(numbers))
    if len(bad):
        raise ValueError(f"`{name}` must hold finite numbers, got {numbers[bad[0]]} at {bad[0]}")
    return numbers


def within(name: str, values: npt.NDArray[np.float64], bounds: tuple[float, float], hint: str = "") -> None:
    """Check that every value is within `bounds`, both ends included; `hint` describes the bounds.

    Raises:
        ValueError: the bounds are no interval, or a value is outside them.
    """
    low, high = bounds
    if not -inf < low < high < inf:
        raise ValueError(f"`bounds` must be two finite numbers, the first below the second, got {bounds}")
    bad = np.flatnonzero((values < low) | (values > high))
    if len(bad):
        at = int(bad[0])
        raise ValueError(f"`{name}` must lie between {low:g} and {high:g}{hint}, got {values[at]} at {at}")
