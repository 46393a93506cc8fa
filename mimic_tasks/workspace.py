"""Writing a folder so that a kill at any moment leaves nothing, or what the same command completes."""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mimic_eval.records import UserError

PARTIAL = ".partial"
"""Where a folder's files are until all of them are written."""

_LOCK, _COMPLETE = "lock", "complete.json"


@contextlib.contextmanager
def workspace(out: Path, arguments: Mapping[str, Any]) -> Iterator[Path | None]:
    """A folder inside `out` to write files to, which become `out`'s own when the block ends.

    A block that fails leaves nothing. A process killed in the block leaves `out` with a `.partial` folder,
    which the next one clears and writes again; one killed while the files are put in their place leaves what
    the next one with the same arguments puts there too.

    Args:
        out: a folder that is missing, empty, or left by a killed process.
        arguments: all that the files depend on, JSON-able.

    Yields:
        The folder to write to; None if a killed process with the same arguments had written all files, and
        there is nothing left to do.

    Raises:
        UserError: `out` holds something, cannot be written, or is being written by another process.
    """
    made = _make(out)
    partial = out / PARTIAL
    with _locked(partial, out):
        finished = _read_complete(partial)
        if finished is None:
            try:
                _clear(partial)
                yield partial
                if _own_files(out):
                    raise UserError(f"--out {out} was filled by somebody else meanwhile: choose another")
                (partial / _COMPLETE).write_text(json.dumps(arguments), encoding="utf-8")
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                if made:
                    with contextlib.suppress(OSError):
                        out.rmdir()
                raise
        elif finished != json.loads(json.dumps(arguments)):
            raise UserError(
                f"--out {out} holds files of an interrupted build with other arguments: remove it, "
                "or run that build's command again to complete it"
            )
        else:
            yield None
        _place(partial, out)


def check_out(out: Path) -> None:
    """Refuse a place that holds something already, before any work is done.

    Raises:
        UserError: a file, a link to nothing, or a folder with files of its own.
    """
    try:
        if out.is_symlink() and not out.exists():
            raise UserError(f"--out {out} is a link to nothing")
        if out.exists() and not out.is_dir():
            raise UserError(f"--out {out} is a file: choose a folder")
        if out.exists() and _own_files(out) and _read_complete(out / PARTIAL) is None:
            with contextlib.suppress(OSError):  # a process killed at its last step
                (out / PARTIAL).rmdir()
            raise UserError(f"--out {out} exists and is not empty: choose another folder, or remove it")
    except OSError as error:
        raise UserError(f"--out {out!s:.200}: cannot be written ({error.strerror})") from error


def _own_files(out: Path) -> list[str]:
    return [name for name in os.listdir(out) if name != PARTIAL]


def _make(out: Path) -> bool:
    """Make the folders, so that a place that cannot be written is found at once; whether `out` is new."""
    check_out(out)
    made = not out.exists()
    try:
        (out / PARTIAL).mkdir(parents=True, exist_ok=True)
    except (OSError, UnicodeError) as error:
        raise UserError(f"--out {out!s:.200}: cannot be written ({error})") from error
    return made


@contextlib.contextmanager
def _locked(partial: Path, out: Path) -> Iterator[None]:
    with (partial / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"--out {out} is being written by another process") from error
        yield


def _read_complete(partial: Path) -> Any | None:
    """The arguments of a process that was killed after it had written all files."""
    try:
        return json.loads((partial / _COMPLETE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _clear(partial: Path) -> None:
    for path in partial.iterdir():
        if path.name == _LOCK:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _place(partial: Path, out: Path) -> None:
    """Put the files in their place; the note that all are written goes last, with the folder."""
    try:
        for path in sorted(partial.iterdir()):
            if path.name not in (_LOCK, _COMPLETE):
                path.rename(out / path.name)
        (partial / _LOCK).unlink()
        (partial / _COMPLETE).unlink()
        partial.rmdir()
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written ({error.strerror})") from error
