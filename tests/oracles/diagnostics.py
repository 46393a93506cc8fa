"""Sums of attention written out over materialised weights, row by row and key by key (METHODS 8)."""

import math
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from model_adapters.layout import Layout

Weights = npt.NDArray[np.float64]


@dataclass
class Sums:
    """Of one layer of one doc.

    Attributes:
        mass: (head, row group, key group) -> sum. A group of rows is (name, image); of keys
            (name, image, sink, inside).
        rows: row group -> rows.
        entropy: row group -> H_norm of each row that has one.
        tokens: row group -> sum for each key, its mean over heads.
    """

    mass: dict[tuple[int, tuple, tuple], float] = field(default_factory=lambda: defaultdict(float))
    rows: dict[tuple, int] = field(default_factory=lambda: defaultdict(int))
    entropy: dict[tuple, list[float]] = field(default_factory=lambda: defaultdict(list))
    tokens: dict[tuple, Weights] = field(default_factory=dict)


def place_of(token: int, layout: Layout) -> tuple[str, int | None]:
    """The group of a token of the prompt."""
    for number, image in enumerate(layout.images, start=1):
        if any(span.start <= token < span.end for span in image.spans):
            return ("image", number)
    if not layout.images or token < layout.images[0].start:
        return ("prefix", None)
    if token == layout.end - 1:
        return ("last", None)
    return ("question", None) if token >= layout.images[-1].end else ("between", None)


def sums_of(
    alpha: Weights,
    layout: Layout,
    *,
    sinks: npt.NDArray[np.bool_],
    inside: npt.NDArray[np.bool_],
    generated: int = 0,
) -> Sums:
    """The sums of one layer.

    Args:
        alpha: (H, N + generated, N + generated), weights after the edit.
        layout: of the prompt.
        sinks: (N).
        inside: (N), in a truth box.
        generated: rows after the prompt.
    """
    tokens = [*range(layout.padding, layout.end), *range(layout.length, layout.length + generated)]

    def group(token: int) -> tuple[str, int | None]:
        return ("answer", None) if token >= layout.length else place_of(token, layout)

    sums = Sums()
    for i in tokens:
        row = group(i)
        sums.rows[row] += 1
        sums.tokens.setdefault(row, np.zeros(layout.length))
        of_image: dict[int, float] = defaultdict(float)
        for j in tokens:
            key = group(j)
            marks = (bool(sinks[j]), bool(inside[j])) if key[0] == "image" else (None, None)
            for head in range(len(alpha)):
                sums.mass[head, row, (*key, *marks)] += alpha[head, i, j]
            mean = float(alpha[:, i, j].mean())
            if j < layout.length:
                sums.tokens[row][j] += mean
            if key[1] is not None:
                of_image[key[1]] += mean
        of_image = {image: max(mass, 0.0) for image, mass in of_image.items()}
        total = sum(of_image.values())
        if total > 0 and len(layout.images) > 1:
            shares = [p / total for p in of_image.values() if p > 0]
            sums.entropy[row].append(-sum(p * math.log(p) for p in shares) / math.log(len(layout.images)))
    return sums
