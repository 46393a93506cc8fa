"""Files and folders that appear complete or not at all; after a kill, the same command completes them."""

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mimic_eval.records.errors import UserError

PARTIAL = ".partial"
"""Below a folder: where its files are until all of them are written. Temporary files' names end so too."""
COMPLETE = ".complete.json"
"""Below a folder: the arguments that it was made with, while its files are moved into it."""
_TRIES = 10
"""Of `write_atomically`, where several processes write one file."""

_ONES = "lock", "complete.json"  # below `PARTIAL`, as versions before this one left them
Made = Callable[[Path], Mapping[str, Any] | None]
"""The arguments recorded in a finished folder, or None if it is no finished folder of that kind."""


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that readers see all of it or what was there before, also after a kill.

    What a killed process left of the same file is removed.

    Args:
        path: replaced if it is there; its folder is made.
        data: on the disk when this returns.

    Raises:
        OSError: it cannot be written; nothing is left of it.
    """
    for left in reversed(range(_TRIES)):
        try:
            _write_beside(path, data)
            return
        except FileNotFoundError:  # another writer of it removed the temporary file before it was locked
            if not left:
                raise


def _write_beside(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    start = f".{path.name[:100]}."
    _remove_abandoned(path.parent, start)
    descriptor, name = tempfile.mkstemp(prefix=start, suffix=PARTIAL, dir=path.parent)
    with os.fdopen(descriptor, "wb") as file:
        try:
            _lock(file.fileno())
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
            raise


def is_abandoned(path: Path) -> bool:
    """A temporary file of `write_atomically` whose process has ended without removing it."""
    if not (path.name.startswith(".") and path.name.endswith(PARTIAL) and path.name != PARTIAL):
        return False
    try:
        with path.open("rb") as file:
            return _lock(file.fileno())
    except OSError:
        return False


@contextlib.contextmanager
def workspace(
    out: Path,
    arguments: Mapping[str, Any],
    *,
    made: Made | None = None,
    option: str = "--out",
    wait: bool = False,
) -> Iterator[Path | None]:
    """A folder inside `out` to write files to; they are moved into `out` when the block ends.

    A block that fails leaves nothing. A process killed in it leaves `out` with a `.partial` folder, which the
    next one clears and writes again; one killed while the files are moved leaves a note of its arguments, and
    the next one with the same arguments moves the rest. The note is deleted last, in one step, so that a
    folder without it is finished.

    Args:
        out: a folder that is missing, empty, left by a killed process, or finished with these arguments.
        arguments: all that the files depend on, JSON-able.
        made: reads the arguments of a finished folder; None to refuse every finished folder.
        option: how the user named `out`, for messages; empty for an argument without a name.
        wait: for another process that writes the folder, instead of refusing it.

    Yields:
        The folder to write to, empty; None if all files are written already, by a process that was killed
        afterwards or by one that has finished.

    Raises:
        UserError: `out` holds something else, cannot be written, or is being written by another process.
    """
    wanted = json.loads(json.dumps(arguments))
    while True:
        if _finished(out, wanted, made, option):
            yield None
            return
        new = not out.exists()
        partial = out / PARTIAL
        descriptor = _claim(out, option=option, wait=wait)
        if descriptor is None:
            continue
        if (out / COMPLETE).exists() or not _files_in(out):
            break
        partial.rmdir()  # another process has finished it since we looked
        os.close(descriptor)
    try:
        begun = _read(out / COMPLETE)
        if begun is None:
            try:
                _clear(partial)
                yield partial
                if _files_in(out):
                    raise UserError(
                        f"{_name(out, option)} was filled by another process meanwhile: choose another"
                    )
                note = partial / COMPLETE
                write_atomically(note, json.dumps(wanted).encode())
                note.rename(out / COMPLETE)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                if new:
                    with contextlib.suppress(OSError):
                        out.rmdir()
                raise
        elif begun != wanted:
            if not os.listdir(partial):
                partial.rmdir()
            raise UserError(
                f"{_name(out, option)} holds files of an interrupted command with other arguments "
                f"({differences(begun, wanted)}): remove it, or run that command again to complete it"
            )
        else:
            yield None
        _move(partial, out, option)
    finally:
        os.close(descriptor)


def is_finished(out: Path) -> bool:
    """A folder with files that no process is writing, nor was killed while it wrote them."""
    return (
        out.is_dir()
        and bool(_files_in(out))
        and not (out / PARTIAL).exists()
        and not (out / COMPLETE).exists()
    )


def check_path(out: Path, option: str = "--out") -> None:
    """Refuse a path that cannot become a folder, before any work is done.

    Raises:
        UserError: a file, a link to nothing, or a path that cannot be looked at.
    """
    try:
        if out.is_symlink() and not out.exists():
            raise UserError(f"{_name(out, option)} is a link to nothing")
        if out.exists() and not out.is_dir():
            raise UserError(f"{_name(out, option)} is a file: choose a folder")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{_name(out, option)}: cannot be written ({reason})") from error


def filled(out: Path, option: str = "--out") -> UserError:
    """The refusal of a folder that holds something else."""
    return UserError(f"{_name(out, option)} exists and is not empty: choose another folder, or remove it")


def check_empty(out: Path, option: str = "--out") -> None:
    """Refuse a path that holds something.

    Raises:
        UserError: a file, a link to nothing, or a folder with anything in it.
    """
    check_path(out, option)
    if out.exists() and os.listdir(out):
        raise filled(out, option)


def done(out: Path) -> str:
    """The message of a command whose work was already done."""
    return f"{out} is complete already, written with the same arguments: nothing was changed"


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Which arguments differ, as a user gives them: ``--docs (20, now 30), --seed (0, now 1)``."""
    parts = []
    for name in {**before, **now}:
        was, is_ = before.get(name), now.get(name)
        if was == is_:
            continue
        pairs = list(zip(_records(was), _records(is_), strict=False))
        if pairs and len(pairs) == len(was or ()) == len(is_ or ()):  # the sweeps of a folder
            parts += [differences(*pair) for pair in pairs if pair[0] != pair[1]]
        else:
            parts.append(f"--{name.replace('_', '-')} ({_text(was)}, now {_text(is_)})")
    return ", ".join(parts)


