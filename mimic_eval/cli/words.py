"""What every command's words have in common: other spellings of options, home folders, empty paths."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mimic_eval.records import UserError

OLD_NAMES = {
    "--limit": "--docs",
    "--n": "--scenes",
    "--task": "--tasks",
    "--force": "--overwrite",
    "--folder": "--data",
    "--output-path": "--out",
    "--eval-tasks": "--eval-data",
}
"""Names of options that were published or are lmms_eval's, and what they are here; no help has them."""


def parse_words(
    command: Any, parse: Callable[[Any, list[str]], list[str]], ctx: Any, words: list[str]
) -> list[str]:
    """A command's `parse_args`, of which `parse` is typer's.

    Raises:
        UserError: an empty path.
    """
    words = [_at_home(word) for word in renamed(words, options_of(command))]
    _check_paths(command, words)
    return parse(ctx, words)


def options_of(command: Any) -> list[str]:
    """The long names of a command's options."""
    names = [name for param in command.params for name in (*param.opts, *param.secondary_opts)]
    return [name for name in names if name.startswith("--")]


def renamed(words: Sequence[str], options: Sequence[str]) -> list[str]:
    """A command's words with its options as they are declared: ``--model_args`` and old names are taken too.

    Args:
        words: after the command's name.
        options: the command's, as declared.
    """
    spelled = {option.replace("_", "-"): option for option in options}
    spelled |= {old: spelled[now] for old, now in OLD_NAMES.items() if now in spelled and old not in spelled}
    end = words.index("--") if "--" in words else len(words)
    declared = []
    for word in words[:end]:
        name, equals, value = word.partition("=")
        given = f"--{name[2:].replace('_', '-')}" if name.startswith("--") else name
        declared.append(word if name in options else f"{spelled.get(given, name)}{equals}{value}")
    return [*declared, *words[end:]]


def check_given(command: str, given: Mapping[str, object]) -> None:
    """Name all that a command lacks, where that is several options; of one its own refusal says more.

    Args:
        command: its words.
        given: the options that it needs, with their values.

    Raises:
        UserError: naming them.
    """
    absent = [name for name, value in given.items() if not value]
    if len(absent) > 1:
        raise UserError(f"missing: {', '.join(absent)} (`mimic {command} --help` explains them)")


def _at_home(word: str) -> str:
    """A word with the home folder where a shell leaves ``~/``: in ``--out=~/x`` and in quotes."""
    name, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    return f"{name}{equals}{os.path.expanduser(value)}" if value.startswith("~/") else word


def _check_paths(command: Any, words: Sequence[str]) -> None:
    """Refuse an empty path, which Python takes for the current folder: an unset variable of a shell.

    Raises:
        UserError: naming it.
    """
    paths = {name for param in command.params if _is_path(param) for name in param.opts}
    options = {name for param in command.params for name in param.opts if name.startswith("-")}
    for before, word in zip(["", *words], words, strict=False):
        name, equals, value = word.partition("=")
        if equals and not value and name in paths:
            raise UserError(f"{name} is empty: leave it out, or give a value")
        if word == "" and before in paths:
            raise UserError(f"{before} is empty: leave it out, or give a value")
        if word == "" and before not in options and any(map(_is_path, command.params)):
            raise UserError(f"an argument of {command.name} is empty: leave it out, or give a value")


def _is_path(param: Any) -> bool:
    return getattr(getattr(param, "type_descriptor", None), "annotation", None) in (Path, list[Path])
