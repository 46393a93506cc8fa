"""Our cache folder, and files that appear whole or not at all."""

import os
import tempfile
from pathlib import Path


def cache_root() -> Path:
    """``$MIMIC_CACHE``, else ``~/.cache/mimic_eval``."""
    return Path(os.environ.get("MIMIC_CACHE") or "~/.cache/mimic_eval").expanduser()


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
