"""`mimic build`: annotations and pictures in, a self-contained task folder out."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from mimic_eval.records import TASK_KINDS, UserError, task_kinds
from mimic_eval.records.folders import check_path, done, workspace
from mimic_eval.records.progress import progress_bar
from mimic_tasks import folder
from mimic_tasks.excluded_docs import ExcludedDocs, read_excluded_docs
from mimic_tasks.image_store import DocPictures, ImageStore
from mimic_tasks.locate import PATTERN_CHARACTERS
from mimic_tasks.manifest import common_records, docs_record, made_with
from mimic_tasks.originals import write_originals
from mimic_tasks.planning import Controls, TaskPlan, plan_task
from mimic_tasks.pool import Pool
from mimic_tasks.profiles import DEFAULT_PROFILE
from mimic_tasks.rows import RowMaker
from mimic_tasks.source_files import SourceFiles, read_pool
from mimic_tasks.transforms import Transform, check_transform

_MAX_DOCS = 1_000_000
_NOT_HERE = "{} of the docs of --exclude-docs {} are not among the docs that this command makes"


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
        classes: the only classes that may be targets, or None for all.
        profile: one of `profiles.PROFILES`: what Counting and Listing leave out.
        max_reuse: docs of a task that an image may serve, or None for any number.
        allow_fewer: take what the data can give.
        label: how results made with the build are labelled, or None for the annotation files' names.
        transform: what is done to the pictures.
        class_descriptions: OpenImages: the CSV of class names.
        hierarchy: OpenImages: the JSON of classes and their subclasses.
        exclude_docs: a list of docs to leave out (`read_excluded_docs`); all others stay as they are.
    """

    annotations: tuple[Path, ...]
    images: tuple[Path, ...]
    out: Path
    tasks: tuple[str, ...] = TASK_KINDS
    docs: int = 100
    seed: int = 0
    controls: Controls = field(default_factory=Controls)
    classes: tuple[str, ...] | None = None
    profile: str = DEFAULT_PROFILE
    max_reuse: int | None = None
    allow_fewer: bool = False
    label: str | None = None
    transform: Transform = field(default_factory=Transform)
    class_descriptions: Path | None = None
    hierarchy: Path | None = None
    exclude_docs: Path | None = None

    @property
    def sources(self) -> SourceFiles:
        """Where the pictures and their boxes are."""
        return SourceFiles(self.annotations, self.images, self.class_descriptions, self.hierarchy)


@dataclass(frozen=True)
class BuildResult:
    """What was written: the folder, one line for each task, a sentence for each shortage, other notes."""

    out: Path
    summary: tuple[str, ...]
    shortages: tuple[str, ...]
    notes: tuple[str, ...] = ()


def build(options: BuildOptions, *, progress: bool = True) -> BuildResult:
    """Build a task folder. Nothing is left at `out` unless the build is complete.

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
    with workspace(options.out, _arguments(options), made=made_with) as partial:
        if partial is None:
            return BuildResult(options.out, (done(options.out),), ())
        return _build_in(partial, options, progress=progress)


def _build_in(partial: Path, options: BuildOptions, *, progress: bool) -> BuildResult:
    """Write the folder's files to `partial`."""
    pool = read_pool(options.sources, classes=options.classes, profile=options.profile)
    store = ImageStore(pool, progress=progress)
    while True:
        plans = _plans(pool, options, store.dropped, progress=progress)
        broken = store.check({image for plan in plans for doc in plan.docs for image in doc.images})
        if not broken:
            break
        pool = pool.without(broken)
    shortages = _shortages(plans)
    plans = [plan for plan in plans if plan.docs]
    label = options.label or pool.source.name
    originals: dict[str, str] = {}
    excluded = read_excluded_docs(options.exclude_docs) if options.exclude_docs else ExcludedDocs()
    tasks = {
        plan.kind: _write_task(partial, plan, pool, store, options, label, originals, excluded)
        for plan in plans
    }
    left_out = sum(len(task.get("docs_excluded", ())) for task in tasks.values())
    unknown = len(excluded.reasons) - left_out
    notes = (_NOT_HERE.format(unknown, options.exclude_docs),) if unknown > 0 else ()
    write_originals(partial, originals)
    counts = {kind: task["docs"] for kind, task in tasks.items()}
    folder.write_group_yamls(partial, list(counts))
    folder.write_card(partial, label=label, counts=counts, seed=options.seed)
    manifest = common_records(pool, store, _arguments(options), label) | {"tasks": tasks}
    folder.write_manifest(partial, manifest)
    summary = tuple(_summary(kind, task) for kind, task in tasks.items())
    return BuildResult(options.out, summary, shortages, notes)


def plan_only(options: BuildOptions) -> dict[str, Any]:
    """What a build would draw, without opening a picture: a JSON-able summary of its plan.

    Args:
        options: as for `build`; `out` and the picture folders are not looked at.

    Raises:
        UserError: as for `build`.
    """
    _check_numbers(options)
    pool = read_pool(
        options.sources, classes=options.classes, profile=options.profile, look_for_pictures=False
    )
    plans = _plans(pool, options, {}, progress=True)
    return {
        "source": {"images": len(pool.source.images), "annotations": len(pool.source.image_index)},
        "tasks": {plan.kind: _statistics(plan) for plan in plans},
    }


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
    for kind in options.tasks:
        check_transform(kind, options.transform)
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
    options.sources.check_folders()
    if options.exclude_docs:
        read_excluded_docs(options.exclude_docs)
    check_out(options.out)


