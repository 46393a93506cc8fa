"""An append-only file of cached results; a killed process damages its last line at most."""

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mimic_eval.records import UserError


class ExportJournal:
    """JSON records in the order they were entered. One process at a time can have it open.

    A record is in the file when `enter` returns. Reading stops at the first incomplete line (a process
    was killed as it wrote it), and the file is cut off there.

    Args:
        path: the file; made if it is missing.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise UserError(f"--out {path.parent} is being written by another process") from error

    def read(self) -> Iterator[dict[str, Any]]:
        """The records of earlier processes. To be read to the end before anything is entered."""
        self._file.seek(0)
        complete = 0
        for line in self._file:
            record = _record(line)
            if record is None:
                break
            complete += len(line)
            yield record
        if complete < self._file.seek(0, os.SEEK_END):
            self._file.truncate(complete)

    def enter(self, record: dict[str, Any]) -> None:
        """Append a record."""
        self._file.write(json.dumps(record).encode() + b"\n")
        self._file.flush()  # costs next to nothing beside the decoding of a picture

    def close(self) -> None:
        """Let another process have it."""
        self._file.close()


def _record(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
