"""A blind review: people answer docs as a model gets them, which measures how good the truth is (METHODS 2).

`summarize_review` gathers what the page may show: questions and pictures, never a truth, a box or a control.
`mimic_tasks.review.page` renders it, `mimic_tasks.review.answers` reads what people exported.
"""

import base64
import hashlib
import io
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mimic_eval.records import UserError
from mimic_tasks.images import BrokenImage, decode_strict, stored_format
from mimic_tasks.stored_docs import chosen_files, count_docs, read_docs, task_kind
from mimic_tasks.task_spec import spec_of

LARGEST = 1280
"""The longer side of a picture on the page, in pixels; larger pictures are scaled down."""

MOST_BYTES = 400_000_000
"""Pictures of a page, in bytes: browsers open no larger page reliably."""

_WEB_FORMATS = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "GIF": "image/gif"}


@dataclass(frozen=True)
class ReviewDoc:
    """A doc without its truth: the task, the content hash, the question, keys of `Review.pictures`."""

    task: str
    content_hash: str
    question: str
    hint: str
    images: tuple[str, ...]


@dataclass(frozen=True)
class Review:
    """All that the page holds.

    Attributes:
        id: hash of the docs; under it the browser stores answers.
        title: the folder's name.
        docs: in the order of the page.
        pictures: data URIs by key.
        skipped: docs left out because a picture cannot be decoded.
    """

    id: str
    title: str
    docs: tuple[ReviewDoc, ...]
    pictures: dict[str, str]
    skipped: int


def summarize_review(path: Path, *, docs: int, kinds: Sequence[str] | None = None, seed: int = 0) -> Review:
    """Draw docs of a task folder for a blind review.

    Args:
        path: a folder that `mimic build` or `mimic sweep` wrote.
        docs: docs of each task, drawn without replacement; all if a task has fewer.
        kinds: short task names; all that the folder has if None.
        seed: of the draw. The same seed gives every person the same docs.

    Raises:
        UserError: no task in the folder; an unknown task; too many bytes of pictures for one page.
    """
    if docs < 1:
        raise UserError(f"--docs must be at least 1, got {docs}")
    files = chosen_files(path, kinds)
    chosen: list[ReviewDoc] = []
    pictures: dict[str, str] = {}
    seen: set[str] = set()
    skipped = 0
    for name, file in files.items():
        total = count_docs(file)
        wanted = set(random.Random(f"{seed}/{name}").sample(range(total), min(docs, total)))
        for i, doc in enumerate(read_docs(file, ("question", "content_hash", "images"))):
            if i in wanted and doc["content_hash"] not in seen:
                seen.add(doc["content_hash"])
                drawn = _doc(name, doc, pictures)
                skipped += drawn is None
                chosen += [drawn] if drawn else []
    if not chosen:
        raise UserError(f"{path}: none of its docs can be reviewed: no picture of them can be decoded")
    if sum(map(len, pictures.values())) > MOST_BYTES:
        raise UserError(f"{len(chosen)} docs hold too many pictures for one page; lower --docs")
    digest = hashlib.sha256("\n".join(doc.content_hash for doc in chosen).encode()).hexdigest()[:16]
    return Review(digest, path.resolve().name, tuple(chosen), pictures, skipped)


def _doc(name: str, doc: Mapping[str, Any], pictures: dict[str, str]) -> ReviewDoc | None:
    """The doc, its pictures entered in `pictures`; None if one of them cannot be decoded."""
    keys = []
    for image in doc["images"] or ():
        data = (image or {}).get("bytes") or b""
        key = "p" + hashlib.sha256(data).hexdigest()[:24]
        if key not in pictures:
            try:
                pictures[key] = _data_uri(data)
            except BrokenImage:
                return None
        keys.append(key)
    hint = spec_of(task_kind(name) or "").answer_hint
    return ReviewDoc(f"mimic_{name}", doc["content_hash"], doc["question"], hint, tuple(keys))


def _data_uri(data: bytes) -> str:
    """The picture for a browser: its stored bytes where a browser can show them at a fitting size."""
    image = decode_strict(data)
    kind = _WEB_FORMATS.get(stored_format(data))
    if kind is None or max(image.size) > LARGEST:
        image.thumbnail((LARGEST, LARGEST))
        out = io.BytesIO()
        image.save(out, "JPEG", quality=90)
        data, kind = out.getvalue(), "image/jpeg"
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
