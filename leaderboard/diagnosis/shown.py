"""Diagnosed runs and pairs of them for the *Why* page, drawn again from the numbers in their JSON."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from leaderboard.diagnosis.drawing import words_of
from leaderboard.diagnosis.results import Band, Plot, Point, Series, Test
from leaderboard.labels import Named, labels
from mimic_eval.records import UserError
from mimic_eval.records.reading import read_json


class Figure(NamedTuple):
    """A plot and its text for those who do not see it."""

    plot: Plot
    words: str


@dataclass(frozen=True)
class Shown:
    """A diagnosis.

    Attributes:
        id: of its files.
        title: the run's label, or both of a pair.
        docs: how many.
        tests: as they were made.
        figures: to be drawn.
        notes: what is left out and why.
    """

    id: str
    title: str
    docs: int
    tests: tuple[Test, ...]
    figures: tuple[Figure, ...]
    notes: tuple[str, ...]


def read_shown(folder: Path) -> Shown:
    """A folder of `mimic diagnose`, or of `mimic diagnose compare`.

    Raises:
        UserError: neither, or damaged.
    """
    path = folder / "diagnose.json"
    path = path if path.is_file() else folder / "compare.json"
    if not path.is_file():
        raise UserError(
            f"{folder} holds no finished run of `mimic diagnose`, and no comparison: name its --out folder"
        )
    content = read_json(path)
    try:
        plots = [_plot(figure) for figure in content["figures"]]
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        return Shown(
            digest,
            _title(content["run"]),
            int(content["results"]["docs"]),
            tuple(Test(**test) for test in content["tests"]),
            tuple(Figure(plot, words_of(plot)) for plot in plots),
            tuple(map(str, content["notes"])),
        )
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise UserError(f"{path} is damaged ({error}): diagnose or compare again") from error


def _title(run: Mapping[str, Any]) -> str:
    """The label of a run, or of both runs of a pair, with their tasks."""
    runs = [run["a"], run["b"]] if "a" in run else [run]
    named = labels([Named(str(one["model"]), one["run"]) for one in runs])
    shown = [", ".join(part for part in label if part and part != "-") for label in named]
    return f"{' against '.join(shown)}: {runs[0]['tasks']}"


def _plot(figure: Mapping[str, Any]) -> Plot:
    """A plot from its JSON.

    Raises:
        KeyError, TypeError, ValueError: it is not one.
    """
    name = str(figure["name"])
    if not name.replace("_", "").isalnum() or not name.isascii():
        raise ValueError(f"a figure is called '{name:.40}'")
    series = tuple(
        Series(str(line["label"]), tuple(_point(point) for point in line["points"]))
        for line in figure["series"]
        if line["points"]
    )
    if not series:
        raise ValueError(f"figure {name} has no line")
    band, mark = figure["band"], figure["mark"]
    ranges = [] if band is None else [_numbers(band[field]) for field in Band._fields[1:]]
    return Plot(
        name,
        str(figure["title"]),
        str(figure["x_title"]),
        str(figure["y_title"]),
        series,
        tuple(map(str, figure["notes"])),
        ticks=tuple((float(at), str(text)) for at, text in figure["ticks"]),
        band=None if band is None else Band(str(band["label"]), *ranges),
        mark=None if mark is None else (float(mark[0]), str(mark[1])),
        top=None if figure["top"] is None else float(figure["top"]),
    )


def _point(point: Mapping[str, Any]) -> Point:
    low, high = (None if point[end] is None else float(point[end]) for end in ("low", "high"))
    return Point(float(point["x"]), float(point["value"]), low, high, int(point["n"]))


def _numbers(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
