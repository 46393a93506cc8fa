"""Our cache folder, and files that appear whole or not at all."""

import os
import tempfile
from pathlib import Path

from mimic_eval.records import UserError


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


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that readers see all of it or what was there before, also after a kill.

    Args:
        path: replaced if it is there; its folder is made.
        data: on the disk when this returns.

    Raises:
        OSError: it cannot be written; nothing is left of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(file.name, 0o644)
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise
