"""Docs whose outputs of outside models are stored, and what a cache then holds."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mimic_tasks.images import decode_strict
from model_adapters.relevance import parse_relevance
from model_adapters.relevance.cache import Arrays
from model_adapters.relevance.fill import CacheFiller, Filled, StoredDoc
from model_adapters.relevance.query import Query
from model_adapters.relevance.sources import RelevanceSource


def png(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def stored(question: str, *pictures: bytes | None, targets: Sequence[str] = ("dog",)) -> StoredDoc:
    doc = {"question": question, "task": "counting_balanced", "targets": list(targets)}
    return StoredDoc(Query.of_doc(doc, (), name=f"doc '{question}'"), pictures)


def source_of(relevance: str, folders: dict[str, str], **settings: Any) -> RelevanceSource:
    choice = parse_relevance(relevance)
    return RelevanceSource(choice, **{name: folders[name] for name in choice.models}, **settings)


def fill(source: RelevanceSource, docs: Sequence[StoredDoc], *, batch_size: int = 4) -> Filled:
    filler = CacheFiller(source, lambda: docs, decode_strict, batch_size=batch_size)
    filler.survey()
    return filler.run()


def entries(cache: Path) -> dict[str, Arrays]:
    """All outputs in a cache folder, by their key."""
    found = {}
    for file in sorted(cache.rglob("*.npz")):
        with np.load(io.BytesIO(file.read_bytes()[:-32])) as arrays:
            found[str(arrays["key"])] = {name: arrays[name] for name in arrays.files if name != "key"}
    return found
