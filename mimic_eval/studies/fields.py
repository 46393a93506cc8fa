"""The values of a study file: each is what its key takes, or one line says what it must be."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from mimic_eval.records import UserError, nearest

Value = str | int | float | bool
"""Of an argument."""

_T = TypeVar("_T")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}")
_TASK = re.compile(r"[A-Za-z0-9][\w.-]{0,120}")


def check_keys(
    where: str, given: Mapping[Any, Any], valid: Sequence[str], *, needed: Sequence[str] = ()
) -> None:
    """That a mapping has the keys that it must have, and no other.

    Raises:
        UserError: it has not.
    """
    for key in given:
        if key not in valid:
            raise UserError(nearest(f"key of {where}", str(key), valid))
    for key in needed:
        if given.get(key) is None:
            raise UserError(f"{where} needs '{key}'")


def mapping(where: str, value: Any) -> dict[str, Any]:
    """A mapping; an absent value is an empty one.

    Raises:
        UserError: something else.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UserError(f"{where} must hold `key: value` lines, got {value!r:.80}")
    return {str(key): entry for key, entry in value.items()}


def items(where: str, value: Any, *, least: int = 0) -> list[Any]:
    """A list; an absent value is an empty one.

    Raises:
        UserError: something else, or too few.
    """
    if value is None:
        value = []
    if not isinstance(value, list):
        raise UserError(f"{where} must be a list, got {value!r:.80}")
    if len(value) < least:
        raise UserError(f"{where} must list at least {least}")
    return value


def text(where: str, value: Any, *, default: str | None = None) -> str:
    """A text in one line.

    Raises:
        UserError: something else, or none where there is no default.
    """
    if value is None and default is not None:
        return default
    if isinstance(value, bool) or not isinstance(value, str | int | float) or not str(value).strip():
        raise UserError(f"{where} must be text, got {value!r:.80}")
    return " ".join(str(value).split())


def name(where: str, value: Any) -> str:
    """A name that can be part of a folder's: letters, digits, ``.``, ``_`` and ``-``.

    Raises:
        UserError: something else.
    """
    given = text(where, value)
    if not _NAME.fullmatch(given):
        raise UserError(f"{where} must be a name of letters, digits, '.', '_' and '-', got '{given:.80}'")
    return given


def tasks(where: str, value: Any) -> tuple[str, ...]:
    """Names of tasks, as a list or joined by commas.

    Raises:
        UserError: something else, or a name twice.
    """
    given = value.split(",") if isinstance(value, str) else items(where, value)
    names = [text(where, task) for task in given]
    for task in names:
        if not _TASK.fullmatch(task):
            raise UserError(f"{where}: '{task:.80}' is no name of a task")
        if names.count(task) > 1:
            raise UserError(f"{where} lists {task} twice")
    return tuple(names)


def arguments(where: str, value: Any) -> dict[str, Value]:
    """Arguments of a model, each one value.

    Raises:
        UserError: something else.
    """
    given = mapping(where, value)
    for key, entry in given.items():
        _check_value(f"{where}: {key}", entry)
    return given


def grid(where: str, value: Any) -> dict[str, tuple[Value, ...]]:
    """Lists of values by argument.

    Raises:
        UserError: something else, or a value twice.
    """
    values = {}
    for key, listed in mapping(where, value).items():
        for entry in items(f"{where}: {key}", listed, least=1):
            _check_value(f"{where}: {key}", entry)
        if len({str(entry) for entry in listed}) != len(listed):
            raise UserError(f"{where}: {key} lists a value twice")
        values[key] = tuple(listed)
    return values


def printed(where: str, value: Any) -> str | None:
    """A number as a paper prints it, or None for an empty place.

    Raises:
        UserError: a number that YAML has read: it may have lost a zero.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        raise UserError(f'{where}: write numbers in quotes, as they are printed: "{value}"')
    try:
        float(value)
    except ValueError:
        raise UserError(f"{where}: '{value:.80}' is no number") from None
    return value


def argument_text(value: Value) -> str:
    """A value as ``--model_args`` has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check_value(where: str, value: Any) -> None:
    if not isinstance(value, str | int | float | bool):
        raise UserError(f"{where} must be one value, got {value!r:.80}")
    if not argument_text(value) or set(",\n") & set(argument_text(value)):
        raise UserError(
            f"{where}: '{value!s:.80}' cannot stand in --model_args, whose parts are split at commas"
        )


def each(where: str, value: Any, read: Callable[[str, dict[str, Any]], _T]) -> tuple[_T, ...]:
    """Each mapping of a list; one mapping is a list of one."""
    listed = [value] if isinstance(value, dict) else items(where, value)
    labels = [where if len(listed) == 1 else f"{where} {number}" for number in range(1, len(listed) + 1)]
    return tuple(read(label, mapping(label, one)) for label, one in zip(labels, listed, strict=True))


def one_of(where: str, value: Any, valid: Sequence[str]) -> str:
    """A value that is one of some.

    Raises:
        UserError: it is not; names the nearest.
    """
    if value not in valid:
        raise UserError(nearest(f"value of {where}", str(value), valid))
    return str(value)
