"""What a sweep file requests: a grid of cells over controls, input transforms and nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any

from mimic_eval.records import UserError, check_integer, nearest
from mimic_eval.records.reading import read_yaml
from mimic_tasks.planning import (
    MAX_CONFUSABLE,
    MAX_SIZE,
    MAX_TOTAL,
    SPLITS,
    Controls,
    Range,
    parse_range,
)
from mimic_tasks.task_spec import spec_of
from mimic_tasks.transforms import Transform, check_transform, parse_transform

_KEYS = ("name", "title", "task", "docs", "seed", "fixed", "vary", "figure")
_RANGES = {
    "n_images": MAX_SIZE,
    "spread": MAX_SIZE,
    "distractors": MAX_SIZE,
    "total": MAX_TOTAL,
    "listed": MAX_TOTAL,
    "minority": MAX_SIZE,
    "confusable": MAX_CONFUSABLE,
}
_TRANSFORMS = ("stitch", "downsample")
_SYMBOLS = {"N": "n_images", "n": "n_images", "s": "spread", "d": "distractors"}
RUN_SETTINGS = ("pool", "order", "mask", "layers", "checkpoint")
"""What a figure's x or series may be beside the keys of the cells: settings in which the runs differ."""

MAX_CELLS = 200
Value = int | str | bool


@dataclass(frozen=True)
class SweepCell:
    """One setting of the sweep.

    Attributes:
        name: ``spread=2,distractors=4``: what varies, in the file's order.
        values: the same as a mapping.
        controls: the content of its docs.
        transform: what is done to the pictures.
    """

    name: str
    values: Mapping[str, Value]
    controls: Controls
    transform: Transform = field(default_factory=Transform)


@dataclass(frozen=True)
class Sweep:
    """A sweep file.

    Attributes:
        name: of the sweep; see `task`.
        title: of its figure.
        kind: the task.
        docs: docs in each cell.
        seed: of every draw.
        cells: the grid.
        vary: the keys that vary.
        x: what the figure has on its axis: a key of the cells or a setting of the runs.
        series: what its lines are; one line for each run if None.
    """

    name: str
    title: str
    kind: str
    docs: int
    seed: int
    cells: tuple[SweepCell, ...]
    vary: tuple[str, ...]
    x: str
    series: str | None

    @property
    def task(self) -> str:
        """The task's name without ``mimic_``, also its folder: the sweep's, with the kind in front."""
        return self.name if self.name.startswith(f"{self.kind}_") else f"{self.kind}_{self.name}"

    def metadata(self) -> dict[str, Any]:
        """What the task's YAML, and so every run's results, record of the sweep."""
        return {
            "name": self.name,
            "title": self.title,
            "x": self.x,
            "series": self.series,
            "cells": {cell.name: dict(cell.values) for cell in self.cells},
        }


