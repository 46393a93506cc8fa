"""Our cache folder, and the folders of checkpoints."""

import os
from pathlib import Path

from mimic_eval.records import UserError
from mimic_eval.records.hub import is_stored, out_of_reach

NOTE = "mimic_eval.json"
"""A file beside our own checkpoints that says what they are."""


def cache_root() -> Path:
    """``$MIMIC_CACHE``, else ``~/.cache/mimic_eval``.

    Raises:
        UserError: it is a file.
    """
    root = Path(os.environ.get("MIMIC_CACHE") or "~/.cache/mimic_eval").expanduser()
    if root.exists() and not root.is_dir():
        raise UserError(f"the cache folder {root} is a file: set MIMIC_CACHE to a folder")
    return root


def check_checkpoint(argument: str, name: str) -> None:
    """A path that does not exist is a mistake; ``org/name`` may be a Hub id.

    Args:
        argument: that names it, for the message.
        name: a folder or a Hub id.

    Raises:
        UserError: neither.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return
    if path.exists():
        raise UserError(f"{argument}={name} is a file: name the checkpoint's folder")
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise UserError(f"{argument}={name}: no such folder, and not a Hub id of the form org/name")


def check_within_reach(argument: str, name: str) -> None:
    """`check_checkpoint`, and that a Hub id is stored here or can be fetched, as far as can be seen at once.

    Args:
        argument: as there.
        name: as there.

    Raises:
        UserError: as there; or a Hub id of which nothing is stored here, where the Hub is out of reach.
    """
    check_checkpoint(argument, name)
    if not Path(name).expanduser().is_dir() and not is_stored(name) and (reason := out_of_reach()):
        raise UserError(
            f"{argument}={name} is not stored on this machine, and cannot be fetched ({reason}): run 'hf "
            f"download {name}' where there is a network, or give a folder, {argument}=FOLDER"
        )
