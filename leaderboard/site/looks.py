"""How an entry looks in charts: its colour, dashes and marker, the same on every page and in every build."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

LIGHT = ("#1f6fb4", "#c2500a", "#1d7a45", "#8d3fb0", "#846400", "#c81f6a", "#0c7c86", "#5b4a41")
DARK = ("#7fb2ec", "#ff9a62", "#6fce88", "#d19be6", "#e0bd4d", "#ff86b0", "#4fd0d8", "#cbb3a5")
"""Colours of lines on the ground of a light and of a dark page: contrast above 3 (WCAG 1.4.11)."""

DASHES = ("none", "7 3", "2 3", "9 3 2 3", "13 4")
MARKERS = (
    "M-3.2 0a3.2 3.2 0 1 0 6.4 0a3.2 3.2 0 1 0-6.4 0Z",
    "M-3-3H3V3H-3Z",
    "M0-4.2L4 3.2H-4Z",
    "M0-4.6L4.6 0L0 4.6L-4.6 0Z",
    "M0 4.2L4-3.2H-4Z",
    "M-1.3-4.2H1.3V-1.3H4.2V1.3H1.3V4.2H-1.3V1.3H-4.2V-1.3H-1.3Z",
    "M-4-2.2L-2.2-4L0-1.8L2.2-4L4-2.2L1.8 0L4 2.2L2.2 4L0 1.8L-2.2 4L-4 2.2L-1.8 0Z",
    "M0-5L1.3-1.5H5L2.1.7L3.1 4.2L0 2.1L-3.1 4.2L-2.1.7L-5-1.5H-1.3Z",
)
"""Patterns of lines, and outlines of marks around the origin, as SVG has them."""


class Look(NamedTuple):
    """Indices into colours, `DASHES` and `MARKERS`."""

    colour: int
    dash: int
    marker: int

    @property
    def outline(self) -> str:
        """Of the marker, as an SVG path."""
        return MARKERS[self.marker]


def look_of(number: int) -> Look:
    """The look with a number; the first 320 differ, the first 64 also without their dashes.

    Numbers 0-7, 8-15, ... differ in colour and in marker; of five in a row, so do the dashes.
    """
    colours = len(LIGHT)
    square = colours * len(MARKERS)
    return Look(
        number % colours, (number + 2 * (number // square)) % len(DASHES), (number + number // colours) % 8
    )


class Drawn(Protocol):
    """What a look is given to: an entry."""

    @property
    def submission(self) -> Mapping[str, str] | None:
        """Who sent it."""

    @property
    def model(self) -> str:
        """lmms-eval's name."""

    @property
    def settings(self) -> Mapping[str, str]:
        """All that its runs announced."""

    @property
    def since(self) -> str:
        """The date of its first run."""


def key_of(entry: Drawn) -> str:
    """Names an entry over builds: its sender, model and settings, hashed."""
    sender = (entry.submission or {}).get("name", "")
    identity = json.dumps([sender, entry.model, sorted(entry.settings.items())])
    return hashlib.sha256(identity.encode()).hexdigest()[:32]


def number_looks(entries: Sequence[Drawn], known: Mapping[str, Any]) -> dict[str, int]:
    """The number of each entry's look, by its key.

    Entries of an earlier build keep theirs. New ones get the smallest free numbers, the entry with the
    oldest run first, so that a newer run changes no look even in a site that is built from nothing.

    Args:
        entries: all.
        known: what the last build gave.
    """
    numbers = {
        key: known[key]
        for entry in entries
        if isinstance(known.get(key := key_of(entry)), int) and known[key] >= 0
    }
    if len(set(numbers.values())) < len(numbers):  # no build of ours wrote this
        numbers = {}
    taken, free = set(numbers.values()), 0
    for entry in sorted(entries, key=lambda entry: (entry.since, key_of(entry))):
        key = key_of(entry)
        if key not in numbers:
            while free in taken:
                free += 1
            numbers[key] = free
            taken.add(free)
    return dict(sorted(numbers.items()))