def packaged() -> dict[str, Path]:
    """The ready-made sweep files by name."""
    folder = Path(str(files("mimic_tasks.sweeps") / "files"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def read_sweep(file: str) -> Sweep:
    """A sweep from a YAML file, or a ready-made one by its name.

    Raises:
        UserError: no such file or name, not YAML, or a wrong value; the message names file and key.
    """
    path = Path(file)
    ready = packaged()
    if not path.is_file() and file in ready:
        path = ready[file]
    if not path.is_file():
        raise UserError(
            f"{file}: no such file, and no ready-made sweep of that name; there are {', '.join(ready)}"
        )
    data = read_yaml(path)
    if not isinstance(data, dict):
        raise UserError(f"{file} is no sweep: it must map {', '.join(_KEYS)} to values")
    try:
        return parse_sweep(data)
    except UserError as error:
        raise UserError(f"{file}: {error}") from error


def parse_sweep(data: Mapping[str, Any]) -> Sweep:
    """A sweep from the mapping that its YAML holds.

    Raises:
        UserError: an unknown key, a value out of range, or a combination that no doc can have.
    """
    _known("key", data, _KEYS)
    for key in ("name", "task", "vary"):
        if key not in data:
            raise UserError(f"a sweep needs '{key}'")
    name, kind = str(data["name"]), str(data["task"]).removeprefix("mimic_")
    if not name.replace("_", "").isalnum() or not name.isascii() or name != name.lower():
        raise UserError(f"name must be lower-case letters, digits and _, got '{name}'")
    spec = spec_of(kind)
    if spec.matcher is None:
        raise UserError(f"{spec.title} has no sweeps")
    fixed, vary = _mapping(data, "fixed"), _mapping(data, "vary")
    usable = (*spec.sweep_controls, *_TRANSFORMS)
    for keys in (fixed, vary):
        _known(f"control of {kind}", keys, usable)
    both = sorted(set(fixed) & set(vary))
    if both:
        raise UserError(f"{', '.join(both)} is both fixed and varied")
    cells = _cells(kind, fixed, {key: _values(key, values) for key, values in vary.items()})
    x, series = _figure(_mapping(data, "figure"), tuple(vary))
    return Sweep(
        name=name,
        title=str(data.get("title", name)),
        kind=kind,
        docs=check_integer("docs", data.get("docs", 100), least=1, most=100_000),
        seed=check_integer("seed", data.get("seed", 0), least=0, most=2**63 - 1),
        cells=cells,
        vary=tuple(vary),
        x=x,
        series=series,
    )


def _known(kind: str, given: Mapping[str, Any], valid: Sequence[str]) -> None:
    for key in given:
        if key not in valid:
            symbol = _SYMBOLS.get(str(key))
            hint = f" Did you mean '{symbol}'?" if symbol in valid else ""
            raise UserError(f"Unknown {kind} '{key}'.{hint}" if hint else nearest(kind, str(key), valid))


def _mapping(data: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = data.get(key) or {}
    if not isinstance(value, dict):
        raise UserError(f"{key} must map controls to values, got {value!r:.80}")
    return value


def _values(key: str, values: object) -> list[Value]:
    if not isinstance(values, list) or not values:
        raise UserError(f"vary: {key} must be a list of values like [1, 2, 4], got {values!r:.80}")
    if len({repr(value) for value in values}) != len(values):
        raise UserError(f"vary: {key} lists a value twice")
    return values


def _cells(kind: str, fixed: Mapping[str, Any], vary: Mapping[str, Sequence[Value]]) -> tuple[SweepCell, ...]:
    cells = []
    for values in product(*vary.values()):
        varied = dict(zip(vary, values, strict=True))
        name = ",".join(f"{key}={_text(value)}" for key, value in varied.items()) or "all"
        try:
            cells.append(_cell(kind, name, fixed, varied))
        except UserError as error:
            raise UserError(f"cell {name}: {error}") from error
        if len(cells) > MAX_CELLS:
            raise UserError(f"the grid has more than {MAX_CELLS} cells")
    return tuple(cells)


def _cell(kind: str, name: str, fixed: Mapping[str, Any], varied: Mapping[str, Value]) -> SweepCell:
    given = {**fixed, **varied}
    for key in varied:
        if key in _RANGES and (isinstance(given[key], bool) or not isinstance(given[key], int)):
            raise UserError(f"{key} varies over integers, got {given[key]!r}")
    spec = spec_of(kind)
    ranges: dict[str, Range] = {}
    for key, most in _RANGES.items():
        if key in given:
            least = {"distractors": 0, "confusable": 0, "n_images": spec.minimum_images}.get(key, 1)
            ranges[key] = parse_range(key, str(given[key]), minimum=least, maximum=most)
    split = given.get("split", "balanced")
    if split not in SPLITS[:2]:
        raise UserError(f"split must be one of {', '.join(SPLITS[:2])}, got {split!r}")
    if not isinstance(given.get("hard", False), bool):
        raise UserError(f"hard must be true or false, got {given['hard']!r}")
    category = given.get("category")
    if category is not None and not isinstance(category, str):
        raise UserError(f"category must be a text, got {category!r}")
    only: dict[str, Any] = {**ranges, **({"split": split} if "split" in spec.sweep_controls else {})}
    controls = Controls(
        **only,
        k=check_integer("k", given.get("k", 1), least=1, most=5),
        hard=given.get("hard", False),
        category=category,
        narrowed=True,
    )
    controls.sizes(kind)  # refuses what the task cannot have
    transform = parse_transform(given.get("stitch", "none"), given.get("downsample", 1))
    check_transform(kind, transform)
    return SweepCell(
        name=name,
        values={key: _plain(value) for key, value in varied.items()},
        controls=controls,
        transform=transform,
    )


def _plain(value: Value) -> Value:
    return _text(value) if isinstance(value, bool) else value


def _text(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _figure(figure: Mapping[str, Any], vary: tuple[str, ...]) -> tuple[str, str | None]:
    _known("key of figure", figure, ("x", "series"))
    valid = (*vary, *RUN_SETTINGS)
    x = str(figure.get("x", vary[0] if vary else "pool"))
    series = figure.get("series", next((key for key in vary if key != x), None) if x in vary else None)
    for key, value in (("x", x), ("series", series)):
        if value is not None and value not in valid:
            raise UserError(f"figure: {key}: {nearest('key', str(value), valid)}")
    return x, None if series is None else str(series)
