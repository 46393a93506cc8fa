"""What a submission may announce of its model, and how long an answer can be."""

import math
import re
from collections.abc import Collection, Mapping
from typing import Any

from leaderboard.site.results import HUMAN
from mimic_eval.records import INTERVENTIONS, RUN_SETTINGS, UserError, nearest

_VALUE = 200
_LISTED = 64
_TABLES = {"generation": 3, "generation_config_unused": 2}
"""Settings that are tables, and how deep: stop texts are a list in a task's table in that of the run."""

_IN_TABLES = 256
_FREE = ("checkpoint", "peft", "grounding", "sam", "clip")
"""Settings that name files and models of the sender's: any printable text."""

_WORD = re.compile(r"[^\W_]+")
_RUN = re.compile(r"(.)\1{3,}", re.DOTALL)
_CHARACTERS = 128
_ONE_TOKEN = 12
_LETTERS = 8


def check_settings(where: str, model: str, settings: Mapping[str, Any]) -> None:
    """What pages show of a run: it may announce settings of our models only, with short, plain values.

    Raises:
        UserError: the first thing that is wrong.
    """
    if model == HUMAN:
        raise UserError(f"{where}: the run is a person's; a submission may hold runs of models only")
    mask = settings.get("mask", "-")
    if mask != "-" and mask not in INTERVENTIONS:
        raise UserError(f"{where}: {nearest('intervention', str(mask)[:60], INTERVENTIONS)}")
    for name, value in settings.items():
        if name not in RUN_SETTINGS:
            raise UserError(f"{where}: {nearest('setting', name[:60], RUN_SETTINGS)}")
        depth, most = _TABLES.get(name, 0), _IN_TABLES if name in _TABLES else _LISTED
        values = _flat(value, depth) if depth else value if isinstance(value, list) else [value]
        if len(values) > most or not all(_is_plain(one, free=name in _FREE) for one in values):
            raise UserError(
                f"{where}: the setting {name} has the value {value!r:.60}; send one that a run announced"
            )


def _flat(value: Any, depth: int) -> list[Any]:
    """The keys and values in lists and tables; what is nested deeper stays as it is."""
    if not depth or not isinstance(value, list | dict):
        return [value]
    inner = [*value, *value.values()] if isinstance(value, dict) else value
    return [value for one in inner for value in _flat(one, depth - 1)]


def _is_plain(value: Any, *, free: bool) -> bool:
    if isinstance(value, str):
        return len(value) <= _VALUE and value.isprintable() and (free or value.isascii())
    return value is None or isinstance(value, bool) or (isinstance(value, int | float) and abs(value) < 1e300)


def check_length(where: str, response: str, tokens: int, names: Collection[str]) -> None:
    """An answer fits into the tokens that its task allows, counted so that no tokenizer makes fewer.

    A word of up to 12 letters is a token at least, a longer one a token for 8 letters, and so is each name of
    a class that is in the answer, also without spaces between them.

    Args:
        where: for the message.
        response: the answer.
        tokens: what the task allows.
        names: the answers of the task's docs: classes.

    Raises:
        UserError: it does not.
    """
    words = _WORD.findall(_RUN.sub(r"\1", response))
    least = sum(1 if len(word) <= _ONE_TOKEN else math.ceil(len(word) / _LETTERS) for word in words)
    if names:
        ordered = sorted(names, key=lambda name: (-len(name), name))
        least = max(least, len(re.findall("|".join(map(re.escape, ordered)), response.lower())))
    if least > tokens or len(response) > _CHARACTERS * tokens:
        raise UserError(
            f"{where}: its answer has {len(response)} characters, at least {least} tokens, and the task "
            f"allows {tokens} tokens: run it with the generation settings of the task"
        )
