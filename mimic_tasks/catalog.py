"""Docs of task folders by their content hash, with their pictures."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

from mimic_eval.records import UserError
from mimic_tasks.images import BrokenImage, decode_strict
from mimic_tasks.stored_docs import read_docs, task_files

_COLUMNS = ("content_hash", "question", "gt", "image_ids", "boxes", "images")


class CatalogPicture(NamedTuple):
    """A picture of a doc: `decode` gives it as RGB, and raises `BrokenImage` if it cannot be decoded."""

    sha256: str
    image_id: str
    boxes: list[dict[str, Any]]
    decode: Callable[[], Any]


class CatalogDoc(NamedTuple):
    """A doc as its folder holds it."""

    content_hash: str
    question: str
    gt: str
    pictures: list[CatalogPicture]


class Catalog:
    """The docs of a folder that `mimic build` or `mimic sweep` wrote.

    Args:
        folder: the folder.

    Raises:
        UserError: no such folder, or no task in it.
    """

    def __init__(self, folder: Path) -> None:
        self._files = task_files(folder)
        if not self._files:
            raise UserError(f"{folder}: holds no task (*/test.parquet); give a folder of `mimic build`")

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the folder's docs and pictures."""
        digest = hashlib.sha256()
        for task, file in sorted(self._files.items()):
            with file.open("rb") as opened:
                digest.update(f"{task} {hashlib.file_digest(opened, 'sha256').hexdigest()}\n".encode())
        return digest.hexdigest()

    def find(self, hashes: frozenset[str]) -> Iterator[CatalogDoc]:
        """The docs with these content hashes, each once."""
        wanted = set(hashes)
        for file in self._files.values():
            hashes_here = {doc["content_hash"] for doc in read_docs(file, ("content_hash",))}
            if not hashes_here & wanted:
                continue
            for doc in read_docs(file, _COLUMNS):
                if doc["content_hash"] in wanted:
                    wanted.remove(doc["content_hash"])
                    yield _doc(doc)


def _doc(doc: Mapping[str, Any]) -> CatalogDoc:
    return CatalogDoc(doc["content_hash"], str(doc["question"]), str(doc["gt"]), pictures_of(doc))


def pictures_of(doc: Mapping[str, Any]) -> list[CatalogPicture]:
    """The pictures of a stored doc, in its order.

    Args:
        doc: a row with the columns images, image_ids and boxes.
    """
    stored, ids = doc["images"] or [], [str(i) for i in doc["image_ids"] or ()]
    if len(stored) == 1 < len(ids):  # stitched
        ids = [" + ".join(ids)]
    boxes = doc["boxes"] or []
    pictures = []
    for i, image in enumerate(stored):
        data = (image or {}).get("bytes") or b""
        of_image = boxes[i] if i < len(boxes) and boxes[i] else []
        name = ids[i] if i < len(ids) else ""
        digest = hashlib.sha256(data).hexdigest()
        pictures.append(CatalogPicture(digest, name, of_image, partial(_decoded, data)))
    return pictures


def _decoded(data: bytes) -> Any:
    if not data:
        raise BrokenImage("the picture is missing")
    return decode_strict(data)
