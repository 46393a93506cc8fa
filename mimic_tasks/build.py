"""`mimic build`: annotations and pictures in, a self-contained task folder out."""

import json
import os
import platform
import secrets
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from mimic_eval.records import TASK_KINDS, UserError, content_hash
from mimic_tasks import folder
from mimic_tasks.clusters import image_clusters
from mimic_tasks.image_store import ImageStore
from mimic_tasks.locate import PATTERN_SIGNS
from mimic_tasks.planning import Controls, PlannedDoc, TaskPlan, plan_task
from mimic_tasks.pool import Pool, make_pool
from mimic_tasks.prompts import draw_question
from mimic_tasks.scoring import score
from mimic_tasks.sources import merge, read_coco
from mimic_tasks.verify import verify_doc

_VERSIONS = ("mimic-eval", "pycocotools", "pyarrow", "datasets", "pillow", "numpy")


_MAX_DOCS = 1_000_000


@dataclass(frozen=True)
class BuildOptions:
    """Everything a build depends on.

    Attributes:
        annotations: COCO instances files.
        images: the image folder of each.
        out: the task folder to write.
        tasks: short task names.
        docs: docs a task.
        seed: of every draw.
        controls: the docs' content.
        classes: the only classes that may be targets; None: all.
        max_reuse: docs of a task that an image may serve; None: any number.
        allow_fewer: take what the data can give.
        label: how results made with the build are labelled; None: the annotation files' names.
    """

    annotations: tuple[Path, ...]
    images: tuple[Path, ...]
    out: Path
    tasks: tuple[str, ...] = TASK_KINDS
    docs: int = 100
    seed: int = 0
    controls: Controls = field(default_factory=Controls)
    classes: tuple[str, ...] | None = None
    max_reuse: int | None = None
    allow_fewer: bool = False
    label: str | None = None


@dataclass(frozen=True)
class BuildResult:
    """What was written: the folder, one line for each task, and one sentence for each shortage."""

    out: Path
    summary: tuple[str, ...]
    shortages: tuple[str, ...]


