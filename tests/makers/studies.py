"""Folders of `mimic reproduce`, from runs given by hand."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mimic_eval.studies.results import CELL_FORMAT, CELLS, FORMAT, RECORD, VERSION, Cost


def cell(name: str, *, entry: str = "base", tasks: Sequence[str], **more: Any) -> dict[str, Any]:
    """A planned cell whose setting has its name, or as `more` says."""
    return {
        "name": name, "entry": entry, "setting": name, "measure": "scores", "order": "fixed", "values": {},
        "tasks": list(tasks), "model": "llava_ov_mask", "model_args": {}, "command": f"lmms_eval # {name}",
        **more,
    }  # fmt: skip


def write_study(
    folder: Path, spec: Mapping[str, Any], cells: Sequence[Mapping[str, Any]], runs: Mapping[str, Any]
) -> Path:
    """Write the records of a study; `runs` are the announced settings of the finished cells, whose run
    folders the caller writes into ``cells/NAME``."""
    (folder / CELLS).mkdir(parents=True, exist_ok=True)
    record = {
        "format": FORMAT, "version": VERSION, "study": dict(spec), "cells": [dict(one) for one in cells],
        "command": "mimic reproduce made:here", "versions": {"torch": "2.x"}, "machine": "none", "docs": 9,
        "entries": {}, "notes": [],
    }  # fmt: skip
    (folder / RECORD).write_text(json.dumps(record))
    for name, run in runs.items():
        cost = Cost(docs=9, answered=9, layer_flops=2e9, layer_flops_dense=1e10, seconds=1.5)
        finished = {"format": CELL_FORMAT, "version": VERSION, "run": run, "cost": cost._asdict()}
        (folder / CELLS / f"{name}.json").write_text(json.dumps(finished))
    return folder
