"""Filling the cache of the outside models ahead of runs, in batches."""

import hashlib
import sys
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from PIL import Image

from mimic_eval.records import UserError, announce_cached
from model_adapters.memory import is_out_of_memory, release
from model_adapters.picture import image_hash
from model_adapters.relevance.cache import Arrays, cache_folder
from model_adapters.relevance.outside import OutsideModel
from model_adapters.relevance.query import Query
from model_adapters.relevance.sources import RelevanceSource

_MOST_WAITING = 2**30
"""Bytes of decoded pictures that wait for a batch to fill."""


class StoredDoc(NamedTuple):
    """A doc whose pictures are not decoded.

    Attributes:
        query: of the doc, without pictures.
        pictures: the files' bytes, or None for one that is missing.
    """

    query: Query
    pictures: Sequence[bytes | None]


class _Entry(NamedTuple):
    """A picture that waits for its batch."""

    image: Image.Image
    key: str
    texts: tuple[str, ...]


@dataclass
class Filled:
    """What was needed and what was done.

    Attributes:
        docs: that were read, those left out not among them.
        pictures: different ones in them.
        left_out: why a doc was left out; one line each.
        cached: outputs that the cache had, by the argument of the model.
        missing: those that it lacked.
        made: those that were computed and stored.
        elsewhere: those that another process stored meanwhile.
    """

    docs: int = 0
    pictures: int = 0
    left_out: list[str] = field(default_factory=list)
    cached: Counter[str] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)
    made: Counter[str] = field(default_factory=Counter)
    elsewhere: int = 0