def build(options: BuildOptions, *, progress: bool = True) -> BuildResult:
    """Build a task folder. Nothing is left at `out` unless the whole build succeeds.

    Pictures are decoded strictly; broken ones are dropped with their reason and the docs planned again
    without them.

    Args:
        options: what to build.
        progress: show a bar on stderr.

    Raises:
        UserError: bad input, or a request that the data cannot satisfy.
    """
    options = replace(options, out=Path(os.path.abspath(options.out)))
    _check(options)
    partial = options.out.with_name(f".{options.out.name[:100]}.{secrets.token_hex(4)}.partial")
    try:
        _make_folder(partial, options.out)
        summary, shortages = _build_in(partial, options, progress=progress)
        _move(partial, options.out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return BuildResult(options.out, summary, shortages)


def _build_in(
    partial: Path, options: BuildOptions, *, progress: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Write the folder's files to `partial`; returns the summary lines and the shortages."""
    pool = _pool(options)
    store = ImageStore(pool, progress=progress)
    while True:
        plans = _plans(pool, options, store.dropped)
        broken = store.check({image for plan in plans for doc in plan.docs for image in doc.images})
        if not broken:
            break
        pool = pool.without(broken)
    shortages = _shortages(plans)
    plans = [plan for plan in plans if plan.docs]
    label = options.label or pool.source.name
    tasks = {plan.kind: _write_task(partial, plan, pool, store, options, label) for plan in plans}
    counts = {kind: task["docs"] for kind, task in tasks.items()}
    folder.write_group_yaml(partial, list(counts))
    folder.write_card(partial, label=label, counts=counts, seed=options.seed)
    manifest = _manifest(options, pool, store, label) | {"tasks": tasks}
    (partial / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return tuple(_summary(kind, task) for kind, task in tasks.items()), shortages


def plan_only(options: BuildOptions) -> dict[str, Any]:
    """What a build would draw, without opening a picture: a JSON-able summary of its plan.

    Args:
        options: as for `build`; `out` and the picture folders are not looked at.

    Raises:
        UserError: as for `build`.
    """
    _check_numbers(options)
    pool = _pool(options)
    plans = _plans(pool, options, {})
    return {
        "source": {"images": len(pool.source.images), "annotations": len(pool.source.image_index)},
        "tasks": {plan.kind: _statistics(plan) for plan in plans},
    }


def _pool(options: BuildOptions) -> Pool:
    pairs = zip(options.annotations, options.images, strict=True)
    return make_pool(
        merge([read_coco(annotations, images) for annotations, images in pairs]),
        classes=list(options.classes) if options.classes is not None else None,
    )


def _make_folder(partial: Path, out: Path) -> None:
    """Make the folder to build in, beside `out`, so that a place that cannot be written is found at once."""
    try:
        partial.mkdir(parents=True)
    except (OSError, UnicodeError) as error:
        raise UserError(f"--out {out!s:.200}: cannot be written ({error})") from error


def _move(partial: Path, out: Path) -> None:
    """Put the finished files in their place; `out` is missing, or an empty folder that is kept."""
    try:
        if not out.exists():
            partial.rename(out)
        elif any(out.iterdir()):
            raise UserError(f"--out {out} was filled by somebody else meanwhile: choose another folder")
        else:
            for file in sorted(partial.iterdir()):
                file.rename(out / file.name)
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written ({error.strerror})") from error


def _summary(kind: str, task: dict[str, Any]) -> str:
    """What a user should know of a task before trusting its numbers."""
    sizes = list(task["sizes"])
    span = sizes[0] if len(sizes) == 1 else f"{sizes[0]}-{sizes[-1]}"
    joined = f"{task['clusters']['largest_share']:.0%}"
    return (
        f"mimic_{kind}: {task['docs']} docs of {span} images, from {task['images']} pictures; one serves up "
        f"to {task['largest_reuse']} docs, and {joined} of the docs hang together by shared pictures; "
        f"the best constant answer scores {task['largest_answer_share']:.0%}"
    )


def _check_numbers(options: BuildOptions) -> None:
    if not options.annotations or len(options.annotations) != len(options.images):
        raise UserError(
            f"--annotations and --images go in pairs, got {len(options.annotations)} "
            f"and {len(options.images)}"
        )
    if options.docs < 1:
        raise UserError(f"--docs must be at least 1, got {options.docs}")
    if options.max_reuse is not None and options.max_reuse < 1:
        raise UserError(f"--max-reuse must be at least 1, got {options.max_reuse}")
    if options.seed < 0:
        raise UserError(f"--seed must be at least 0, got {options.seed}")
    if options.docs > _MAX_DOCS:
        raise UserError(f"--docs must be at most {_MAX_DOCS}, got {options.docs}")


def _check(options: BuildOptions) -> None:
    _check_numbers(options)
    for images in options.images:
        if not images.is_dir():
            raise UserError(f"--images {images}: no such folder")
    out = options.out
    if set(PATTERN_SIGNS) & set(str(out)):
        raise UserError(
            f"--out {out}: datasets takes {' '.join(PATTERN_SIGNS)} in a path for patterns; choose another"
        )
    try:
        if out.is_symlink() and not out.exists():
            raise UserError(f"--out {out} is a link to nothing")
        if out.exists() and not out.is_dir():
            raise UserError(f"--out {out} is a file: choose a folder")
        if out.exists() and any(out.iterdir()):
            raise UserError(f"--out {out} exists and is not empty: choose another folder, or remove it")
    except OSError as error:
        raise UserError(f"--out {out!s:.200}: cannot be written ({error.strerror})") from error


def _plans(pool: Pool, options: BuildOptions, dropped: dict[int, str]) -> list[TaskPlan]:
    plans = [_plan(kind, pool, options) for kind in TASK_KINDS if kind in options.tasks]
    short = [plan for plan in plans if plan.shortage]
    lost = (
        f" ({len(dropped)} pictures were dropped, e.g. one {next(iter(dropped.values()))})" if dropped else ""
    )
    if short and not options.allow_fewer:
        others = f"; short too: {', '.join(plan.kind for plan in short[1:])}" if short[1:] else ""
        raise UserError(
            f"{short[0].shortage}{others}{lost}. "
            "Ask for fewer --docs, widen the options, or pass --allow-fewer"
        )
    if not any(plan.docs for plan in plans):
        raise UserError(f"no task has a doc: {'; '.join(str(plan.shortage) for plan in short)}{lost}")
    return plans


def _plan(kind: str, pool: Pool, options: BuildOptions) -> TaskPlan:
    """The plan of a task; with --allow-fewer, a size that the task cannot have makes an empty one."""
    try:
        options.controls.sizes(kind)
    except UserError as error:
        if not options.allow_fewer:
            raise
        return TaskPlan(kind, (), options.docs, str(error))
    return plan_task(
        kind, pool, options.controls, docs=options.docs, seed=options.seed, max_reuse=options.max_reuse
    )


def _shortages(plans: Sequence[TaskPlan]) -> tuple[str, ...]:
    lines = []
    for plan in plans:
        if not plan.docs:
            lines.append(f"mimic_{plan.kind} has no doc and is not written ({plan.shortage})")
        elif plan.shortage:
            lines.append(plan.shortage)
    return tuple(lines)


def _write_task(
    out: Path, plan: TaskPlan, pool: Pool, store: ImageStore, options: BuildOptions, label: str
) -> dict[str, Any]:
    """Write a task's parquet and YAML; returns its part of the manifest."""
    rng = Random(f"{options.seed}/{plan.kind}/wording")
    docs = [_row(i, doc, pool, store, label, rng) for i, doc in enumerate(plan.docs)]
    for doc in docs:
        verify_doc(plan.kind, doc)
        _check_scorable(plan.kind, doc)
    names = {i: record.path.name for i, record in enumerate(pool.source.images)}
    path = out / folder.parquet_path(plan.kind)
    folder.write_parquet(path, docs, store.stored, names)
    folder.write_task_yaml(out, plan.kind, k=options.controls.k, label=label, n=len(docs))
    return _statistics(plan)


def _statistics(plan: TaskPlan) -> dict[str, Any]:
    """A task's part of the manifest."""
    if not plan.docs:
        return {"docs": 0, "asked": plan.asked, "shortage": plan.shortage}
    clusters = image_clusters([doc.images for doc in plan.docs])
    uses = Counter(image for doc in plan.docs for image in doc.images)
    return {
        "docs": len(plan.docs),
        "asked": plan.asked,
        "shortage": plan.shortage,
        "images": len(uses),
        "largest_reuse": max(uses.values()),
        "clusters": {
            "count": clusters.groups,
            "largest_share": round(clusters.largest_share, 4),
            "labels": clusters.labels,
        },
        "largest_answer_share": round(plan.largest_answer_share(), 4),
        "answers": dict(Counter(doc.gt for doc in plan.docs).most_common()),
        "sizes": {str(n): c for n, c in sorted(Counter(len(doc.images) for doc in plan.docs).items())},
        "spreads": {str(s): c for s, c in sorted(Counter(doc.spread for doc in plan.docs).items())},
    }


def _check_scorable(kind: str, doc: dict[str, Any]) -> None:
    """The right answer must score 1 on its own doc, else the class names do not fit the answers' form."""
    try:
        right = score(kind, doc["gt"], doc).score == 1
    except UserError:
        right = False
    if not right:
        raise UserError(
            f"the answer '{doc['gt']}' of a {kind} doc would not be read as it is: rename the class in the "
            "annotations (another class may have the same name but for case or number, or it holds a sign "
            "that separates answers), or leave it out with --classes"
        )


def _row(idx: int, doc: PlannedDoc, pool: Pool, store: ImageStore, label: str, rng: Random) -> dict[str, Any]:
    """A doc's columns but `images` (METHODS 13)."""
    source = pool.source
    targets = [source.classes[c] for c in doc.targets]
    question = draw_question(doc.kind, rng, classes=targets, category=doc.category)
    hashes = [store.stored[i].sha256 for i in doc.images]
    n = len(doc.images)
    return {
        "_images": doc.images,
        "question": question,
        "gt": doc.gt,
        "task": f"{doc.kind}_{doc.split}" if doc.split else doc.kind,
        "idx": idx,
        "id": f"{doc.kind}-{idx:06d}",
        "targets": targets,
        "category": doc.category,
        "image_ids": [source.images[i].image_id for i in doc.images],
        "boxes": [pool.boxes(i, frozenset(doc.targets)) for i in doc.images],
        "n_images": n,
        "k": len(targets),
        "spread": doc.spread,
        "distractors": n - doc.spread,
        "split": doc.split,
        "cell": None,
        "source": label,
        "content_hash": content_hash(kind=doc.kind, question=question, gt=doc.gt, image_hashes=hashes),
    }


def _manifest(options: BuildOptions, pool: Pool, store: ImageStore, label: str) -> dict[str, Any]:
    source = pool.source
    controls = options.controls
    rows, small, crowd = len(source.image_index), int(pool.small.sum()), int(source.crowd.sum())
    listed = set(pool.category_members)
    return {
        "format": 1,
        "label": label,
        "arguments": {
            "annotations": [str(path) for path in options.annotations],
            "images": [str(path) for path in options.images],
            "task": [kind for kind in TASK_KINDS if kind in options.tasks],
            "docs": options.docs,
            "seed": options.seed,
            "n_images": str(controls.n_images) if controls.n_images else None,
            "spread": str(controls.spread) if controls.spread else None,
            "distractors": str(controls.distractors) if controls.distractors else None,
            "k": controls.k,
            "classes": options.classes,
            "split": controls.split,
            "total": str(controls.total),
            "hard": controls.hard,
            "listed": str(controls.listed) if controls.listed else None,
            "minority": str(controls.minority) if controls.minority else None,
            "max_reuse": options.max_reuse,
            "allow_fewer": options.allow_fewer,
            "label": options.label,
        },
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
            "categories_not_listed": sorted(set(source.categories) - listed),
        },
        "images_checked": len(store.stored) + len(store.dropped),
        "images_dropped": store.dropped_records(),
    }
