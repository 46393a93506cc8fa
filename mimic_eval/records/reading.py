"""Reading JSON and YAML files that somebody else may have damaged: what cannot be read is one line."""

import json
import re
from pathlib import Path
from typing import Any

from mimic_eval.records.errors import UserError

MAX_BYTES = 1 << 28
"""The largest file that is read as one text, in bytes (256 MiB)."""

_MAX_DEPTH, _MAX_VALUES = 20, 100_000


def read_bytes(path: Path, *, most: int = MAX_BYTES) -> bytes:
    """The bytes of a regular file.

    Args:
        path: the file.
        most: the largest size in bytes.

    Raises:
        UserError: missing, no regular file (a pipe would wait for ever), not readable, or larger than `most`.
    """
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: is not a file")
        if path.stat().st_size > most:
            raise UserError(f"{path}: is larger than {most} bytes, the most that is read")
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise UserError(f"{path!s:.200}: cannot be read ({one_line(error)})") from error


def read_json(path: Path, *, most: int = MAX_BYTES) -> Any:
    """What a JSON file holds.

    Args:
        path: the file.
        most: the largest size in bytes.

    Raises:
        UserError: it cannot be read, is too large, or is no JSON.
    """
    data = read_bytes(path, most=most)
    try:
        return json.loads(data)
    except RecursionError as error:
        raise UserError(f"{path}: is nested too deeply") from error
    except ValueError as error:
        raise UserError(f"{path}: is not JSON ({one_line(error)})") from error


def read_yaml(path: Path, *, loader: Any = None, most: int = 1 << 20) -> Any:
    """What a small YAML file holds.

    Args:
        path: the file.
        loader: a subclass of `yaml.SafeLoader`, or None for that one.
        most: the largest size in bytes.

    Raises:
        UserError: it cannot be read, is too large, is no YAML, or holds more than a settings file can
            (nesting above 20, or above 100,000 values once its aliases are followed).
    """
    import yaml

    data = read_bytes(path, most=most)
    try:
        value = yaml.load(data, Loader=loader or yaml.SafeLoader)  # a SafeLoader
    except RecursionError as error:
        raise UserError(f"{path}: is nested too deeply") from error
    except (yaml.YAMLError, ValueError, TypeError) as error:  # of the constructors, as for 2024-13-01
        raise UserError(f"{path}: is not YAML ({one_line(error)})") from error
    _check_size(path, value)
    return value


def one_line(error: BaseException) -> str:
    """An exception's message in one line of at most 200 characters; its type's name if it has none."""
    text = re.sub(r"\s+", " ", str(error)).strip()
    return (text if len(text) <= 200 else f"{text[:197]}...") or type(error).__name__


def _check_size(path: Path, value: Any) -> None:
    """Refuse what would take for ever to print: an alias costs a few bytes and may stand for any number."""
    left = _MAX_VALUES
    level = [value]
    for _ in range(_MAX_DEPTH + 1):
        level = [
            part
            for one in level
            if isinstance(one, dict | list)
            for part in (one.values() if isinstance(one, dict) else one)
        ]
        left -= len(level)
        if not level:
            return
        if left < 0:
            raise UserError(f"{path}: holds more than {_MAX_VALUES} values")
    raise UserError(f"{path}: is nested too deeply")
