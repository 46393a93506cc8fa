"""Decoder layers as a user writes them: ``second_half``, ``12-23``, ``::2``, ``0+4+8-11`` and the like."""

import re
from collections.abc import Iterable

from mimic_eval.records import UserError

NAMED = ("all", "second_half", "first_half", "none")
FORMS = "all, second_half, first_half, none, 12, 12-23, a slice like ::2 or 2:-1, or several joined by +"

_RANGE = re.compile(r"(\d+)(?:-(\d+))?")
_SLICE = re.compile(r"(-?\d+)?:(-?\d+)?(?::(\d+))?")


def parse_layers(text: str, depth: int) -> frozenset[int]:
    """The layers that a text names.

    Args:
        text: one of `NAMED`; a layer or a range with both ends (``12-23``); a slice of Python's (``::2``);
            or several of these joined by ``+``.
        depth: layers of the decoder.

    Raises:
        UserError: none of these forms, a layer that the decoder does not have, or a slice of no layer.
    """
    chosen: set[int] = set()
    for part in text.replace(" ", "").split("+"):
        chosen |= _part(part, text, depth)
    return frozenset(chosen)


def _part(part: str, text: str, depth: int) -> set[int]:
    half = depth // 2
    named = {
        "all": range(depth),
        "second_half": range(half, depth),
        "first_half": range(half),
        "none": range(0),
    }
    if part in named:
        return set(named[part])
    if match := _RANGE.fullmatch(part):
        first, last = int(match[1]), int(match[2] or match[1])
        if not first <= last < depth:
            raise UserError(f"layers must be within 0-{depth - 1} for a {depth}-layer decoder, got {text}")
        return set(range(first, last + 1))
    match = _SLICE.fullmatch(part)
    if not match or match[3] == "0":
        raise UserError(f"layers must be {FORMS}; got '{text}'")
    start, stop, step = (None if number is None else int(number) for number in match.groups())
    layers = set(range(depth)[start:stop:step])
    if not layers:
        raise UserError(f"layers={text} names no layer of a {depth}-layer decoder")
    return layers


def format_layers(layers: Iterable[int]) -> str:
    """The exact set for the record, which `parse_layers` reads back: ``12-23``, ``0+2+4``, ``none``."""
    ranges: list[list[int]] = []
    for layer in sorted(set(layers)):
        if ranges and layer == ranges[-1][1] + 1:
            ranges[-1][1] = layer
        else:
            ranges.append([layer, layer])
    return "+".join(f"{a}" if a == b else f"{a}-{b}" for a, b in ranges) or "none"
