"""What the vision tower made of each image, cached for the docs and orders that use it again."""

from collections import OrderedDict
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from model_adapters.families.base import Family, ImageFeatures, PreparedBatch


class _View(NamedTuple):
    """What an image's features depend on, for one model and its processor."""

    pixels: str
    alone: bool


class FeatureCache:
    """Features of images by their pixels, in the host's memory; those used longest ago make room.

    It serves one model with one processor, whose settings so belong to every key. Features are those of
    `Family.image_features`: with and without the cache the decoder gets the same, up to the rounding of
    batches of another size.

    Args:
        most_bytes: stored at most.

    Attributes:
        encoded: images that went through the vision tower.
        reused: images that did not have to.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.encoded = 0
        self.reused = 0
        self._stored: OrderedDict[_View, ImageFeatures] = OrderedDict()
        self._bytes = 0

    def of_batch(
        self,
        family: Family,
        model: Any,
        batch: PreparedBatch,
        hashes: Sequence[Sequence[str]],
        *,
        once: Collection[str] = (),
    ) -> list[ImageFeatures]:
        """The features of all images of a batch; each one that is not cached is encoded, once.

        Args:
            family: the model's.
            model: the model.
            batch: inputs on the model's device and in its dtype.
            hashes: `Picture.sha256` of each image of each row.
            once: those of pictures that no later batch shows; they take no other picture's place.

        Returns:
            One for each image through the rows; on the host, or where the model has just made it.
        """
        views = [_View(tensor, family.alone_differs and len(row) == 1) for row in hashes for tensor in row]
        features_of = {view: self._stored[view] for view in views if view in self._stored}
        first: dict[_View, int] = {}
        for i, view in enumerate(views):
            if view not in features_of:
                first.setdefault(view, i)
        if first:
            made = family.image_features(model, batch, list(first.values()))
            features_of.update(zip(first, made, strict=True))
        self.encoded += len(first)
        self.reused += len(views) - len(first)
        for view in dict.fromkeys(views):
            if view.pixels not in once:
                self._store(view, features_of[view])
        return [features_of[view] for view in views]

    def _store(self, view: _View, features: ImageFeatures) -> None:
        """Remember features as the last used."""
        if view in self._stored:
            self._stored.move_to_end(view)
            return
        size = _bytes(features)
        if size > self.most_bytes:
            return
        maps = [
            tensor.cpu() if tensor.is_cuda else tensor.clone() for tensor in (features.tokens, *features.deep)
        ]
        self._stored[view] = ImageFeatures(maps[0], tuple(maps[1:]))  # not the batch around it
        self._bytes += size
        while self._bytes > self.most_bytes:
            _, oldest = self._stored.popitem(last=False)
            self._bytes -= _bytes(oldest)


def _bytes(features: ImageFeatures) -> int:
    return sum(tensor.nbytes for tensor in (features.tokens, *features.deep))
