"""What `manifest.json` says of a build: versions, sources, what was dropped, and how the docs spread."""

import platform
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from mimic_tasks.image_store import ImageStore
from mimic_tasks.planning import PlannedDoc
from mimic_tasks.pool import Pool
from stats import connected_groups

_VERSIONS = ("mimic-eval", "pycocotools", "pyarrow", "datasets", "pillow", "numpy")


def common_records(pool: Pool, store: ImageStore, arguments: dict[str, Any], label: str) -> dict[str, Any]:
    """The part of the manifest that does not speak of tasks."""
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
            "images_with_a_countable_class": int(np.count_nonzero((pool.countable > 0).any(axis=1))),
            "categories_not_listed": sorted(set(source.categories) - set(pool.category_members)),
        },
        "images_checked": len(store.digests) + len(store.dropped),
        "images_dropped": store.dropped_records(),
    }


def docs_record(docs: Sequence[PlannedDoc]) -> dict[str, Any]:
    """How some docs share pictures and how their answers and sizes spread."""
    clusters = connected_groups([doc.images for doc in docs])
    uses = Counter(image for doc in docs for image in doc.images)
    answers = Counter(doc.gt for doc in docs)
    return {
        "images": len(uses),
        "largest_reuse": max(uses.values()),
        "clusters": {
            "count": clusters.groups,
            "largest_share": round(clusters.largest_share, 4),
            "labels": clusters.labels,
        },
        "largest_answer_share": round(max(answers.values()) / len(docs), 4),
        "answers": dict(answers.most_common()),
        "sizes": {str(n): c for n, c in sorted(Counter(len(doc.images) for doc in docs).items())},
        "spreads": {str(s): c for s, c in sorted(Counter(doc.spread for doc in docs).items())},
    }
