"""`--config`: a YAML file's values in the types that the command line would give them.

Upstream merges them into its arguments as they are, and fails on a mapping, a number or a list where it
expects text.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mimic_eval.records import UserError

PAIRS = ("model_args", "gen_kwargs", "hf_hub_log_args", "wandb_args", "swanlab_args", "launcher_args")
"""Flags of the form key=value,key=value."""

_LISTS = ("tasks", "seed")
_NOT_IN_CONFIG = ("wandb_args", "swanlab_args")


def config_runs(file: str) -> list[dict[str, Any]]:
    """The runs of a config file, one mapping each.

    Raises:
        UserError: it cannot be read, is not YAML, or holds something else.
    """
    import yaml

    path = Path(file)
    if not path.is_file():
        raise UserError(f"--config {file}: no such file")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(
            f"--config {file}: cannot be read as YAML ({' '.join(str(error).split())})"
        ) from error
    runs = content if isinstance(content, list) else [content]
    for run in runs:
        if not isinstance(run, dict) or not all(isinstance(key, str) for key in run):
            raise UserError(f"--config {file}: must hold `flag: value` lines, or a list of such runs")
        if not isinstance(run.get("env") or {}, dict):
            raise UserError(f"--config {file}: env must hold `NAME: value` lines")
        for key in _NOT_IN_CONFIG:
            if run.get(key):
                raise UserError(f"--config {file}: upstream takes {key} from the command line only: --{key}")
    if not runs:
        raise UserError(f"--config {file}: holds no run")
    return runs


def settle(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Give every argument of a run from a config file the type it has on the command line.

    Args:
        args: of the run; changed in place.
        parser: upstream's.

    Raises:
        UserError: a value that has no such form.
    """
    for action in parser._actions:
        name = action.dest
        if name != "help" and hasattr(args, name):
            setattr(args, name, _settled(action, getattr(args, name)))


def _settled(action: argparse.Action, value: Any) -> Any:
    name = action.dest
    if value is None or value == action.default:
        return action.default
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise UserError(f"--config: {name} must be true or false, got {value!r}")
        return value
    if name == "include_path" and isinstance(value, list):
        return [str(folder) for folder in value]
    if name == "reasoning_tags" and isinstance(value, list):
        return json.dumps(value)
    if isinstance(value, list) and name in _LISTS:
        text = ",".join(map(str, value))
    elif isinstance(value, dict | list):
        text = pairs_text(name, value)
    else:
        text = _word(value)
    try:
        settled = action.type(text) if callable(action.type) else text
    except (ValueError, TypeError, argparse.ArgumentTypeError) as error:
        raise UserError(f"--config: {name} cannot be {value!r} ({error})") from error
    if action.choices and settled not in action.choices:
        raise UserError(f"--config: {name} must be one of {', '.join(action.choices)}, got {value!r}")
    return settled


def pairs_text(name: str, value: Any) -> str:
    """A mapping as ``key=value,key=value``; text stays as it is.

    Raises:
        UserError: not a mapping, or one that this form cannot hold.
    """
    if isinstance(value, str):
        return value
    if not isinstance(value, Mapping) or name not in PAIRS:
        raise UserError(f"--config: {name} must be text, got {value!r:.100}")
    parts = []
    for key, entry in value.items():
        if entry is None:
            continue
        text = json.dumps(entry) if isinstance(entry, dict) else _word(entry)
        if isinstance(entry, list) or ("," in text and not isinstance(entry, dict)):
            raise UserError(
                f"--config: {name} must be key: value lines, or text key=value,key=value; the value of "
                f"{key} cannot be separated from the next key: {entry!r:.100}"
            )
        parts.append(f"{key}={text}")
    return ",".join(parts)


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
