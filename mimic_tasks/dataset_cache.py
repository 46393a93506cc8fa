"""The cache of `datasets`, keyed by what a local file holds: two builds at one path are two data sets."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def keyed_by_content() -> Iterator[None]:
    """Within it, `datasets.load_dataset` takes parquet files from a cache folder named by their content.

    `datasets` knows a local file by its path and its time of change only, so a build that another one with
    the same file times replaced (unpacked from an archive, or copied with its times) was served from the
    cache instead of the new one.
    """
    import datasets

    original = datasets.load_dataset

    def load_dataset(path: str, *args: Any, **kwargs: Any) -> Any:
        files = _local_files(kwargs.get("data_files")) if path == "parquet" else []
        if files:
            home = Path(kwargs.get("cache_dir") or datasets.config.HF_DATASETS_CACHE)
            kwargs["cache_dir"] = str(home / "mimic_eval" / _digest(files))
        return original(path, *args, **kwargs)

    datasets.load_dataset = load_dataset
    try:
        yield
    finally:
        datasets.load_dataset = original


def _local_files(data_files: Any) -> list[Path]:
    """The files that are named, if all are on this disk."""
    named = data_files.values() if isinstance(data_files, dict) else [data_files]
    texts = [text for value in named for text in (value if isinstance(value, list | tuple) else [value])]
    files = [Path(text) for text in texts if isinstance(text, str)]
    return files if len(files) == len(texts) and all(file.is_file() for file in files) else []


def _digest(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:32]
