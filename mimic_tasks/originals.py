"""What changed pictures were made from: without it, training and evaluation data could share them unseen."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from mimic_eval.records import UserError
from mimic_eval.records.reading import one_line, read_json

FILE = "originals.json"


def write_originals(folder: Path, originals: Mapping[str, str]) -> None:
    """Note the pixel digest (hex) and name of the source of each changed picture, if there is one."""
    if originals:
        text = json.dumps(dict(sorted(originals.items())), indent=1)
        (folder / FILE).write_text(text + "\n", encoding="utf-8")


def read_originals(folder: Path) -> Iterator[tuple[bytes, str]]:
    """The pixel digest and name of the source of each changed picture of a folder.

    Raises:
        UserError: the file is not what a build writes.
    """
    file = folder / FILE
    if not file.is_file():
        return
    record = read_json(file)
    try:
        entries = [(bytes.fromhex(digest), str(name)) for digest, name in record.items()]
    except (ValueError, AttributeError, TypeError) as error:
        raise UserError(f"{file} is not what a build writes ({one_line(error)})") from error
    yield from entries
