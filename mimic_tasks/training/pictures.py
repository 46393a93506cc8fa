"""The pictures of an export: checked like those of a build, with the results cached in a journal."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mimic_eval.records import Box
from mimic_tasks.image_store import DocPictures, ImageStore
from mimic_tasks.images import BrokenImage, read_checked
from mimic_tasks.overlap import read_pictures
from mimic_tasks.pool import Pool
from mimic_tasks.training.journal import ExportJournal
from mimic_tasks.transforms import Transform
from mimic_tasks.twins import Look


class Findings:
    """What is known of files that were opened, in this process or an earlier one.

    A finding holds while the file has the size and the time of change that it had, and the picture is
    annotated with the size that it was.
    """

    def __init__(self, journal: ExportJournal) -> None:
        self._journal = journal
        self._files: dict[str, dict[str, Any]] = {}
        self.excluded = _Decoded(journal)
        for record in journal.read():
            if "file" in record:
                self._files[record["file"]] = record
            elif "excluded" in record:
                self.excluded.known(record)

    def look_up(self, path: Path, *, width: int, height: int) -> dict[str, Any]:
        """Check a picture, or return its cached result.

        Args:
            path: the file.
            width: pixels, as annotated.
            height: of the record too.

        Returns:
            `sha256`, the hex digest of its bytes; `pixels` and `parts`, what it shows (`twins.Look`).

        Raises:
            BrokenImage: it cannot be used.
        """
        try:
            now = os.stat(path)
        except OSError:
            read_checked(path, width=width, height=height)  # says why
            raise BrokenImage("missing") from None
        state = {"size": now.st_size, "mtime_ns": now.st_mtime_ns, "annotated": [width, height]}
        known = self._files.get(str(path), {})
        fresh = all(known.get(key) == value for key, value in state.items())
        if not fresh or not {"parts", "broken"} & set(known):
            known = {"file": str(path), **state, **_check(path, width=width, height=height)}
            if os.access(path, os.R_OK):  # else the reason may go without a change of the file
                self._files[str(path)] = known
                self._journal.enter(known)
        if "broken" in known:
            raise BrokenImage(known["broken"])
        return known


def _check(path: Path, *, width: int, height: int) -> dict[str, Any]:
    try:
        stored = read_checked(path, width=width, height=height)
    except BrokenImage as error:
        return {"broken": str(error)}
    return {"sha256": stored.sha256, "pixels": stored.look.pixels, "parts": stored.look.parts}


class _Decoded(dict[bytes, bytes | None]):
    """The pixel digest of each stored digest of the excluded folders; what is new goes into the journal."""

    def __init__(self, journal: ExportJournal) -> None:
        super().__init__()
        self._journal = journal

    def known(self, record: dict[str, Any]) -> None:
        """Take over a record of the journal."""
        pixels = record["pixels"]
        super().__setitem__(bytes.fromhex(record["excluded"]), bytes.fromhex(pixels) if pixels else None)

    def __setitem__(self, stored: bytes, pixels: bytes | None) -> None:
        super().__setitem__(stored, pixels)
        self._journal.enter({"excluded": stored.hex(), "pixels": pixels.hex() if pixels else None})


class Excluded:
    """The pictures that may not be used, by what they show.

    Attributes:
        folders: for each folder its name, the number of its different pictures and a digest of them all.
    """

    def __init__(self, folders: Sequence[Path], findings: Findings, *, progress: bool) -> None:
        self._where: dict[str, str] = {}
        self.folders: list[dict[str, Any]] = []
        for folder in folders:
            pictures = read_pictures(folder, findings.excluded, progress=progress)
            for content, name in pictures.names.items():
                self._where.setdefault(content.hex(), f"{name} of {folder}")
            digest = hashlib.sha256(b"".join(sorted(pictures.names))).hexdigest()
            self.folders.append({"folder": str(folder), "pictures": len(pictures.names), "sha256": digest})

    def __bool__(self) -> bool:
        return bool(self.folders)

    def find(self, content: str) -> str | None:
        """Where a picture lies that shows the same, if any does."""
        return self._where.get(content)


class ExportStore(ImageStore):
    """Which pictures of a pool can be used for training.

    Args:
        pool: where docs are planned.
        findings: what is known of its pictures.
        excluded: the pictures that may not be used.
        progress: show bars on stderr.
    """

    def __init__(self, pool: Pool, findings: Findings, excluded: Excluded, *, progress: bool) -> None:
        super().__init__(pool, progress=progress)
        self._findings = findings
        self._excluded = excluded
        self.left_out = 0

    def _checked(self, image: int) -> tuple[str, Look]:
        """See `ImageStore`; excluded pictures cannot be used either."""
        record = self._images[image]
        finding = self._findings.look_up(record.path, width=record.width, height=record.height)
        same = self._excluded.find(finding["pixels"]) if self._excluded else None
        if same is not None:
            self.left_out += 1
            raise BrokenImage(f"is excluded: it shows what {same} shows")
        return str(finding["sha256"]), Look(record.width, record.height, finding["pixels"], finding["parts"])


class Referenced(DocPictures):
    """Pictures that stay where they are: docs only name them."""

    def __init__(self, store: ImageStore) -> None:
        super().__init__(store, lambda digest, data, name: None)

    def show(
        self, images: Sequence[int], boxes: Sequence[Sequence[Box]], transform: Transform, *, name: str
    ) -> tuple[list[str], list[list[Box]]]:
        """The digests of the pictures, and their boxes."""
        return [self._store.digests[image] for image in images], [list(of_image) for of_image in boxes]
