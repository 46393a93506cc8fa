"""JSON files of ours that a later run relies on: each names its format, version and a digest of its content.

So another tool's file, one of another version, and one that was cut off or edited are refused.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mimic_eval.records.errors import UserError
from mimic_eval.records.folders import write_atomically


def write_stamped(path: Path, record: Mapping[str, Any], *, form: str, version: int) -> None:
    """Write a record; the file is written atomically, and replaces what was there.

    Args:
        path: where to.
        record: JSON-able; may not use the keys `format`, `version` and `digest`.
        form: of the file ("mimic_eval calibration").
        version: of the form.

    Raises:
        UserError: the folder cannot be written.
    """
    stamped = {"format": form, "version": version, **record}
    text = json.dumps({**stamped, "digest": _digest(stamped)}, indent=1, sort_keys=True) + "\n"
    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error})") from error


def read_stamped(path: Path, *, form: str, version: int, name: str, command: str) -> dict[str, Any]:
    """What `write_stamped` was given.

    Args:
        path: of the file.
        form: as for `write_stamped`.
        version: the one that is read.
        name: of such a file, for messages ("calibration").
        command: that makes it, for messages ("mimic calibrate").

    Raises:
        UserError: no such file, or not a complete one of this version.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{name} {path} cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{name} {path} is not JSON: make it again with {command}") from error
    if not isinstance(record, dict) or record.get("format") != form:
        raise UserError(f"{path} is not a file of {command}")
    if record.get("version") != version:
        raise UserError(
            f"{name} {path} has version {record.get('version')}, this mimic-eval reads version {version}: "
            f"make it again with {command}"
        )
    if record.get("digest") != _digest(record):
        raise damaged(path, "its content has been changed", name=name, command=command)
    return {key: value for key, value in record.items() if key not in ("format", "version", "digest")}


def damaged(path: Path, reason: object, *, name: str, command: str) -> UserError:
    """The error for a file whose content does not fit."""
    return UserError(f"{name} {path} is damaged ({reason}): make it again with {command}")


def _digest(record: Mapping[str, Any]) -> str:
    """SHA-256 of all else in the file, so that a changed number is noticed."""
    rest = {key: value for key, value in record.items() if key != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
