"""The folder of a diagnosed run: one process at a time, one run, resumed where it stopped."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mimic_eval.records import UserError
from mimic_eval.records.folders import write_atomically
from mimic_eval.records.locking import locked
from mimic_eval.records.reading import read_json

FORMAT = "mimic_eval diagnosis"
VERSION = 1
RUN = "run.json"
SUMMARY = "diagnose.json"


@contextmanager
def run_folder(out: Path, run: Mapping[str, Any]) -> Iterator[bool]:
    """The folder, of this run alone while it is entered; yields whether it is finished.

    Args:
        out: made if it is missing.
        run: all that its numbers depend on, JSON-able.

    Raises:
        UserError: it is another run's, something else's, in use, or cannot be written.
    """
    record = json.loads(json.dumps({"format": FORMAT, "version": VERSION, **run}))
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written ({error.strerror})") from error
    with locked(out, wait=False, named=f"--out {out}") as mine:
        if not mine:
            raise UserError(f"--out {out} is being written by another process")
        stored = read_json(out / RUN) if (out / RUN).exists() else None
        if stored is not None and (isinstance(stored, dict) and stored.get("format")) != FORMAT:
            raise UserError(f"--out {out}: its {RUN} is not a diagnosed run's: choose another folder")
        if {path.name for path in out.iterdir()} - {RUN}:  # else nothing was run
            _check_same(out, stored, record)
        write_atomically(out / RUN, json.dumps(record, indent=1).encode())
        yield (out / SUMMARY).exists()


def _check_same(out: Path, stored: Any, record: Mapping[str, Any]) -> None:
    if stored is None:
        raise UserError(f"--out {out} is not empty and holds no diagnosed run: choose another folder")
    before, now = _flat(stored), _flat(record)
    for key in sorted({*before, *now}, key=lambda key: (key != "run.mask", key)):
        if before.get(key) != now.get(key):
            was, is_ = (str(value.get(key, "absent"))[:80] for value in (before, now))
            raise UserError(f"--out {out} holds another run ({key} {was}, not {is_}): choose another folder")


def _flat(record: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(record, dict):
        return {prefix.removesuffix("."): record}
    flat: dict[str, Any] = {}
    for key, value in record.items():
        flat |= _flat(value, f"{prefix}{key}.")
    return flat


def remove_docs(out: Path, name: str) -> None:
    """Remove the records of single docs, which the tables hold."""
    shutil.rmtree(out / name, ignore_errors=True)
