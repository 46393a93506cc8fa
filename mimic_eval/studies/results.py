"""The results of a study: ``study.json``, and for each finished cell its run folder and its record.

``OUT/study.json`` says what was planned (the study, the entries, the cells, commands and versions).
``OUT/cells/NAME/`` is an ordinary output folder of `lmms_eval` (or of `mimic diagnose`), and
``OUT/cells/NAME.json``, written when the cell is finished, its settings and its cost.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mimic_eval.records import UserError
from mimic_eval.records.reading import read_json
from mimic_eval.studies.fields import Value
from mimic_eval.studies.spec import Study, parse_study

FORMAT, CELL_FORMAT = "mimic_eval study", "mimic_eval study cell"
VERSION = 1
RECORD, CELLS = "study.json", "cells"


class Cost(NamedTuple):
    """What a cell cost. None: not known.

    Attributes:
        docs: in it.
        answered: docs that were answered in this time; the others' answers were stored already.
        passes: forward passes over a prompt, of all docs.
        prompt_tokens: of all docs, as one pass sees them.
        visual_tokens: of these, those of images.
        output_tokens: generated.
        layers: of the decoder.
        masked_layers: of these, those that the intervention changes.
        layer_flops: attention FLOPs (products of queries, keys and values, prompts only) of one changed
            layer, all docs and passes; of one layer if none is changed.
        layer_flops_dense: the same, causal.
        attention_flops: of all layers.
        attention_flops_dense: the same, causal.
        decoder_flops: of the whole decoder: attention and all matrices.
        decoder_flops_dense: the same, causal.
        seconds: of the answers (`answered` docs), without loading.
        peak_memory: bytes: of the device if it is a GPU, else of the process, which runs other cells too.
        device: ``cpu``, ``cuda``.
    """

    docs: int
    answered: int | None = None
    passes: int | None = None
    prompt_tokens: int | None = None
    visual_tokens: int | None = None
    output_tokens: int | None = None
    layers: int | None = None
    masked_layers: int | None = None
    layer_flops: float | None = None
    layer_flops_dense: float | None = None
    attention_flops: float | None = None
    attention_flops_dense: float | None = None
    decoder_flops: float | None = None
    decoder_flops_dense: float | None = None
    seconds: float | None = None
    peak_memory: int | None = None
    device: str | None = None


@dataclass(frozen=True)
class CellResult:
    """A finished cell.

    Attributes:
        name: of the cell.
        entry: the entry's name.
        setting: the setting's name.
        measure: ``scores`` or ``attention``.
        order: of ``order=``.
        values: of the arguments that vary.
        tasks: of lmms-eval.
        model: of lmms_eval.
        model_args: as given.
        command: that repeats it alone.
        folder: of its run: `leaderboard.runs.read_runs` reads ``scores``, `leaderboard.diagnosis` the others.
        run: what the model announced of itself (`mimic_eval.records.run`).
        cost: what it cost.
    """

    name: str
    entry: str
    setting: str
    measure: str
    order: str
    values: Mapping[str, Value]
    tasks: tuple[str, ...]
    model: str
    model_args: Mapping[str, Value]
    command: str
    folder: Path
    run: Mapping[str, Any]
    cost: Cost


@dataclass(frozen=True)
class StudyResult:
    """A study's results.

    Attributes:
        study: its file's content, with the docs that were run.
        record: all of ``study.json``: beside ``study`` and ``cells`` its ``command``, ``versions``,
            ``machine``, ``entries``, ``docs``, ``data`` (what was built of what) and ``notes`` (a line each
            for what was left out or made on the way).
        cells: the finished ones, in the study's order.
        missing: names of cells that are planned and not finished.
        out: the folder.
    """

    study: Study
    record: Mapping[str, Any]
    cells: tuple[CellResult, ...]
    missing: tuple[str, ...]
    out: Path


def load_results(out: Path) -> StudyResult:
    """The results in a folder of `mimic reproduce`.

    Raises:
        UserError: it holds none, or a file is damaged.
    """
    record = _read(out / RECORD, FORMAT)
    try:
        study = parse_study(record["study"])
        planned = {cell["name"]: cell for cell in record["cells"]}
        cells, missing = [], []
        for name, cell in planned.items():
            file = out / CELLS / f"{name}.json"
            if not file.is_file():
                missing.append(name)
                continue
            finished = _read(file, CELL_FORMAT)
            cells.append(
                CellResult(
                    **{key: cell[key] for key in _SAME},
                    tasks=tuple(cell["tasks"]),
                    folder=out / CELLS / name,
                    run=finished["run"],
                    cost=Cost(**finished["cost"]),
                )
            )
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{out / RECORD} is damaged ({error!r:.100}): run mimic reproduce again") from error
    return StudyResult(study, record, tuple(cells), tuple(missing), out)


_SAME = ("name", "entry", "setting", "measure", "order", "values", "model", "model_args", "command")


def _read(path: Path, form: str) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{path}: no such file; give the --out of mimic reproduce")
    record = read_json(path)
    if not isinstance(record, dict) or record.get("format") != form:
        raise UserError(f"{path} is not a file of mimic reproduce")
    if record.get("version") != VERSION:
        raise UserError(
            f"{path} has version {record.get('version')}, this mimic-eval reads version {VERSION}: run mimic "
            "reproduce again"
        )
    return record