def check_out(out: Path) -> None:
    """Refuse a folder that cannot be written or that `datasets` could not read.

    Raises:
        UserError: naming it.
    """
    if set(PATTERN_CHARACTERS) & set(str(out)):
        raise UserError(
            f"--out {out}: datasets reads {PATTERN_CHARACTERS} in a path as patterns; choose another"
        )
    check_path(out)


def _plans(pool: Pool, options: BuildOptions, dropped: dict[int, str], *, progress: bool) -> list[TaskPlan]:
    plans = [_plan(kind, pool, options, progress=progress) for kind in task_kinds() if kind in options.tasks]
    short = [plan for plan in plans if plan.shortage]
    lost = (
        f" ({len(dropped)} pictures were dropped, e.g. one {next(iter(dropped.values()))})" if dropped else ""
    )
    if short and not options.allow_fewer:
        others = f"; short too: {', '.join(plan.kind for plan in short[1:])}" if short[1:] else ""
        some = any(plan.docs for plan in plans)
        fewer = (
            "Ask for fewer --docs, widen the options, or pass --allow-fewer" if some else "Widen the options"
        )
        raise UserError(f"{short[0].shortage}{others}{lost}. {fewer}")
    if not any(plan.docs for plan in plans):
        raise UserError(f"no task has a doc: {'; '.join(str(plan.shortage) for plan in short)}{lost}")
    return plans


def _plan(kind: str, pool: Pool, options: BuildOptions, *, progress: bool) -> TaskPlan:
    """The plan of a task; with --allow-fewer, a size that the task cannot have makes an empty one."""
    try:
        options.controls.sizes(kind)
    except UserError as error:
        if not options.allow_fewer:
            raise
        return TaskPlan(kind, (), options.docs, str(error))
    return plan_task(
        kind,
        pool,
        options.controls,
        docs=options.docs,
        seed=options.seed,
        max_reuse=options.max_reuse,
        progress=progress,
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
    out: Path,
    plan: TaskPlan,
    pool: Pool,
    store: ImageStore,
    options: BuildOptions,
    label: str,
    originals: dict[str, str],
    excluded: ExcludedDocs,
) -> dict[str, Any]:
    """Write a task's parquet and YAML; returns its part of the manifest, and adds to `originals`."""
    pictures = folder.Pictures()
    doc_pictures = DocPictures(store, pictures.keep)
    maker = RowMaker(pool, doc_pictures, label=label, seed=f"{options.seed}/{plan.kind}")
    rows = [
        maker.row(
            doc, maker.wording(doc), options.controls, options.transform,
            idx=i, doc_id=f"{plan.kind}-{i:06d}",
        )
        for i, doc in enumerate(progress_bar(plan.docs, what=f"Writing {plan.kind}", unit="doc"))
    ]  # fmt: skip
    stay = [i for i, row in enumerate(rows) if row not in excluded]
    if not stay:
        raise UserError(f"--exclude-docs {options.exclude_docs}: leaves no doc of {plan.kind}")
    out_of = [excluded.record(row) for row in rows if row in excluded]
    rows = [rows[i] | {"idx": number} for number, i in enumerate(stay)]
    plan = replace(plan, docs=tuple(plan.docs[i] for i in stay))
    originals.update(doc_pictures.originals)
    folder.write_parquet(out / folder.parquet_path(plan.kind), rows, pictures)
    metadata = {"label": label, "docs": len(rows)}
    folder.write_task_yaml(
        out,
        plan.kind,
        plan.kind,
        k=options.controls.k,
        images=max(row["n_images"] for row in rows),
        metadata=metadata,
    )
    return _statistics(plan) | ({"docs_excluded": out_of} if options.exclude_docs else {})


def _statistics(plan: TaskPlan) -> dict[str, Any]:
    """A task's part of the manifest."""
    counts = {"docs": len(plan.docs), "asked": plan.requested, "shortage": plan.shortage}
    return counts | docs_record(plan.docs) if plan.docs else counts


def _arguments(options: BuildOptions) -> dict[str, Any]:
    """Everything that the build depends on, as the command takes it."""
    controls = options.controls
    texts = ("n_images", "spread", "distractors", "total", "listed", "minority", "confusable")
    ranges = {name: getattr(controls, name) for name in texts}
    return {
        **options.sources.arguments(),
        "task": [kind for kind in task_kinds() if kind in options.tasks],
        "docs": options.docs,
        "seed": options.seed,
        **{name: str(value) if value else None for name, value in ranges.items()},
        "k": controls.k,
        "classes": options.classes,
        "profile": options.profile,
        "split": controls.split,
        "hard": controls.hard,
        "category": controls.category,
        "max_reuse": options.max_reuse,
        "allow_fewer": options.allow_fewer,
        "label": options.label,
        "exclude_docs": str(options.exclude_docs) if options.exclude_docs else None,
        **asdict(options.transform),
    }
