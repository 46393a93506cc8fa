"""What the tests of the permuted tasks share."""

import hashlib
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import datasets

from mimic_eval.records import TASK_KINDS, content_hash
from mimic_tasks.lmms_hooks import keep_bytes
from mimic_tasks.locate import EMBEDDED


def load(file: Path, cache: Path | str) -> Any:
    return datasets.load_dataset(
        "parquet", data_files={"test": str(file)}, split="test", cache_dir=str(cache)
    )


@cache
def embedded_docs() -> dict[str, Any]:
    """The embedded docs, as the plain tasks hold them."""
    with tempfile.TemporaryDirectory() as folder:
        return {kind: keep_bytes(load(EMBEDDED / kind / "test.parquet", folder)) for kind in TASK_KINDS}


def by_hand(doc: dict[str, Any], order: tuple[int, ...]) -> dict[str, Any]:
    """The definition: a plain doc whose images somebody put in that order."""
    moved = {name: [doc[name][i] for i in order] for name in ("images", "image_ids", "boxes")}
    hashes = [hashlib.sha256(image["bytes"]).hexdigest() for image in moved["images"]]
    own = content_hash(
        kind=doc["task"].split("_")[0], question=doc["question"], gt=doc["gt"], image_hashes=hashes
    )
    return {**doc, **moved, "content_hash": own}
