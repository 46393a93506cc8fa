"""Locks between processes, here and on machines that share a folder."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from mimic_eval.records import UserError


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """A lock that no other process has while it is entered; a killed process loses it.

    Args:
        path: of the lock's file; made if it is missing.
        wait: for another process, instead of yielding False.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(descriptor)
