"""A doc as a record of LLaVA's or ms-swift's files, and the mixture that names LLaVA's (METHODS 10)."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mimic_eval.records import TASKS, UserError, nearest, task_kinds
from mimic_tasks.folder import dump_yaml

IMAGE = "<image>"
"""The placeholder of a picture in a conversation."""

_STRATEGY = re.compile(r"all|(first|end|random):([1-9]\d?|100)%")


def conversation(doc: Mapping[str, Any], images: Sequence[str]) -> dict[str, Any]:
    """The record of a doc: its pictures, then the bare question, answered by its ground truth.

    Args:
        doc: its columns (METHODS 13).
        images: its pictures' paths relative to the image folder, in the doc's order.

    Raises:
        UserError: a class name would be taken for a picture.
    """
    question, answer = _texts(doc)
    return {
        "id": doc["id"],
        "image": list(images),
        "conversations": [
            {"from": "human", "value": f"{IMAGE}\n" * len(images) + question},
            {"from": "gpt", "value": answer},
        ],
    }


def messages(doc: Mapping[str, Any], images: Sequence[str]) -> dict[str, Any]:
    """The same as a record of ms-swift, whose templates put a line break after each picture.

    Args:
        doc: its columns (METHODS 13).
        images: its pictures' absolute paths, in the doc's order.

    Raises:
        UserError: a class name would be taken for a picture.
    """
    question, answer = _texts(doc)
    return {
        "id": doc["id"],
        "messages": [
            {"role": "user", "content": IMAGE * len(images) + question},
            {"role": "assistant", "content": answer},
        ],
        "images": list(images),
    }


def _texts(doc: Mapping[str, Any]) -> tuple[str, str]:
    question, answer = doc["question"], doc["gt"]
    if IMAGE in question or IMAGE in answer:
        raise UserError(f"a class or category holds {IMAGE}, the placeholder of a picture: rename it")
    return question, answer


def mixture(files: Mapping[Path, str]) -> str:
    """The YAML that LLaVA takes as its data: each file's sampling strategy."""
    return dump_yaml(
        {"datasets": [{"json_path": str(path), "sampling_strategy": how} for path, how in files.items()]}
    )


def parse_sampling(given: Sequence[str], kinds: Sequence[str]) -> dict[str, str]:
    """``listing=random:50%`` and the like as a strategy for each task; ``all`` where nothing is given.

    Args:
        given: what the user wrote.
        kinds: the exported tasks.

    Raises:
        UserError: not of that form, an unknown task, one that is not exported, or one given twice.
    """
    strategies: dict[str, str] = {}
    for text in given:
        name, separator, strategy = text.partition("=")
        kind = name.removeprefix("mimic_")
        if not separator:
            raise UserError(f"--sampling must be like listing=random:50%, got '{text}'")
        if kind not in TASKS:
            raise UserError(nearest("task", name, task_kinds()))
        if kind not in kinds:
            raise UserError(f"--sampling {text} is for {kind}, which --tasks leaves out: drop one of the two")
        if kind in strategies:
            raise UserError(f"--sampling gives {kind} twice")
        if not _STRATEGY.fullmatch(strategy):
            raise UserError(
                f"--sampling {kind} must be all, first:N%, end:N% or random:N%, N an integer within 1-100, "
                f"got '{strategy}'"
            )
        strategies[kind] = strategy
    return {kind: strategies.get(kind, "all") for kind in kinds}