class CacheFiller:
    """Computes what the cache lacks for some docs. Each picture is decoded twice at most, and few at a time.

    Args:
        source: whose outside models look at the pictures.
        docs: gives the docs; it is called twice.
        decode: of a picture's bytes to RGB; ValueError with the reason if it cannot.
        batch_size: pictures at a time (Grounding DINO: pictures and captions); less where memory runs out.
        progress: show bars.

    Attributes:
        filled: counts, so far.
    """

    def __init__(
        self,
        source: RelevanceSource,
        docs: Callable[[], Iterable[StoredDoc]],
        decode: Callable[[bytes], Image.Image],
        *,
        batch_size: int,
        progress: bool = False,
    ) -> None:
        self._models = source.models()
        self._docs = docs
        self._decode = decode
        self._batch_size = batch_size
        self._hide = None if progress else True  # None: shown on a terminal
        self._hashes: dict[bytes, str] = {}  # of a picture's pixels, by the digest of its bytes
        self._needs: dict[str, dict[str, list[str]]] = {}  # texts by picture and model
        self.filled = Filled()

    def survey(self) -> Filled:
        """Find out what is missing: read all docs, and decode each different picture once.

        Raises:
            UserError: no model there, or docs that cannot be read.
        """
        from tqdm import tqdm

        texts: dict[str, dict[str, dict[str, None]]] = {}
        for doc in tqdm(self._docs(), desc="Reading", unit="doc", disable=self._hide, leave=False):
            try:
                keys = self._pictures_of(doc)
            except ValueError as reason:
                self.filled.left_out.append(f"{doc.query.name}: {reason}")
                continue
            self.filled.docs += 1
            for name, model in self._models.items():
                text = model.text_of(doc.query)
                for key in keys:
                    texts.setdefault(key, {}).setdefault(name, {})[text] = None
        self.filled.pictures = len(texts)
        for key, by_model in tqdm(texts.items(), desc="Looking up", disable=self._hide, leave=False):
            for name, wanted in by_model.items():
                missing = self._missing(self._models[name], key, wanted)
                self.filled.cached[name] += len(wanted) - len(missing)
                self.filled.missing[name] += len(missing)
                if missing:
                    self._needs.setdefault(key, {})[name] = missing
        return self.filled

    def run(self) -> Filled:
        """Compute and store what `survey` found missing; each batch is stored before the next one starts.

        Raises:
            UserError: a model or the cache out of reach, or one picture that memory does not hold.
        """
        from tqdm import tqdm

        announce_cached(self._stored)
        total = sum(self.filled.missing.values())
        with tqdm(total=total, desc="Running", unit="output", disable=self._hide) as bar:
            for name, entries in self._batches():
                for _ in self._compute(self._models[name], entries):
                    bar.update(sum(self.filled.made.values()) + self.filled.elsewhere - bar.n)
        return self.filled

    def _pictures_of(self, doc: StoredDoc) -> list[str]:
        """The pixel hashes of a doc's pictures.

        Raises:
            ValueError: one cannot be decoded.
        """
        keys = []
        for i, data in enumerate(doc.pictures):
            where = f"image {i + 1} of {len(doc.pictures)}"
            if not data:
                raise ValueError(f"{where} missing")
            digest = hashlib.sha256(data).digest()
            if digest not in self._hashes:
                try:
                    self._hashes[digest] = image_hash(self._decode(data))
                except ValueError as reason:
                    raise ValueError(f"{where} {reason}") from reason
            keys.append(self._hashes[digest])
        return keys

    @staticmethod
    def _missing(model: OutsideModel, key: str, texts: Iterable[str]) -> list[str]:
        cache, kind = model.cache, model.argument
        return [text for text in texts if cache.read(kind, model.output_key(key, text)) is None]

    def _batches(self) -> Iterator[tuple[str, list[_Entry]]]:
        """The pictures that are needed, in batches that a model takes, with the model's argument."""
        waiting: dict[tuple[str, Hashable], list[_Entry]] = {}
        for image, key, needs in self._needed():
            for name, texts in needs.items():
                model = self._models[name]
                parts = [tuple(texts)] if model.encodes_once else [(text,) for text in texts]
                for part in parts:
                    group = (name, model.batch_of(image.size))
                    waiting.setdefault(group, []).append(_Entry(image, key, part))
                    if len(waiting[group]) >= self._batch_size:
                        yield name, waiting.pop(group)
            while sum(_size(entry) for entries in waiting.values() for entry in entries) > _MOST_WAITING:
                fullest = max(waiting, key=lambda group: len(waiting[group]))
                yield fullest[0], waiting.pop(fullest)
        for (name, _), entries in waiting.items():
            yield name, entries

    def _needed(self) -> Iterator[tuple[Image.Image, str, dict[str, list[str]]]]:
        """Each picture that is needed, decoded, once."""
        if not self._needs:
            return
        for doc in self._docs():
            for data in doc.pictures:
                key = self._hashes.get(hashlib.sha256(data).digest()) if data else None
                needs = self._needs.pop(key, None) if key else None
                if data and key and needs:
                    yield self._decode(data), key, needs
            if not self._needs:
                return

    def _compute(self, model: OutsideModel, entries: list[_Entry]) -> Iterator[None]:
        """Compute and store a batch, in parts where memory runs out; yields after each part."""
        entries = list(self._still_missing(model, entries))
        if not entries:
            return
        images, keys, texts = (list(column) for column in zip(*entries, strict=True))
        too_large = False
        outputs: list[list[Arrays]] = []
        try:
            outputs = model.outputs(images, keys, texts)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if len(entries) == 1:
                width, height = images[0].size
                raise UserError(
                    f"out of memory with one picture of {width} x {height} in {model.title}: use another "
                    "device or --dtype bfloat16"
                ) from error
            too_large = True
        if too_large:  # outside of the handler, whose traceback holds tensors
            release()
            half = len(entries) // 2
            self._batch_size = min(self._batch_size, half)
            print(f"out of memory: {model.title} goes on with {half} pictures at a time", file=sys.stderr)
            for start in range(0, len(entries), half):
                yield from self._compute(model, entries[start : start + half])
            return
        for entry, made in zip(entries, outputs, strict=True):
            for text, arrays in zip(entry.texts, made, strict=True):
                model.cache.write(model.argument, model.output_key(entry.key, text), arrays)
                self.filled.made[model.argument] += 1
        yield

    def _still_missing(self, model: OutsideModel, entries: list[_Entry]) -> Iterator[_Entry]:
        """Without what another process has stored meanwhile."""
        for entry in entries:
            texts = self._missing(model, entry.key, entry.texts)
            self.filled.elsewhere += len(entry.texts) - len(texts)
            if texts:
                yield entry._replace(texts=tuple(texts))

    def _stored(self) -> str:
        made = sum(self.filled.made.values())
        return f"{made} new outputs are saved in {cache_folder()}; run the same command to resume"


def _size(entry: _Entry) -> int:
    return 3 * entry.image.width * entry.image.height
