"""The forms in which an export writes its samples: LLaVA's and ms-swift's (METHODS 10)."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from mimic_eval.records import UserError, nearest
from mimic_tasks.folder import dump_yaml
from mimic_tasks.training.conversations import conversation, messages, mixture
from mimic_tasks.training.exported import DATASET, LINES, LIST, MIXTURE
from mimic_tasks.training.mixture_file import parse_strategy


class ExportFormat(Protocol):
    """What a trainer reads.

    Attributes:
        name: as ``--format`` takes it.
        index: the file that names the files of samples; written last.
        suffix: of the files of samples.
    """

    name: str
    index: str
    suffix: str

    def name_of(self, path: Path, folder: Path, relative: str) -> str:
        """How a record names a picture: its file, the image folder, and its path relative to that."""

    def chosen(self, docs: int, strategy: str, *, seed: str) -> range | list[int]:
        """The numbers of the docs to write, from 0, ascending."""

    def record(self, doc: Mapping[str, Any], images: Sequence[str]) -> dict[str, Any]:
        """The sample of a doc."""

    def text(self, records: Iterable[Mapping[str, Any]]) -> Iterator[str]:
        """A file of samples, in parts; at least one record."""

    def names(self, files: Mapping[Path, str]) -> str:
        """The text of `index`: the files of samples, with the strategy of each."""

    def arguments(self, index: Path, image_folder: Path) -> list[str]:
        """The words that hand the export to the trainer."""


class Llava:
    """LLaVA's conversation JSON and mixture YAML."""

    name, index, suffix = "llava", MIXTURE, LIST

    def name_of(self, path: Path, folder: Path, relative: str) -> str:
        """The path relative to LLaVA's image folder."""
        return relative

    def chosen(self, docs: int, strategy: str, *, seed: str) -> range:
        """All: LLaVA takes its part when it reads the mixture."""
        return range(docs)

    def record(self, doc: Mapping[str, Any], images: Sequence[str]) -> dict[str, Any]:
        """See `conversation`."""
        return conversation(doc, images)

    def text(self, records: Iterable[Mapping[str, Any]]) -> Iterator[str]:
        """A JSON list with one record a line."""
        for number, record in enumerate(records):
            yield ("[\n" if number == 0 else ",\n") + json.dumps(record)
        yield "\n]\n"

    def names(self, files: Mapping[Path, str]) -> str:
        """See `mixture`."""
        return mixture(files)

    def arguments(self, index: Path, image_folder: Path) -> list[str]:
        """Of LLaVA-NeXT's `train.py`."""
        return ["--data_path", str(index), "--image_folder", str(image_folder)]


class MsSwift:
    """ms-swift's JSONL of messages, and a YAML for its command line that names the files.

    ms-swift has no sampling strategies: the files hold the part that the strategy takes. Its templates put
    the line breaks between pictures, and it has no image folder: pictures have absolute paths.
    """

    name, index, suffix = "ms-swift", DATASET, LINES

    def name_of(self, path: Path, folder: Path, relative: str) -> str:
        """The absolute path."""
        return str(path)

    def chosen(self, docs: int, strategy: str, *, seed: str) -> range | list[int]:
        """What the strategy takes."""
        return parse_strategy(strategy).take(docs, seed=seed)

    def record(self, doc: Mapping[str, Any], images: Sequence[str]) -> dict[str, Any]:
        """See `messages`."""
        return messages(doc, images)

    def text(self, records: Iterable[Mapping[str, Any]]) -> Iterator[str]:
        """One record a line."""
        for record in records:
            yield json.dumps(record) + "\n"

    def names(self, files: Mapping[Path, str]) -> str:
        """The option ``--dataset`` as `swift sft FILE.yaml` takes it."""
        return dump_yaml({"dataset": [str(path) for path in files]})

    def arguments(self, index: Path, image_folder: Path) -> list[str]:
        """Of ms-swift's command line, where the YAML must come first."""
        return ["swift", "sft", str(index)]


LLAVA = Llava()
FORMATS: dict[str, ExportFormat] = {one.name: one for one in (LLAVA, MsSwift())}
"""What ``--format`` takes."""


def export_format(name: str) -> ExportFormat:
    """The format of this name.

    Raises:
        UserError: there is none.
    """
    if name not in FORMATS:
        raise UserError(nearest("format", name, FORMATS))
    return FORMATS[name]
