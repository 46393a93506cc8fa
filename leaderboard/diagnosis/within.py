"""How a number changes within a doc: from image to image, and from layer to layer."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from leaderboard.diagnosis.reading import Diagnosis
from leaderboard.diagnosis.results import Series, estimate, points
from stats import doc_slopes, spearman_per_doc

Floats = npt.NDArray[np.float64]

_MOST_LINES = 4
"""Lines by the number of images; the numbers that most docs have."""


def first_image(values: Floats) -> Floats:
    return values[:, 0]


def last_image(run: Diagnosis, values: Floats) -> Floats:
    """(D): of (D, M) each doc's last image."""
    return values[np.arange(len(values)), run.images - 1]


def lines_by_images(run: Diagnosis, values: Floats) -> tuple[Series, ...]:
    """A line for each number of images, of those that most docs have."""
    counts = Counter(run.images.tolist()).most_common(_MOST_LINES)
    lines = []
    for m in sorted(m for m, _ in counts):
        docs = values[run.images == m]
        lines.append(
            Series(f"{m} images ({len(docs)} docs)", points([float(i + 1) for i in range(m)], docs[:, :m]))
        )
    return tuple(line for line in lines if line.points)


def _pairs(run: Diagnosis, values: Floats) -> list[list[tuple[float, float]]]:
    """For each doc (place, value), within 0-1, of each image that has one; docs without two are left out."""
    docs = []
    for of_doc, m in zip(values, run.images, strict=True):
        found = [
            (i / (m - 1), min(1.0, max(0.0, float(of_doc[i])))) for i in range(m) if not np.isnan(of_doc[i])
        ]
        if len(found) > 1:
            docs.append(found)
    return docs


def change_to_last(run: Diagnosis, values: Floats) -> dict[str, object]:
    """The change from the first place to the last within a doc."""
    docs = _pairs(run, values)
    if not docs:
        return {"estimate": None, "n": 0}
    fitted = doc_slopes(docs)
    slopes = fitted.slopes[~np.isnan(fitted.slopes)]
    return estimate(slopes, bounds=(-fitted.steepest, fitted.steepest))


def spearman_of_place(run: Diagnosis, values: Floats) -> dict[str, object]:
    """Spearman's rho of place and value within each doc."""
    return _attempt(lambda: vars(spearman_per_doc(_pairs(run, values))))


def spearman_of_layer(run: Diagnosis, values: Floats) -> dict[str, object]:
    """Spearman's rho of layer and value within each doc."""
    top = max(run.layers - 1, 1)
    docs = [
        [(layer / top, min(1.0, float(value))) for layer, value in enumerate(row) if not np.isnan(value)]
        for row in values
    ]
    return _attempt(lambda: vars(spearman_per_doc([doc for doc in docs if len(doc) > 1])))


def _attempt(call: Callable[[], dict[str, object]]) -> dict[str, object]:
    """A correlation, or that no doc determines it."""
    try:
        return call()
    except ValueError as error:
        return {"estimate": None, "n": 0, "reason": str(error)}


def slope_text(slope: dict[str, object]) -> str:
    """`change_to_last` for the caption of a figure."""
    return in_words("Change from the first image to the last within a doc", slope)


def in_words(what: str, found: dict[str, object]) -> str:
    """An estimate with its interval and docs, in a sentence."""
    if found["estimate"] is None:
        return f"{what}: no doc determines it."
    ends = "" if found["low"] is None else f" [{found['low']:.3f}, {found['high']:.3f}]"
    return f"{what}: {found['estimate']:.3f}{ends}, {found['n']} docs."
