"""Reading the docs of a built task folder a few at a time, each value checked (METHODS 13)."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from mimic_eval.records import TASKS, UserError, groups_of, nearest, task_kinds
from mimic_eval.records.reading import one_line
from mimic_tasks.images import BrokenImage, read_named

_BATCH = 16

MAX_TEXT = 100_000
"""The longest text of a doc, in characters; no build comes near it."""


def task_kind(name: str) -> str | None:
    """The kind of a task like ``counting_spread``; None if it has none of ours."""
    first = name.split("_")[0]
    return first if first in TASKS else None


def task_files(folder: Path) -> dict[str, Path]:
    """The parquet file of each task that a folder holds, by the task's name; empty if it has none.

    Names are the short ones: ``counting``, or ``counting_spread`` of a sweep.

    Raises:
        UserError: no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder!s:.200}: no such folder")
    files = {file.parent.name: file for file in folder.glob("*/test.parquet") if file.is_file()}
    names = [name for name in files if task_kind(name)]
    order = task_kinds()
    return {name: files[name] for name in sorted(names, key=lambda n: (order.index(n.split("_")[0]), n))}


def chosen_files(folder: Path, kinds: Sequence[str] | None) -> dict[str, Path]:
    """`task_files` of some tasks, by their short names; of all if None.

    Raises:
        UserError: no such folder; no task in it, or not one of those.
    """
    files = task_files(folder)
    if not files:
        raise UserError(f"{folder}: holds no task (*/test.parquet); make one with: mimic build --out FOLDER")
    for kind in kinds or ():
        if kind not in files:
            raise UserError(f"{folder}: {nearest('task', kind, files)}")
    return {kind: file for kind, file in files.items() if kinds is None or kind in kinds}


def usual_files(files: Mapping[str, Path]) -> dict[str, Path]:
    """Those of the group ``mimic``: without the order suite, unless there is nothing else."""
    usual = groups_of(list(files)).get("mimic", ())
    return {name: file for name, file in files.items() if f"mimic_{name}" in usual}


def count_docs(file: Path) -> int:
    """The number of docs of a task, from the file's footer.

    Raises:
        UserError: not a parquet file.
    """
    with reading(file):
        return int(open_parquet(file).metadata.num_rows)


def stored_columns(file: Path) -> list[str]:
    """The columns of a task's file.

    Raises:
        UserError: not a parquet file.
    """
    with reading(file):
        return list(open_parquet(file).schema_arrow.names)


def names_pictures(file: Path) -> bool:
    """Whether the docs name their pictures (`image_files`) instead of holding them (`images`).

    Raises:
        UserError: not a parquet file.
    """
    return "image_files" in stored_columns(file)


def read_docs(file: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the docs of a task in order, with these columns only; few are in memory at a time.

    `images` is a list of mappings with `bytes` and `path` in either form of storage; the bytes of a named
    picture that is missing are None.

    Raises:
        UserError: not a parquet file, one that is damaged or lacks a column, or a value that no build
            writes; the message names file, doc and column. A picture that is not what its name says.
    """
    stored = stored_columns(file)
    named = "images" in columns and "images" not in stored and "image_files" in stored
    wanted = [name for name in columns if name != "images"] if named else list(columns)
    if named and "image_files" not in wanted:
        wanted.append("image_files")
    lacking = [name for name in wanted if name not in stored]
    if lacking:
        raise UserError(f"{file}: holds no docs of a task: it has no column {', '.join(lacking)}")
    number = 0
    batches = _batches(file, wanted)
    for batch in batches:
        for doc in batch:
            check_values(file, number, doc)
            if named:
                doc["images"] = [_named(file.parent.parent / name) for name in doc["image_files"]]
            number += 1
            yield doc


def check_values(file: Path, number: int, doc: Mapping[str, Any]) -> None:
    """Refuse a doc with a value that its column cannot have.

    Args:
        file: where it is from, for the message.
        number: of the doc in the file, from 0.
        doc: some of the columns of METHODS 13; others are not looked at.

    Raises:
        UserError: naming file, doc and column.
    """
    for name, value in doc.items():
        rule = COLUMN_RULES.get(name)
        if rule is not None and not rule.holds(value):
            raise UserError(
                f"{file}: is damaged, or no build wrote it: doc {number} has {name} = {brief(value)}, which "
                f"must be {rule.words}; build it again"
            )


def brief(value: object) -> str:
    """A value for a message: its start only if it is large."""
    if isinstance(value, str | bytes):
        return repr(value[:40]) + ("..." if len(value) > 40 else "")
    if isinstance(value, dict | list):
        return f"a {'mapping' if isinstance(value, dict) else 'list'} of {len(value)}"
    return f"{value!r:.40}"


class Rule(NamedTuple):
    """What a column's values are: the test, and the words for it."""

    holds: Callable[[Any], bool]
    words: str


def _text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_TEXT and not value.isspace()


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _list_of(test: Callable[[Any], bool], *, least: int = 0) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and len(value) >= least and all(map(test, value))


def _optional(test: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or test(value)


def _image(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("bytes"), bytes | None)
        and isinstance(value.get("path"), str | None)
    )


def _box(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and _text(value.get("class"))
        and all(_number(value.get(name)) for name in ("x", "y", "width", "height"))
        and all(isinstance(value.get(name), bool) for name in ("target", "small", "crowd"))
    )


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9


def _image_id(value: Any) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool)) or _text(value)


