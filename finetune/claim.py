"""Which training an output folder holds, so that a killed one goes on and no other is overwritten."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mimic_eval.records import UserError
from mimic_eval.records.folders import differences, filled, is_abandoned, write_atomically
from mimic_eval.records.locking import locked
from mimic_eval.records.processes import rank
from mimic_eval.records.reading import read_json

TRAINING = "training"
"""Below the output folder: the arguments, and what a killed run resumes from."""
_ARGUMENTS = "arguments.json"
_LOCK = ".lock"


def stored_checkpoints(out: Path) -> str:
    """What a stopped training leaves, and how to go on, for `announce_cached`."""
    folder = out / TRAINING
    names = [path.name.removeprefix("checkpoint-") for path in folder.glob("checkpoint-*")]
    if steps := [int(name) for name in names if name.isdecimal()]:
        return f"the checkpoint of step {max(steps)} is stored; run the same command to resume from it"
    if any(folder.rglob("checkpoint-*")):
        return "a checkpoint of the pretraining is stored; run the same command to resume from it"
    return "no checkpoint was written yet; run the same command to start again"


@contextmanager
def claimed(out: Path, identity: Mapping[str, Any]) -> Iterator[None]:
    """While it is entered, the folder is this training's; of several processes the first claims it.

    A training that has saved nothing yet, as one that was refused or killed early, does not hold a folder.

    Args:
        out: the output folder.
        identity: what the result depends on, JSON-able.

    Raises:
        UserError: it holds another training or something else, or another process writes it.
    """
    if rank():
        yield
        return
    folder, wanted = out / TRAINING, json.loads(json.dumps(identity))
    _check(out, wanted)
    with locked(folder / _LOCK, wait=False, named=f"--out {out}") as mine:
        if not mine:
            raise UserError(f"--out {out} is being written by another process")
        arguments = folder / _ARGUMENTS
        if _begun(arguments) != wanted:
            write_atomically(arguments, (json.dumps(wanted, indent=1) + "\n").encode())
        yield


def _check(out: Path, wanted: Mapping[str, Any]) -> None:
    """Refuse a folder with something else in it."""
    folder = out / TRAINING
    begun = _begun(folder / _ARGUMENTS)
    if begun is None:
        if out.exists() and any(
            not is_abandoned(path) for path in out.rglob("*") if path != folder and path.name != _LOCK
        ):
            raise filled(out)
    elif begun != wanted and ((out / "training.json").exists() or any(folder.glob("checkpoint-*"))):
        raise UserError(
            f"--out {out} holds a training that differs in {differences(begun, wanted):.300}: choose another "
            "folder, or remove it"
        )


def _begun(arguments: Path) -> dict[str, Any] | None:
    """The arguments of the training that was begun there, or None."""
    if not arguments.is_file():
        return None
    begun = read_json(arguments)
    if not isinstance(begun, dict):
        raise UserError(f"{arguments} is not what a training writes: choose another --out")
    return begun
