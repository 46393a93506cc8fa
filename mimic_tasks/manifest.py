"""What `manifest.json` records of a build: versions, sources, what was dropped, and how the docs spread."""

import hashlib
import platform
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from mimic_eval.records import UserError
from mimic_eval.records.reading import read_json
from mimic_tasks.image_store import ImageStore
from mimic_tasks.planning import PlannedDoc, best_constant
from mimic_tasks.pool import Pool
from mimic_tasks.stored_docs import names_pictures, read_docs, task_files
from mimic_tasks.task_spec import spec_of
from stats import connected_groups

_VERSIONS = ("mimic-eval", "pycocotools", "pyarrow", "datasets", "pillow", "numpy")


def common_records(pool: Pool, store: ImageStore, arguments: dict[str, Any], label: str) -> dict[str, Any]:
    """The part of the manifest that does not concern tasks."""
    source = pool.source
    rows, small, crowd = len(source.image_index), int(pool.small.sum()), int(source.crowd.sum())
    return {
        "format": 1,
        "label": label,
        "arguments": arguments,
        "versions": {name: version(name) for name in _VERSIONS} | {"python": platform.python_version()},
        "files": [{"name": name, "sha256": digest} for name, digest in source.files],
        "source": {
            "images": len(source.images),
            "annotations": rows,
            "small": {
                "count": small,
                "rule": "box under 5 % of the picture: never a target, hides its class",
            },
            "crowd": {"count": crowd, "rule": "crowd region: never a target, hides its class"},
            "changed": dict(source.notes),
            "classes_merged": dict(sorted(source.aliases.items())),
            "images_with_a_countable_class": int(np.count_nonzero((pool.countable > 0).any(axis=1))),
            "categories_not_listed": sorted(set(source.categories) - set(pool.category_members)),
        },
        "profile": {
            "name": pool.profile.name,
            "classes_not_counted": list(pool.profile.uncounted),
            "categories_not_listed": list(pool.profile.unlisted),
        },
        "images_checked": len(store.digests) + len(store.dropped),
        "images_dropped": store.dropped_records(),
    }


def docs_record(docs: Sequence[PlannedDoc]) -> dict[str, Any]:
    """How some docs share pictures and how their answers and sizes spread.

    `largest_answer_share` is what the best constant answer scores. Kinds with positional answers also have
    `positions`: by number of images, in how many docs the image at each position shows the class.
    """
    clusters = connected_groups([doc.images for doc in docs])
    uses = Counter(image for doc in docs for image in doc.images)
    answers = Counter(doc.gt for doc in docs)
    record = {
        "images": len(uses),
        "largest_reuse": max(uses.values()),
        "clusters": {
            "count": clusters.groups,
            "largest_share": round(clusters.largest_share, 4),
            "labels": clusters.labels,
        },
        "largest_answer_share": round(best_constant(docs), 4),
        "answers": dict(answers.most_common()),
        "sizes": {str(n): c for n, c in sorted(Counter(len(doc.images) for doc in docs).items())},
        "spreads": {str(s): c for s, c in sorted(Counter(doc.spread for doc in docs).items())},
    }
    positional = spec_of(docs[0].kind).positional
    if positional is None:
        return record
    positions = {n: [0] * n for n in sorted({len(doc.images) for doc in docs})}
    for doc in docs:
        for position in positional.named(doc.gt):
            positions[len(doc.images)][position] += 1
    return {**record, "positions": {str(n): counts for n, counts in positions.items()}}


def made_with(folder: Path) -> dict[str, Any] | None:
    """The arguments of a build or sweep that is there with all its files; None if it is not.

    An annotation file that has another content now counts as another argument.
    """
    try:
        manifest = read_json(folder / "manifest.json")
        files = task_files(folder)
        if set(manifest["tasks"]) != set(files) or not all(
            (folder / name).is_file() for name in _PLAIN_FILES
        ):
            return None
        for name, file in files.items():
            if not (folder / f"mimic_{name}.yaml").is_file() or not _has_pictures(folder, file):
                return None
        arguments = dict(manifest["arguments"])
        read = [*arguments["annotations"], arguments.get("class_descriptions"), arguments.get("hierarchy")]
        digests = {entry["sha256"] for entry in manifest["files"]}
        changed = [name for name in read if name is not None and _digest(Path(name)) not in digests]
        return arguments | {f"content of {name}": "another" for name in changed}
    except (UserError, KeyError, TypeError, AttributeError):
        return None


_PLAIN_FILES = ("README.md", "mimic.yaml")


def _has_pictures(folder: Path, file: Path) -> bool:
    if not names_pictures(file):
        return True
    named = {name for doc in read_docs(file, ("image_files",)) for name in doc["image_files"]}
    return all((folder / name).is_file() for name in named)


def _digest(file: Path) -> str | None:
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError:
        return None
