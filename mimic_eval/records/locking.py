"""Locks between processes, here and on machines that share a folder."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from mimic_eval.records.errors import UserError


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True, named: str | None = None) -> Iterator[bool]:
    """A lock that no other process has while it is entered; a killed process loses it.

    Args:
        path: a file, made if it is missing, or a folder that is there.
        wait: for another process, instead of yielding False.
        named: what a refusal names instead of the path, such as ``--out FOLDER``.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT
        descriptor = os.open(path, flags, 0o644)
    except OSError as error:
        raise UserError(f"{named or path}: cannot be written ({error.strerror or error})") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(descriptor)
