"""Reading what `mimic export-training` wrote: which pictures its records name."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mimic_eval.records import UserError
from mimic_eval.records.reading import read_bytes, read_json

ARGUMENTS, MANIFEST = "arguments.json", "manifest.json"
"""What the folder is written from; what was written."""
INDEXES = MIXTURE, DATASET = "mixture.yaml", "dataset.yaml"
"""The index, written last: LLaVA's mixture or ms-swift's configuration."""
SUFFIXES = LIST, LINES = ".json", ".jsonl"
"""Of the files of samples."""
_MAX_BYTES = 1 << 32


def exported_pictures(folder: Path) -> dict[str, Path] | None:
    """The file of each picture that an export's records name, by its name there; None if it is no export.

    Raises:
        UserError: an export that is not finished, a file of it that cannot be read, or a picture that is
            not there.
    """
    if not any((folder / index).is_file() for index in INDEXES):
        if (folder / ARGUMENTS).is_file():
            raise UserError(
                f"{folder} is a training export that is not finished: run its command again to complete it"
            )
        return None
    manifest = read_json(folder / MANIFEST)
    try:
        images = Path(manifest["image_folder"])
        files = [folder / task["file"] for task in manifest["tasks"].values()]
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{folder / MANIFEST}: is not a training export's (it lacks {error})") from error
    paths: dict[str, Path] = {}
    for file in files:
        try:
            records = _records(file)
            key = "images" if file.suffix == LINES else "image"
            names = {name: images / name for record in records for name in record[key]}
        except (KeyError, TypeError) as error:
            raise UserError(f"{file}: holds no records that name their pictures ({error})") from error
        paths.update(names)
    missing = next((name for name, path in paths.items() if not path.is_file()), None)
    if missing is not None:
        raise UserError(f"{folder} names the picture {missing}, which is not in its image folder {images}")
    return paths


def _records(file: Path) -> Iterable[Any]:
    if file.suffix != LINES:
        records: list[Any] = read_json(file, most=_MAX_BYTES)
        return records
    try:
        return [json.loads(line) for line in read_bytes(file, most=_MAX_BYTES).splitlines()]
    except ValueError as error:
        raise UserError(f"{file}: is not JSON lines ({error!s:.100})") from error
