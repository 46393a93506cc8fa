"""Pictures that two folders share, by what they show and not by their names."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path

from mimic_eval.records import UserError
from mimic_tasks.images import BrokenImage, pixel_digest, read_picture
from mimic_tasks.originals import read_originals
from mimic_tasks.stored_docs import read_docs, task_files
from mimic_tasks.training.exported import exported_pictures

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
"""Files of a plain folder that count as pictures, in either case."""


@dataclass(frozen=True)
class NamedPictures:
    """Files of pictures that do not make up a folder: those that the samples of a mixture name.

    Attributes:
        label: what names them.
        files: by the name to print.
    """

    label: Path
    files: Mapping[str, Path]


@dataclass(frozen=True)
class SharedPicture:
    """A picture in both folders: where it is first met in each, and whether the stored bytes agree.

    `same_bytes` is False where only the decoded pixels agree (a re-encoded lossless copy).
    """

    in_a: str
    in_b: str
    same_bytes: bool


@dataclass(frozen=True)
class Overlap:
    """What two folders have in common.

    Attributes:
        pictures_a: different pictures in the first folder; copies of one, re-encoded or not, count once.
        pictures_b: the same of the second.
        broken_a: of `pictures_a`, those that cannot be decoded and are compared by their bytes only.
        broken_b: the same of the second.
        shared: the pictures in both, in the first folder's order.
    """

    pictures_a: int
    pictures_b: int
    broken_a: int
    broken_b: int
    shared: tuple[SharedPicture, ...]


@dataclass(frozen=True)
class FolderPictures:
    """A folder's different pictures.

    Attributes:
        names: where each is first met, by content: the digest of its pixels (`pixel_digest`), or the SHA-256
            of its bytes if it cannot be decoded.
        digests: the SHA-256 of each content's stored bytes, one for each encoding.
        broken: how many cannot be decoded.
    """

    names: dict[bytes, str]
    digests: dict[bytes, set[bytes]]
    broken: int


def find_overlap(a: Path | NamedPictures, b: Path | NamedPictures, *, progress: bool = False) -> Overlap:
    """Find the pictures that are in both of two folders.

    Two pictures are the same if their stored bytes have the same SHA-256, or if they decode to the same RGB
    pixels. A picture that a build changed (downsampled, stitched) also counts as what it was made from. Any
    other lossy re-encoding, crop or size is another picture.

    Args:
        a: a folder that `mimic build`, `mimic sweep` or `mimic export-training` wrote, or a plain folder of
            pictures (folders below it too), or named files.
        b: the second.
        progress: show a bar on stderr.

    Raises:
        UserError: a folder is missing or holds no picture, or a file of docs cannot be read.
    """
    decoded: dict[bytes, bytes | None] = {}
    sides = [read_pictures(folder, decoded, progress=progress) for folder in (a, b)]
    first, second = sides
    shared = tuple(
        SharedPicture(
            name, second.names[content], not first.digests[content].isdisjoint(second.digests[content])
        )
        for content, name in first.names.items()
        if content in second.names
    )
    return Overlap(len(first.names), len(second.names), first.broken, second.broken, shared)


def read_pictures(
    folder: Path | NamedPictures, decoded: MutableMapping[bytes, bytes | None], *, progress: bool
) -> FolderPictures:
    """A folder's different pictures, by what they show.

    Args:
        folder: as for `find_overlap`.
        decoded: the pixel digest of each stored digest, None for one that cannot be decoded. It is filled
            here, so that no picture is decoded twice.
        progress: show a bar on stderr.

    Raises:
        UserError: as for `find_overlap`.
    """
    names: dict[bytes, str] = {}
    digests: dict[bytes, set[bytes]] = {}
    broken = 0
    stored = _named(folder) if isinstance(folder, NamedPictures) else _stored(folder)
    label = folder.label if isinstance(folder, NamedPictures) else folder
    for name, data in _with_bar(stored, label, progress=progress):
        digest = hashlib.sha256(data).digest()
        if digest not in decoded:
            decoded[digest] = pixel_digest(data)
        content = decoded[digest] or digest
        if content not in names:
            names[content] = name
            broken += decoded[digest] is None
        digests.setdefault(content, set()).add(digest)
    for content, name in () if isinstance(folder, NamedPictures) else read_originals(folder):
        names.setdefault(content, f"{name}, changed")
        digests.setdefault(content, set())
    if not names:
        raise UserError(
            f"{label}: holds neither a task (*/test.parquet) nor a picture ({', '.join(SUFFIXES)})"
        )
    return FolderPictures(names, digests, broken)


def _with_bar(
    pictures: Iterable[tuple[str, bytes]], folder: Path, *, progress: bool
) -> Iterable[tuple[str, bytes]]:
    from tqdm import tqdm

    bar: Iterable[tuple[str, bytes]] = tqdm(
        pictures, desc=f"pictures of {folder.name}", unit="", disable=None if progress else True
    )
    return bar


def _stored(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Each stored picture's name and bytes, as often as docs show it."""
    tasks = task_files(folder)
    for file in tasks.values():
        for doc in read_docs(file, ("id", "images", "image_ids")):
            for image_id, image in zip(doc["image_ids"] or (), doc["images"] or (), strict=False):
                if image is None or image["bytes"] is None:
                    raise UserError(f"{file}: doc {doc['id']} stores an image without its bytes")
                yield f"{image_id} ({image.get('path')})", image["bytes"]
    if tasks:
        return
    named = exported_pictures(folder)
    if named is not None:
        for name, path in named.items():
            yield name, _bytes(path)
        return
    for parent, below, files in os.walk(folder):
        below.sort()
        for name in sorted(files):
            path = Path(parent, name)
            if path.suffix.lower() in SUFFIXES and path.is_file():
                yield str(path.relative_to(folder)), _bytes(path)


def _named(pictures: NamedPictures) -> Iterator[tuple[str, bytes]]:
    for name, path in pictures.files.items():
        yield name, _bytes(path)


def _bytes(path: Path) -> bytes:
    try:
        return read_picture(path)
    except BrokenImage as error:
        raise UserError(f"{path} {error}") from error
