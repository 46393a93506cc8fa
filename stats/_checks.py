"""Argument checks shared by the statistics. Messages say what, the allowed range, and what came."""

import operator
from typing import SupportsIndex


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
