"""Checks of a task folder before a run loads a model: one line names the first damaged part."""

import importlib
import json
from collections.abc import Collection, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from mimic_eval.records import UserError, nearest
from mimic_tasks import lmms_hooks
from mimic_tasks.folder import read_task_yaml
from mimic_tasks.lmms_hooks import Function
from mimic_tasks.locate import PERMUTED_SUFFIX
from mimic_tasks.stored_docs import (
    COLUMN_RULES,
    brief,
    check_values,
    open_parquet,
    reading,
    stored_columns,
    task_kind,
)
from mimic_tasks.task_spec import spec_of

_NEEDED = ("question", "gt")
_OPTIONAL = ("task", "idx", "id", "source")  # what upstream's docs may leave empty
_GROUPS = ("mimic", "mimic_order")
_BATCH = 256


def check_tasks_folder(folder: Path, tasks: Collection[str] | None = None) -> None:
    """Refuse a folder of MIMIC tasks on which a run would end in an error, or score against wrong truths.

    It reads the task files (YAML), every column of the docs, and the stored pictures' bytes once; it imports
    pyarrow, and neither torch nor datasets. Pictures are not decoded: one that cannot be is unscored later.

    Args:
        folder: as `mimic build` or `mimic sweep` writes it. Task files of a user that read something
            else than parquet files are left alone.
        tasks: what a run requests, as ``--tasks`` has it: names and patterns; a permuted task means its
            plain one, a group (``mimic``, ``mimic_order``, ``mimic_permuted``) all. Other names are not
            looked at.
            None: all tasks of the folder.

    Raises:
        UserError: no such folder; a task file that is no YAML, is not named like its task, or names functions
            that are not there or score another task; a docs file that is missing, damaged or without docs; a
            truth that is missing, empty or not of its task's form (a word or a negative number for a count);
            a missing or empty column. The message names the file, the doc and the column.
    """
    if not folder.is_dir():
        raise UserError(f"{folder!s:.200}: no such folder")
    for file in _requested_files(folder, tasks):
        config = read_task_yaml(file)
        docs = _docs_file(file, config)
        kind = task_kind(file.stem.removeprefix("mimic_"))
        if kind is not None and docs is not None:
            check_docs(kind, docs)


def check_keys(folder: Path, tasks: Collection[str], known: Collection[str]) -> None:
    """Refuse a task file with a key that lmms-eval does not have.

    Args:
        folder: of task files.
        tasks: what a run requests, as in `check_tasks_folder`.
        known: the keys.

    Raises:
        UserError: an unknown key, with the nearest known one.
    """
    for file in _requested_files(folder, tasks):
        config = read_task_yaml(file)
        if _is_ours(config):
            for key in config:
                if key not in known:
                    raise UserError(f"{file}: {nearest('key', str(key), sorted(known))}")


def _is_ours(config: Mapping[str, Any]) -> bool:
    """A task file that reads a parquet file, and no group."""
    return "group" not in config and "include" not in config and config.get("dataset_path") == "parquet"


def _requested_files(folder: Path, tasks: Collection[str] | None) -> list[Path]:
    """The task files that a run reads, or None for all of the folder."""
    files = sorted(folder.glob("mimic*.yaml"))
    return [file for file in files if tasks is None or any(_means(name, file.stem) for name in tasks)]


def _means(pattern: str, task: str) -> bool:
    """Whether a name or pattern of ``--tasks`` means a task of the folder."""
    return pattern.removesuffix(PERMUTED_SUFFIX) in _GROUPS or any(
        fnmatch(name, pattern) for name in (task, task + PERMUTED_SUFFIX)
    )


def check_docs(kind: str, file: Path) -> None:
    """Refuse a file of docs that cannot be read, or whose questions or truths cannot be right.

    Args:
        kind: the task.
        file: its parquet file.

    Raises:
        UserError: see `check_tasks_folder`.
    """
    stored = stored_columns(file)
    lacking = [name for name in _NEEDED if name not in stored]
    if "images" not in stored and "image_files" not in stored:
        lacking.append("images")
    if lacking:
        raise UserError(f"{file}: holds no docs of a task: it has no column {', '.join(lacking)}")
    truth_fault = spec_of(kind).truth_fault
    checked = [name for name in stored if name in COLUMN_RULES and name != "images"]
    number = 0
    with reading(file):
        opened = open_parquet(file)
        _check_note(file, opened.schema_arrow.metadata or {})
        for batch in opened.iter_batches(batch_size=_BATCH, columns=checked):
            for doc in batch.to_pylist():
                present = {n: v for n, v in doc.items() if v is not None or n not in _OPTIONAL}
                check_values(file, number, present)
                fault = truth_fault(str(doc["gt"]), doc.get("targets") or ())
                if fault:
                    raise UserError(f"{file}: doc {number} has gt = {brief(doc['gt'])}: {fault}")
                number += 1
    if not number:
        raise UserError(f"{file}: holds no docs: build it again")
    if "images" in stored:
        _check_pictures(file)


