"""The pictures of a build: each checked once, dropped with its reason if unfit, then stored with the docs."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mimic_eval.records import Box, UserError
from mimic_tasks.images import BrokenImage, pixel_digest, read_checked
from mimic_tasks.pool import Pool
from mimic_tasks.transforms import Transform
from mimic_tasks.twins import Look, Twin, Twins

_SAME_POSITION = 0.01  # of the picture's side: boxes of a copy in another size are rounded


class ImageStore:
    """Which pictures of a pool can be used. Only digests stay in memory."""

    def __init__(self, pool: Pool, *, progress: bool) -> None:
        self._pool = pool
        self._images = pool.source.images
        self._progress = progress
        self._twins = Twins()
        self.digests: dict[int, str] = {}
        self.dropped: dict[int, str] = {}

    def check(self, wanted: set[int]) -> list[int]:
        """Open those not opened yet; returns the ones that cannot be used, whose reasons are in `dropped`."""
        from tqdm import tqdm

        new = sorted(wanted - set(self.digests))
        bad = []
        disable = None if self._progress else True
        for image in tqdm(new, desc="Checking pictures", unit="img", disable=disable, leave=False):
            try:
                digest, look = self._checked(image)
            except BrokenImage as error:
                self.dropped[image] = str(error)
                bad.append(image)
                continue
            twin = self._twins.enter(image, look)
            if twin is not None:
                bad += self._drop_twin(image, twin)
            else:
                self.digests[image] = digest
        return bad

    def _checked(self, image: int) -> tuple[str, Look]:
        """The SHA-256 of a picture's bytes, and what it shows.

        Raises:
            BrokenImage: it cannot be used.
        """
        record = self._images[image]
        stored = read_checked(record.path, width=record.width, height=record.height)
        return stored.sha256, stored.look

    def read(self, image: int) -> bytes:
        """A checked picture's bytes.

        Raises:
            UserError: the file has changed since it was checked.
        """
        path = self._images[image].path
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != self.digests[image]:
            raise UserError(f"{path} changed while the build ran: build again")
        return data

    def name(self, image: int) -> str:
        """A picture's file name."""
        return self._images[image].path.name

    def _drop_twin(self, image: int, twin: Twin) -> list[int]:
        """Of two pictures that show the same one goes; both, if their annotations differ."""
        other = twin.image
        same = "shows the same as image {}" + (", stored in another way" if not twin.exact else "")
        if self._annotated_alike(image, other):
            self.dropped[image] = same.format(self._images[other].image_id)
            return [image]
        for one, its_twin in ((image, other), (other, image)):
            self.digests.pop(one, None)
            self.dropped[one] = f"{same.format(self._images[its_twin].image_id)}, but with other annotations"
        return [image, other]

    def _annotated_alike(self, *images: int) -> bool:
        """The same classes with the same flags at the same positions, in parts of the picture."""
        rows = []
        for image in images:
            width, height = self._images[image].width, self._images[image].height
            boxes = self._pool.boxes(image, frozenset())
            rows.append(
                sorted(
                    (b["class"], b["small"], b["crowd"], b["x"] / width, b["y"] / height,
                     b["width"] / width, b["height"] / height)
                    for b in boxes
                )
            )  # fmt: skip
        first, second = rows
        return len(first) == len(second) and all(
            a[:3] == b[:3] and max(abs(p - q) for p, q in zip(a[3:], b[3:], strict=True)) <= _SAME_POSITION
            for a, b in zip(first, second, strict=True)
        )

    def dropped_records(self) -> list[dict[str, Any]]:
        """The dropped pictures for the manifest."""
        return [
            {"image_id": self._images[i].image_id, "file": self._images[i].path.name, "reason": reason}
            for i, reason in sorted(self.dropped.items())
        ]


class DocPictures:
    """The pictures of docs, after their transform; each distinct one is stored once.

    Args:
        store: the checked pictures.
        keep: called once for each distinct picture with its SHA-256, its bytes and a file name.

    Attributes:
        originals: the pixel digest (hex) and name of the source of each changed picture.
    """

    def __init__(self, store: ImageStore, keep: Callable[[str, bytes, str], None]) -> None:
        self._store = store
        self._keep = keep
        self._kept: set[str] = set()
        self.originals: dict[str, str] = {}
        self._resampled: dict[tuple[int, int], str] = {}

    def show(
        self, images: Sequence[int], boxes: Sequence[Sequence[Box]], transform: Transform, *, name: str
    ) -> tuple[list[str], list[list[Box]]]:
        """What a doc shows of these pictures: the digests of its pictures, and its boxes in their pixels.

        Args:
            images: positions in the source, in the doc's order.
            boxes: of each, in its pixels.
            transform: what is done to them.
            name: of a picture that only this doc has (a stitched one).
        """
        if transform.stitch != "none":
            (data,), moved = transform.apply([self._original(i) for i in images], boxes)
            return [self._enter(data, f"{name}.png")], moved
        return [self._one(image, transform) for image in images], [list(of_image) for of_image in boxes]

    def _one(self, image: int, transform: Transform) -> str:
        if not transform.changes:
            digest = self._store.digests[image]
            if digest not in self._kept:
                self._enter(self._store.read(image), self._store.name(image))
            return digest
        key = image, transform.downsample
        if key not in self._resampled:
            (data,), _ = transform.apply([self._original(image)], [[]])
            self._resampled[key] = self._enter(data, f"{Path(self._store.name(image)).stem}.png")
        return self._resampled[key]

    def _original(self, image: int) -> bytes:
        data = self._store.read(image)
        digest = pixel_digest(data)
        assert digest is not None  # it was decoded when it was checked
        self.originals[digest.hex()] = self._store.name(image)
        return data

    def _enter(self, data: bytes, name: str) -> str:
        digest = hashlib.sha256(data).hexdigest()
        if digest not in self._kept:
            self._kept.add(digest)
            self._keep(digest, data, name)
        return digest
