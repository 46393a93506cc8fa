"""What the cache folder holds, and which of it no run of this version can use again."""

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mimic_eval.records import UserError
from model_adapters.disk import cache_root
from model_adapters.identity import code_hash

STALE = "of another version of mimic-eval"


@dataclass(frozen=True)
class CacheEntry:
    """A part of the cache folder that can be removed as one.

    Attributes:
        path: a folder or file.
        kind: ``answers``, ``calibrations``, ``relevance``, ``finetune``, or another folder's name.
        size: bytes of all files in it.
        used: when it was last written, seconds since the epoch.
        about: what it is, for people; empty if unknown.
        stale: no run of this version can use it.
    """

    path: Path
    kind: str
    size: int
    used: float
    about: str
    stale: bool


def list_cache() -> list[CacheEntry]:
    """What is in the cache folder, by kind, the largest first; empty if there is no folder.

    Raises:
        UserError: the folder cannot be read.
    """
    root = cache_root()
    try:
        kinds = sorted(path for path in root.iterdir()) if root.is_dir() else []
        current = code_hash()
        collected = [entry for kind in kinds for entry in _entries(kind, current)]
    except OSError as error:
        raise UserError(f"the cache folder {root} cannot be read ({error.strerror or error})") from error
    return sorted(collected, key=lambda entry: (entry.kind, -entry.size, str(entry.path)))


def _entries(kind: Path, current: str) -> list[CacheEntry]:
    if not kind.is_dir() or kind.is_symlink():
        return [_entry(kind, "other", "", stale=False)]
    if kind.name != "answers":
        return [_entry(path, kind.name, path.stem, stale=False) for path in sorted(kind.iterdir())]
    collected = []
    for path in sorted(kind.iterdir()):
        identity = _identity(path)
        code = identity.get("code")
        collected.append(_entry(path, "answers", _about(identity), stale=code != current))
    return collected


def _entry(path: Path, kind: str, about: str, *, stale: bool) -> CacheEntry:
    files = [path] if path.is_symlink() or not path.is_dir() else [p for p in path.rglob("*") if p.is_file()]
    stats = [file.lstat() for file in files] or [path.lstat()]
    size = sum(one.st_size for one in stats) if files else 0
    return CacheEntry(path, kind, size, max(one.st_mtime for one in stats), about, stale)


def _identity(folder: Path) -> dict[str, object]:
    """What a journal's folder says of its answers; empty if it says nothing that can be read."""
    try:
        record = json.loads((folder / "identity.json").read_bytes())
        identity = record["identity"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return identity if isinstance(identity, dict) else {}


def _about(identity: dict[str, object]) -> str:
    settings = identity.get("settings")
    if not isinstance(settings, dict):
        return ""
    parts = [settings.get(name) for name in ("family", "mask", "layers", "dtype")]
    weights = str(identity.get("weights", ""))[:8]
    return " ".join([*(str(part) for part in parts if part), *([f"weights {weights}"] if weights else [])])


def prune_cache(
    entries: Sequence[CacheEntry], *, older_than: float | None, kinds: Sequence[str] | None, everything: bool
) -> list[CacheEntry]:
    """Which entries to remove.

    Args:
        entries: of `list_cache`.
        older_than: only what was last written so many seconds ago.
        kinds: only of these kinds; all if None.
        everything: also what this version can still use.

    Raises:
        UserError: a kind that no entry has.
    """
    known = {entry.kind for entry in entries}
    for kind in kinds or ():
        if kind not in known:
            raise UserError(f"the cache holds no '{kind}'; it holds: {', '.join(sorted(known)) or 'nothing'}")
    limit = time.time() - (older_than or 0)
    return [
        entry
        for entry in entries
        if (everything or entry.stale or older_than is not None)
        and (kinds is None or entry.kind in kinds)
        and entry.used <= limit
    ]


def remove(entries: Sequence[CacheEntry]) -> None:
    """Remove entries.

    Raises:
        UserError: one cannot be removed; those before it are gone.
    """
    for entry in entries:
        try:
            if entry.path.is_dir() and not entry.path.is_symlink():
                shutil.rmtree(entry.path)
            else:
                entry.path.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"{entry.path} cannot be removed ({error.strerror or error})") from error
