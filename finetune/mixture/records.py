"""A record of a training file, in any of the forms that people write, as a conversation about pictures."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mimic_eval.records import UserError
from mimic_eval.records.errors import nearest
from mimic_tasks.training.conversations import IMAGE

_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}
_ADDRESS = re.compile(r"(https?|ftp|s3|gs|hdfs|oss|data|file):", re.IGNORECASE)


@dataclass(frozen=True)
class Turn:
    """What one side says.

    Attributes:
        role: ``user``, ``assistant``, or ``system`` (the first turn only).
        text: with ``<image>`` where a picture is shown; never in an answer.
    """

    role: str
    text: str


@dataclass(frozen=True)
class Sample:
    """A conversation to learn from.

    Attributes:
        id: as the file gives it, else the record's number from 0.
        file: that it is from.
        line: where its record begins, from 1.
        images: the pictures' files, in the order of the ``<image>`` in its turns.
        turns: system (optional), then user and assistant; at least one answer.
    """

    id: str
    file: Path
    line: int
    images: tuple[Path, ...]
    turns: tuple[Turn, ...]


def record_id(record: Any, number: int) -> str:
    """A record's `id`, or M4-Instruct's `sample_id`, or its number."""
    if isinstance(record, dict):
        for key in ("id", "sample_id"):
            if isinstance(record.get(key), str | int | float):
                return str(record[key])
    return str(number)


def read_record(record: Any) -> tuple[list[str], tuple[Turn, ...]]:
    """The names of a record's pictures, and its turns.

    Pictures are under `image` or `images`, one name or a list, or absent. Turns are under `conversations`
    or `messages`, each with `from` and `value` or `role` and `content`. As in LLaVA-NeXT, a leading answer is
    left out, and the only ``<image>`` of a turn is moved to its front, on a line of its own.

    Raises:
        UserError: it is no conversation, its pictures and placeholders differ in number, or it has a video.
    """
    if not isinstance(record, dict):
        raise UserError(f"a sample must be an object {{...}}, got a {_kind(record)}")
    if record.get("video") or record.get("videos"):
        raise UserError("it shows a video, which is not supported: leave it out, or give frames as `image`")
    names = _names(record)
    turns = _turns(record)
    for turn in turns:
        if turn.role != "user" and IMAGE in turn.text:
            raise UserError(f"{IMAGE} stands in a turn of the {turn.role}: only users show pictures")
    marks = sum(turn.text.count(IMAGE) for turn in turns)
    if marks != len(names):
        raise UserError(f"it has {_number(len(names), 'picture')} and {marks} {IMAGE}: they must be as many")
    return names, turns


def _names(record: dict[str, Any]) -> list[str]:
    given = record.get("image") or record.get("images") or []
    names = given if isinstance(given, list) else [given]
    for number, name in enumerate(names, 1):
        if not isinstance(name, str):
            raise UserError(f"picture {number} must be a path, got a {_kind(name)}")
        if not name:
            raise UserError(f"picture {number} has an empty path")
        if _ADDRESS.match(name):
            raise UserError(f"picture {number} is an address ({name:.60}): save it to a file, give its path")
    return names


def _turns(record: dict[str, Any]) -> tuple[Turn, ...]:
    given = record.get("conversations", record.get("messages"))
    if given is None:
        keys = ", ".join(map(str, record)) or "nothing"
        raise UserError(f"it has no `conversations` or `messages` (it has {keys:.100})")
    if not isinstance(given, list) or not given:
        raise UserError(
            "its conversation is empty" if not given else "its conversation must be a list of turns"
        )
    turns = [_turn(one, number) for number, one in enumerate(given, 1)]
    begin = 1 if turns[0].role == "system" else 0
    if len(turns) > begin and turns[begin].role == "assistant":
        del turns[begin]  # as LLaVA-NeXT does: it answers nothing
    for number, turn in enumerate(turns, 1):
        if turn.role == "system" and number > 1:
            raise UserError(f"turn {number} is of the system, which may only speak first")
    if not any(turn.role == "user" for turn in turns):
        raise UserError("its conversation has no question")
    if turns[-1].role != "assistant":
        raise UserError("its conversation ends without an answer")
    return tuple(turns)


def _turn(turn: Any, number: int) -> Turn:
    if not isinstance(turn, dict):
        raise UserError(f"turn {number} must be an object {{...}}, got a {_kind(turn)}")
    role = turn.get("role", turn.get("from"))
    text = turn.get("content", turn.get("value"))
    if not isinstance(role, str) or role not in _ROLES:
        raise UserError(f"turn {number}: {nearest('role', f'{role!s:.60}', _ROLES)}")
    if not isinstance(text, str):
        raise UserError(f"turn {number}: its text must be a string, got a {_kind(text)}")
    if not text.strip():
        raise UserError(f"turn {number} has no text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"turn {number}: its text holds half of a surrogate pair") from error
    return Turn(_ROLES[role], _image_first(text))


def _image_first(text: str) -> str:
    """As LLaVA-NeXT's `preprocess_multimodal`: an only picture comes before the words of its turn."""
    if text.count(IMAGE) != 1 or text.startswith(IMAGE):
        return text
    return f"{IMAGE}\n{text.replace(IMAGE, '').strip()}".strip()


def _kind(value: Any) -> str:
    return {dict: "object", list: "list", str: "string", type(None): "null", bool: "boolean"}.get(
        type(value), "number"
    )


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
