"""The pictures of a build: each opened once, checked, and dropped with its reason if unfit."""

from typing import Any

from mimic_tasks.images import BrokenImage, StoredImage, read_checked
from mimic_tasks.pool import Pool


class ImageStore:
    """The pictures of a build, each opened once."""

    def __init__(self, pool: Pool, *, progress: bool) -> None:
        self._pool = pool
        self._images = pool.source.images
        self._progress = progress
        self._by_hash: dict[str, int] = {}
        self.stored: dict[int, StoredImage] = {}
        self.dropped: dict[int, str] = {}

    def check(self, wanted: set[int]) -> list[int]:
        """Open those not opened yet; returns the ones that cannot be used, whose reasons are in `dropped`."""
        from tqdm import tqdm

        new = sorted(wanted - set(self.stored))
        bad = []
        for image in tqdm(new, desc="Checking pictures", unit="img", disable=not self._progress, leave=False):
            record = self._images[image]
            try:
                stored = read_checked(record.path, width=record.width, height=record.height)
                twin = self._by_hash.setdefault(stored.sha256, image)
                if twin != image:
                    bad += self._drop_twin(image, twin)
                    continue
            except BrokenImage as error:
                self.dropped[image] = str(error)
                bad.append(image)
            else:
                self.stored[image] = stored
        return bad

    def _drop_twin(self, image: int, twin: int) -> list[int]:
        """Of two pictures with the same bytes one goes; both, if their annotations differ."""
        if self._pool.boxes(image, frozenset()) == self._pool.boxes(twin, frozenset()):
            self.dropped[image] = f"has the same bytes as image {self._images[twin].image_id}"
            return [image]
        for one, other in ((image, twin), (twin, image)):
            self.stored.pop(one, None)
            self.dropped[one] = (
                f"has the same bytes as image {self._images[other].image_id}, but other annotations"
            )
        return [image, twin]

    def dropped_records(self) -> list[dict[str, Any]]:
        """The dropped pictures for the manifest."""
        return [
            {"image_id": self._images[i].image_id, "file": self._images[i].path.name, "reason": reason}
            for i, reason in sorted(self.dropped.items())
        ]
