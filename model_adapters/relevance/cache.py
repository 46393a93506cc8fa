"""Outputs of the outside models on disk, so that each picture and phrase is looked at once."""

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mimic_eval.records import UserError
from mimic_eval.records.folders import write_atomically
from model_adapters.disk import cache_root

Arrays = dict[str, np.ndarray[Any, Any]]
_FORMAT = 1
_KEY = "key"
_DIGEST = hashlib.sha256().digest_size


def cache_folder() -> Path:
    """``relevance`` in `cache_root`."""
    return cache_root() / "relevance"


class OutputCache:
    """Arrays by key. Several processes may use one folder: files are written atomically.

    A file holds its own key and is used for this key only; one that cannot be read is made again.

    Args:
        folder: None: `cache_folder` at the time of use.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    def fetch(self, kind: str, key: Mapping[str, Any], make: Callable[[], Arrays]) -> Arrays:
        """The arrays of a key: from the folder, else from `make`, which is then stored.

        Args:
            kind: a subfolder, one for each outside model.
            key: everything that the arrays depend on, as JSON.
            make: gives the arrays.

        Raises:
            UserError: the folder cannot be written.
        """
        arrays = self.read(kind, key)
        if arrays is None:
            arrays = make()
            self.write(kind, key, arrays)
        return arrays

    def read(self, kind: str, key: Mapping[str, Any]) -> Arrays | None:
        """The arrays of a key, or None if the folder has none that can be read."""
        text, path = self._place(kind, key)
        return _read(path, text)

    def write(self, kind: str, key: Mapping[str, Any], arrays: Arrays) -> None:
        """Store the arrays of a key; they replace what the folder has.

        Raises:
            UserError: the folder cannot be written.
        """
        text, path = self._place(kind, key)
        _write(path, {_KEY: np.array(text), **arrays})

    def _place(self, kind: str, key: Mapping[str, Any]) -> tuple[str, Path]:
        """The text of a key, and its file."""
        text = json.dumps({"format": _FORMAT, "kind": kind, **key}, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()
        return text, (self._folder or cache_folder()) / kind / digest[:2] / f"{digest}.npz"


def _read(path: Path, key: str) -> Arrays | None:
    """The arrays of a complete file of this key, or None."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    body, digest = data[:-_DIGEST], data[-_DIGEST:]
    if hashlib.sha256(body).digest() != digest:
        return None
    with np.load(io.BytesIO(body), allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    return arrays if str(arrays.pop(_KEY, "")) == key else None


def _write(path: Path, arrays: Arrays) -> None:
    """Write an npz file and its SHA-256 beside its path, onto the disk, and move it there."""
    body = io.BytesIO()
    np.savez(body, **arrays)  # type: ignore[arg-type]
    data = body.getvalue()
    try:
        write_atomically(path, data + hashlib.sha256(data).digest())
    except OSError as error:
        raise UserError(
            f"the cache folder {path.parent} cannot be written ({error.strerror or error}): "
            "set MIMIC_CACHE to a folder that can"
        ) from error
