"""``study.json`` and the records of cells: written here, read by `mimic_eval.studies.results`."""

import contextlib
import json
import os
import platform
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mimic_eval.cli.reproducing.data import Built
from mimic_eval.cli.reproducing.plan import Plan, arguments_of, attention_options
from mimic_eval.records import UserError
from mimic_eval.records.folders import check_path, write_atomically
from mimic_eval.records.locking import locked
from mimic_eval.records.reading import read_json
from mimic_eval.studies import Cell, Cost
from mimic_eval.studies.results import CELL_FORMAT, CELLS, FORMAT, RECORD, VERSION

_SAME = ("study", "entries", "cells", "data")
"""Of a record: what all commands that fill one folder have in common."""

_OURS = (CELLS, f".{RECORD}.lock")


def open_folder(plan: Plan, built: Built, out: Path) -> None:
    """Write ``study.json``, or see that the one that is there is of the same study.

    Raises:
        UserError: the folder holds something else, or cannot be written.
    """
    check_path(out)
    with locked(out / f".{RECORD}.lock"):
        _write_or_compare(json.loads(json.dumps(_record(plan, built, out))), out)


def _write_or_compare(record: dict[str, Any], out: Path) -> None:
    path = out / RECORD
    try:
        if not path.is_file():
            if any(entry.name not in _OURS for entry in out.iterdir()):
                raise UserError(f"--out {out} is not empty and holds no study: choose another folder")
            write_atomically(path, (json.dumps(record, indent=1) + "\n").encode())
            return
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written ({error.strerror or error})") from error
    stored = read_json(path)
    if not isinstance(stored, dict) or stored.get("format") != FORMAT or stored.get("version") != VERSION:
        raise UserError(f"--out {out}: its {RECORD} is no study's of this version: choose another folder")
    for part in _SAME:
        before, now = (_without_commands(one.get(part)) for one in (stored, record))
        if before != now:
            what = _difference(before, now)
            raise UserError(
                f"--out {out} holds another run of {stored.get('study', {}).get('id')} ({part}: {what}): "
                "choose another folder, or remove it"
            )


def _record(plan: Plan, built: Built, out: Path) -> dict[str, Any]:
    study = plan.study
    return {
        "format": FORMAT,
        "version": VERSION,
        "study": dict(study.source),
        "file": None if study.path is None else study.path.name,
        "command": shlex.join(["mimic", *sys.argv[1:]]),
        "versions": {name: version(name) for name in ("mimic-eval", "lmms-eval", "torch", "transformers")},
        "machine": machine(),
        "docs": study.docs,
        "data": {"source": built.source, "command": built.command},
        "folder": None if built.folder is None else str(built.folder),
        "notes": [*plan.notes, *built.notes],
        "entries": [
            {"name": entry.name, "model": entry.model, "model_args": dict(entry.model_args)}
            for entry in plan.entries
        ],
        "cells": [
            {
                "name": cell.name,
                "entry": cell.entry.name,
                "setting": cell.setting,
                "measure": cell.measure,
                "order": cell.order,
                "values": dict(cell.values),
                "tasks": list(cell.tasks),
                "model": cell.entry.model,
                "model_args": dict(cell.model_args),
                "command": command_of(cell, plan, built, out),
            }
            for cell in plan.cells
        ],
    }


def _without_commands(part: Any) -> Any:
    """Cells without their commands, which name the folder as it was given."""
    if not isinstance(part, list):
        return part
    return [{key: value for key, value in one.items() if key != "command"} for one in part]


def _difference(before: Any, now: Any) -> str:
    """The first place where two parts differ, in a few words."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in {**before, **now}:
            if before.get(key) != now.get(key):
                return f"{key} {_difference(before.get(key), now.get(key))}"
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        return next(_difference(*pair) for pair in zip(before, now, strict=True) if pair[0] != pair[1])
    return f"{before!s:.60}, now {now!s:.60}"


def add_notes(out: Path, notes: Sequence[str]) -> None:
    """Add lines to ``study.json``, once each."""
    with locked(out / f".{RECORD}.lock"):
        record = read_json(out / RECORD)
        together = list(dict.fromkeys([*record["notes"], *notes]))
        if together != record["notes"]:
            record["notes"] = together
            write_atomically(out / RECORD, (json.dumps(record, indent=1) + "\n").encode())


def command_of(cell: Cell, plan: Plan, built: Built, out: Path) -> str:
    """The command that runs one cell alone."""
    from mimic_tasks.locate import VARIABLE
    from mimic_tasks.permuted.orders import RULE

    folder, study = str(out / CELLS / cell.name), plan.study
    settings = [] if built.folder is None else [f"{VARIABLE}={shlex.quote(str(built.folder))}"]
    settings += [f"{RULE}={shlex.quote(study.permuted_orders)}"] if study.permuted_orders else []
    words = ["--model", cell.entry.model, "--model_args", arguments_of(cell), "--tasks", ",".join(cell.tasks)]
    if cell.measure == "attention":
        words = ["mimic", "diagnose", *words, "--docs", str(study.docs), "--out", folder]
        for option, value in attention_options(cell, study).items():
            for one in value if isinstance(value, tuple) else (value,):
                words += [f"--{option}", one]
    else:
        limit = [] if plan.limit is None else ["--limit", str(plan.limit)]
        words = ["lmms_eval", *words, *limit, "--log_samples", "--output_path", folder]
    return " ".join([*settings, shlex.join(words)])


def is_finished(cell: Cell, out: Path) -> bool:
    """Whether a cell's record is there."""
    return (out / CELLS / f"{cell.name}.json").is_file()


def finish(cell: Cell, out: Path, *, run: Mapping[str, Any], cost: Cost) -> None:
    """Write a cell's record: it is finished then.

    Raises:
        UserError: it cannot be written.
    """
    record = {"format": CELL_FORMAT, "version": VERSION, "run": dict(run), "cost": cost._asdict()}
    path = out / CELLS / f"{cell.name}.json"
    try:
        write_atomically(path, (json.dumps(record, indent=1) + "\n").encode())
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error


@contextlib.contextmanager
def claimed(cell: Cell, out: Path) -> Iterator[bool]:
    """A cell, for this process alone while it is entered; yields False if another process runs it."""
    with locked(out / CELLS / f".{cell.name}.lock", wait=False) as mine:
        yield mine


def machine() -> str:
    """What it is measured on, in words."""
    name = platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    return f"{os.cpu_count()} x {name}, {platform.system()}"