def _records(value: Any) -> list[Mapping[str, Any]]:
    return value if isinstance(value, list) and all(isinstance(each, dict) for each in value) else []


def _finished(out: Path, wanted: Mapping[str, Any], made: Made | None, option: str) -> bool:
    """Whether `out` is there with these arguments and nothing is left to do.

    Raises:
        UserError: it holds something else.
    """
    check_path(out, option)
    try:
        if not out.exists() or not _files_in(out) or (out / COMPLETE).exists():
            return False
        if set(os.listdir(out / PARTIAL) if (out / PARTIAL).is_dir() else ()) & {"complete.json"}:
            return _adopt(out)
    except OSError as error:
        raise UserError(f"{_name(out, option)}: cannot be written ({error.strerror})") from error
    record = made(out) if made is not None else None
    if record is None:
        raise filled(out, option)
    if json.loads(json.dumps(record)) != wanted:
        raise UserError(
            f"{_name(out, option)} exists, made with other arguments ({differences(record, wanted):.300}): "
            "choose another folder, or remove it"
        )
    if (out / PARTIAL).is_dir() and not set(os.listdir(out / PARTIAL)) - set(_ONES):
        shutil.rmtree(out / PARTIAL)
    return True


def _adopt(out: Path) -> bool:
    """Take over a folder of an earlier version whose process was killed while it moved files."""
    (out / PARTIAL / "complete.json").rename(out / COMPLETE)
    return False


def _claim(out: Path, *, option: str, wait: bool) -> int | None:
    """A descriptor with the lock on `out`'s partial folder, or None if the folder has gone meanwhile."""
    partial = out / PARTIAL
    try:
        partial.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(partial, os.O_RDONLY)
        except FileNotFoundError:
            return None
    except (OSError, UnicodeError) as error:
        raise UserError(f"{_name(out, option)}: cannot be written ({error})") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError as error:
        os.close(descriptor)
        raise UserError(f"{_name(out, option)} is being written by another process") from error
    if partial.exists() and os.path.samestat(os.fstat(descriptor), os.stat(partial)):
        return descriptor
    os.close(descriptor)  # the process that held the lock has finished
    return None


def _files_in(out: Path) -> list[str]:
    return [name for name in os.listdir(out) if name not in (PARTIAL, COMPLETE)]


def _read(note: Path) -> Any | None:
    try:
        return json.loads(note.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        return {}  # somebody else's: no arguments are equal to it


def _clear(partial: Path) -> None:
    for path in partial.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _move(partial: Path, out: Path, option: str) -> None:
    """Move the files into the folder; the note of their arguments is deleted last."""
    try:
        for path in sorted(partial.iterdir()):
            if path.name not in _ONES:
                path.rename(out / path.name)
        shutil.rmtree(partial)
        (out / COMPLETE).unlink()
    except OSError as error:
        raise UserError(f"{_name(out, option)}: cannot be written ({error.strerror})") from error


def _remove_abandoned(folder: Path, start: str) -> None:
    for path in folder.iterdir():
        if path.name.startswith(start) and is_abandoned(path):
            path.unlink(missing_ok=True)


def _lock(descriptor: int) -> bool:
    """Lock a file; whether nobody else has it locked."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _name(out: Path, option: str) -> str:
    return f"{option} {out!s:.200}".strip()


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{name}={one}" for name, one in value.items())
    if isinstance(value, list | tuple):
        return " ".join(str(one) for one in value) or "none"
    return "none" if value is None else str(value)