def _docs_file(file: Path, config: Mapping[str, Any]) -> Path | None:
    """The docs that a task file names; None if it reads something else than a parquet file of its folder.

    Raises:
        UserError: it names docs or functions that are not there, or another task than its file name.
    """
    if not _is_ours(config):
        return None
    if config.get("task") != file.stem:
        raise UserError(f"{file}: must have `task: {file.stem}`, got {brief(config.get('task'))}")
    arguments = config.get("dataset_kwargs")
    files = arguments.get("data_files") if isinstance(arguments, dict) else None
    name = files.get(config.get("test_split", "test")) if isinstance(files, dict) else None
    if not isinstance(name, str):
        raise UserError(
            f"{file}: dataset_kwargs must name the docs, as in data_files: {{test: a/test.parquet}}"
        )
    metrics, metadata = config.get("metric_list"), config.get("metadata", {})
    if not isinstance(metadata, dict):
        raise UserError(f"{file}: metadata must be a mapping, got {brief(metadata)}")
    if not isinstance(metrics, list) or not all(
        isinstance(entry, dict) and "metric" in entry for entry in metrics
    ):
        raise UserError(f"{file}: metric_list must be a list of mappings with `metric`, got {brief(metrics)}")
    if not isinstance(config.get("generation_kwargs", {}), dict):
        raise UserError(
            f"{file}: generation_kwargs must be a mapping, got {brief(config['generation_kwargs'])}"
        )
    docs = file.parent / name
    if not docs.is_file():
        raise UserError(f"{file}: its docs {docs} are not there: build the folder again")
    _check_functions(file, config)
    return docs


def _check_functions(file: Path, config: Mapping[str, Any]) -> None:
    """That the functions of a task file are there, and that ours score the task that it is named for."""
    kind = task_kind(file.stem.removeprefix("mimic_"))
    scorer = config.get("process_results")
    ours = isinstance(scorer, Function) and scorer.startswith(f"{lmms_hooks.__name__}.")
    right = f"{lmms_hooks.__name__}.process_{kind}"
    if kind is not None and ours and scorer != right:
        raise UserError(f"{file}: process_results must be {right}, got {scorer}: build the folder again")
    aggregations = [entry.get("aggregation") for entry in config["metric_list"]]
    for value in (*config.values(), *aggregations):
        if isinstance(value, Function) and not _is_there(value, file.parent):
            raise UserError(f"{file}: names the function {value}, which is not there: build the folder again")
    if ours and not all(isinstance(value, Function) for value in aggregations):
        raise UserError(f"{file}: each metric's aggregation must name a function (!function): build it again")


def _is_there(function: Function, folder: Path) -> bool:
    """Whether lmms-eval finds a function: imported, or in a file of the folder, which is not read here."""
    module, _, name = function.rpartition(".")
    if (folder / f"{module}.py").is_file():
        return True
    try:
        return callable(getattr(importlib.import_module(module), name, None))
    except (ImportError, ValueError):
        return False


def _check_note(file: Path, metadata: Mapping[bytes, bytes]) -> None:
    """The columns' types that `datasets` reads: what it cannot read ends the run."""
    note = metadata.get(b"huggingface")
    if note is None:
        return
    try:
        features = json.loads(note)["info"]["features"]
        good = isinstance(features, dict) and all(
            isinstance(entry, dict | list) for entry in features.values()
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        good = False
    if not good:
        raise UserError(f"{file}: the note on its columns is damaged: build it again")


def _check_pictures(file: Path) -> None:
    """That the pictures' bytes can be read; a picture that many docs show is read once."""
    import pyarrow.compute as pc

    with reading(file):
        paths = [column.path for column in open_parquet(file).schema]
        held = [path for path in paths if path.startswith("images.") and path.endswith(".bytes")]
        opened = open_parquet(file, read_dictionary=held)
        stored = opened.schema_arrow.field("images").type
        if not _holds_pictures(stored):
            raise UserError(f"{file}: its column images holds {stored!s:.80} and no pictures: build it again")
        number = 0
        for batch in opened.iter_batches(batch_size=_BATCH, columns=["images"]):
            for count in pc.list_value_length(batch.column(0)).to_pylist():
                if not count:
                    raise UserError(f"{file}: doc {number} has no pictures: build it again")
                number += 1


def _holds_pictures(type_: Any) -> bool:
    import pyarrow as pa

    if not (pa.types.is_list(type_) or pa.types.is_large_list(type_)) or not pa.types.is_struct(
        type_.value_type
    ):
        return False
    names = {field.name: field.type for field in type_.value_type}
    data = names.get("bytes")
    if data is not None and pa.types.is_dictionary(data):
        data = data.value_type
    return data is not None and (pa.types.is_binary(data) or pa.types.is_large_binary(data))