def _file_name(value: Any) -> bool:
    """Below the folder, so that a doc cannot name any file of the disk."""
    return _text(value) and not value.startswith("/") and ".." not in value.split("/") and "\0" not in value


_TEXT = Rule(_text, f"a text of 1 to {MAX_TEXT} characters")
_MAYBE_TEXT = Rule(_optional(_text), f"nothing, or a text of 1 to {MAX_TEXT} characters")
_COUNT = Rule(_count, "an integer from 0")

COLUMN_RULES: Mapping[str, Rule] = {
    "question": _TEXT,
    "gt": _TEXT,
    "task": _TEXT,
    "id": _TEXT,
    "source": _TEXT,
    "content_hash": Rule(
        lambda v: isinstance(v, str) and re.fullmatch("[0-9a-f]{64}", v) is not None, "64 hexadecimal digits"
    ),
    "category": _MAYBE_TEXT,
    "split": _MAYBE_TEXT,
    "cell": _MAYBE_TEXT,
    **dict.fromkeys(("idx", "n_images", "k", "spread", "distractors"), _COUNT),
    "targets": Rule(_list_of(_text, least=1), "a list of class names"),
    "image_ids": Rule(_list_of(_image_id, least=1), "a list of numbers or texts"),
    "images": Rule(_list_of(_optional(_image), least=1), "a list of pictures with bytes and path"),
    "image_files": Rule(_list_of(_file_name, least=1), "a list of file names below the folder"),
    "boxes": Rule(
        _optional(_list_of(_optional(_list_of(_box)))), "nothing, or a list of the boxes of each image"
    ),
}
"""By column: what `mimic build` and `mimic sweep` write there."""


def _named(path: Path) -> dict[str, Any]:
    try:
        data = read_named(path) if path.is_file() else None
    except BrokenImage as error:
        raise UserError(f"{path} {error}: build the folder again") from error
    return {"bytes": data, "path": path.name}


def open_parquet(file: Path, **options: Any) -> Any:
    """A parquet file, its footer read. Wrap what may raise in `reading`."""
    import pyarrow.parquet as pq

    return pq.ParquetFile(file, **options)


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Within it, whatever pyarrow raises of a damaged file is a `UserError` that names the file."""
    import pyarrow as pa

    if not file.is_file():
        raise UserError(f"{file}: no such file")
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, TypeError, OverflowError, MemoryError) as error:
        raise UserError(f"{file}: is not a parquet file that can be read ({one_line(error)})") from error


def _batches(file: Path, columns: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
    """The docs in lists of a few. Errors of whoever uses them pass by as they are."""
    with reading(file):
        batches = open_parquet(file).iter_batches(batch_size=_BATCH, columns=list(columns))
    while True:
        with reading(file):
            batch = next(batches, None)
            docs = None if batch is None else batch.to_pylist()
        if docs is None:
            return
        yield docs
