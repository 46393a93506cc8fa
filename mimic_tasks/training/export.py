"""`mimic export-training`: annotations and pictures in, a trainer's files of samples and their index out."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from pathlib import Path
from typing import Any

from mimic_eval.records import TASK_KINDS, UserError, check_integer
from mimic_tasks.manifest import common_records, docs_record
from mimic_tasks.planning import MAX_SIZE, Controls, Range, TaskPlan, plan_task
from mimic_tasks.pool import Pool
from mimic_tasks.profiles import DEFAULT_PROFILE
from mimic_tasks.rows import RowMaker
from mimic_tasks.source_files import SourceFiles, read_pool
from mimic_tasks.task_spec import spec_of
from mimic_tasks.training.export_folder import ExportFolder, claimed
from mimic_tasks.training.exported import MANIFEST
from mimic_tasks.training.formats import LLAVA, ExportFormat, export_format
from mimic_tasks.training.pictures import Excluded, ExportStore, Findings, Referenced
from mimic_tasks.transforms import Transform

DEFAULT_MAX_IMAGES = 10
_MAX_DOCS, _MAX_SEED = 1_000_000, 2**63


@dataclass(frozen=True)
class ExportOptions:
    """Everything an export depends on.

    Attributes:
        sources: the pictures and their boxes.
        out: the folder to write.
        tasks: short task names.
        docs: samples a task.
        seed: of every draw.
        max_images: the most images a sample; the fewest are the task's minimum.
        k: classes that a question names (Counting).
        classes: the only classes that may be targets, or None for all.
        profile: one of `profiles.PROFILES`: what Counting and Listing leave out.
        max_reuse: samples of a task that an image may serve, or None for any number.
        exclude: folders whose pictures may not be used.
        sampling: the mixture's strategy for each task; a task without one: all.
        allow_fewer: take what the data can give.
        form: the trainer's format, a name of `formats.FORMATS`.
    """

    sources: SourceFiles
    out: Path
    tasks: tuple[str, ...] = TASK_KINDS
    docs: int = 1000
    seed: int = 0
    max_images: int = DEFAULT_MAX_IMAGES
    k: int = 1
    classes: tuple[str, ...] | None = None
    profile: str = DEFAULT_PROFILE
    max_reuse: int | None = None
    exclude: tuple[Path, ...] = ()
    sampling: Mapping[str, str] = field(default_factory=dict)
    allow_fewer: bool = False
    form: str = LLAVA.name

    @property
    def controls(self) -> Controls:
        """The content of the docs."""
        narrowed = self.k != 1 or self.classes is not None or self.max_images != DEFAULT_MAX_IMAGES
        return Controls(n_images=Range(1, self.max_images), k=self.k, narrowed=narrowed)

    @property
    def image_folder(self) -> Path:
        """What the paths of the records are relative to."""
        images = self.sources.images
        return images[0] if len(images) == 1 else Path(os.path.commonpath(images))


@dataclass(frozen=True)
class ExportResult:
    """What was written.

    Attributes:
        mixture: the YAML that the trainer takes as its data.
        image_folder: what the paths of LLaVA's records are relative to.
        arguments: the words that hand the data to the trainer.
        was_complete: everything was there already.
        summary: one line for each task, and one on pictures that were left out.
        shortages: one sentence for each shortage.
    """

    mixture: Path
    image_folder: Path
    arguments: tuple[str, ...] = ()
    was_complete: bool = False
    summary: tuple[str, ...] = ()
    shortages: tuple[str, ...] = ()


def export(options: ExportOptions, *, progress: bool = True) -> ExportResult:
    """Write training data, or resume what a killed process with the same options began.

    Pictures are decoded strictly, and not copied; broken and excluded ones are dropped with their reason and
    the docs planned again without them. The results of each picture's checks are cached in the folder.

    Args:
        options: what to export.
        progress: show bars on stderr.

    Raises:
        UserError: bad input, a request that the data cannot satisfy, or a folder that holds another export.
    """
    _check(options)
    options = _absolute(options)
    arguments = _arguments(options)
    with claimed(options.out) as target:
        target.require("arguments", arguments | {"out": str(options.out)})
        pool = read_pool(options.sources, classes=options.classes, profile=options.profile)
        findings = Findings(target.journal)
        excluded = Excluded(options.exclude, findings, progress=progress)
        contents = _contents(pool, excluded)
        target.require("contents", contents)
        form = export_format(options.form)
        index, images = options.out / form.index, options.image_folder
        result = ExportResult(index, images, tuple(form.arguments(index, images)))
        if target.complete:
            return replace(result, was_complete=True)
        target.begin({"arguments": arguments | {"out": str(options.out)}, "contents": contents})
        try:
            store = ExportStore(pool, findings, excluded, progress=progress)
            pool, plans = _checked_plans(pool, store, options, progress=progress)
            summary = _write(target, pool, plans, store, excluded, options, progress=progress)
        except UserError:
            target.forget()
            raise
    return replace(result, summary=summary, shortages=_shortages(plans))


def _contents(pool: Pool, excluded: Excluded) -> dict[str, str]:
    """What was read, by name: digests of the annotation files and of the excluded folders."""
    contents: dict[str, str] = {}
    for name, digest in [
        *pool.source.files,
        *((absolute["folder"], absolute["sha256"]) for absolute in excluded.folders),
    ]:
        contents[name] = f"{contents[name]} {digest}" if name in contents else digest
    return contents


def _absolute(options: ExportOptions) -> ExportOptions:
    """With paths that mean the same from every folder."""

    def absolute(path: Path) -> Path:
        return Path(os.path.abspath(path))

    sources = options.sources
    descriptions, hierarchy = sources.class_descriptions, sources.hierarchy
    return replace(
        options,
        sources=SourceFiles(
            tuple(absolute(path) for path in sources.annotations),
            tuple(absolute(path) for path in sources.images),
            absolute(descriptions) if descriptions else None,
            absolute(hierarchy) if hierarchy else None,
        ),
        out=absolute(options.out),
        exclude=tuple(absolute(path) for path in options.exclude),
    )


def _check(options: ExportOptions) -> None:
    check_integer("--docs", options.docs, least=1, most=_MAX_DOCS)
    check_integer("--seed", options.seed, least=0, most=_MAX_SEED)
    check_integer("--max-images", options.max_images, least=1, most=MAX_SIZE)
    if options.max_reuse is not None:
        check_integer("--max-reuse", options.max_reuse, least=1, most=_MAX_DOCS)
    for kind in options.tasks:
        least = spec_of(kind).minimum_images
        if options.max_images < least:
            raise UserError(
                f"--max-images {options.max_images}: {kind} needs at least {least} images; "
                "raise it, or leave the task out with --tasks"
            )
    _ = options.controls  # refuses a wrong k
    form = export_format(options.form)
    if form is LLAVA and {"{", "}"} <= set(str(options.out)):
        raise UserError(
            f"--out {options.out}: LLaVA takes {{ }} in a path for a list of files; choose another"
        )
    options.sources.check_folders()
    for folder in options.exclude:
        if not folder.is_dir():
            raise UserError(f"--exclude {folder!s:.200}: no such folder")


def _checked_plans(
    pool: Pool, store: ExportStore, options: ExportOptions, *, progress: bool
) -> tuple[Pool, list[TaskPlan]]:
    """Plans whose every picture can be used, and the pool that they were made from."""
    while True:
        plans = _plans(pool, store, options, progress=progress)
        bad = store.check({image for plan in plans for doc in plan.docs for image in doc.images})
        if not bad:
            return pool, plans
        pool = pool.without(bad)


def _plans(pool: Pool, store: ExportStore, options: ExportOptions, *, progress: bool) -> list[TaskPlan]:
    controls = options.controls
    plans = [
        plan_task(
            kind,
            pool,
            controls,
            docs=options.docs,
            seed=options.seed,
            max_reuse=options.max_reuse,
            progress=progress,
        )
        for kind in options.tasks
    ]
    short = [str(plan.shortage) for plan in plans if plan.shortage]
    dropped = store.dropped
    lost = (
        f" ({len(dropped)} pictures were dropped, e.g. one {next(iter(dropped.values()))})" if dropped else ""
    )
    if short and not options.allow_fewer:
        raise UserError(
            f"{'; '.join(short)}{lost}. Ask for fewer --docs, change --max-images, or pass --allow-fewer"
        )
    if not any(plan.docs for plan in plans):
        raise UserError(f"no task has a sample: {'; '.join(short)}{lost}")
    return plans


def _shortages(plans: Sequence[TaskPlan]) -> tuple[str, ...]:
    return tuple(
        str(plan.shortage) if plan.docs else f"{plan.kind} has no sample and is not written ({plan.shortage})"
        for plan in plans
        if plan.shortage
    )


def _write(
    target: ExportFolder,
    pool: Pool,
    plans: Sequence[TaskPlan],
    store: ExportStore,
    excluded: Excluded,
    options: ExportOptions,
    *,
    progress: bool,
) -> tuple[str, ...]:
    """Write the files, the index last; returns the summary lines."""
    form = export_format(options.form)
    sampling = {plan.kind: options.sampling.get(plan.kind, "all") for plan in plans if plan.docs}
    files = {kind: f"{kind}{form.suffix}" for kind in sampling}
    tasks: dict[str, dict[str, Any]] = {}
    for plan in (plan for plan in plans if plan.docs):
        kind = plan.kind
        chosen = form.chosen(len(plan.docs), sampling[kind], seed=f"{options.seed}/{kind}")
        records = _records(plan, pool, store, options, form, progress=progress)
        wanted = set(chosen)
        selectors = (number in wanted for number in range(len(plan.docs)))
        target.write(files[kind], form.text(compress(records, selectors)))
        tasks[kind] = _statistics(replace(plan, docs=tuple(plan.docs[number] for number in chosen)))
    manifest = common_records(pool, store, _arguments(options), pool.source.name) | {
        "image_folder": str(options.image_folder),
        "excluded": excluded.folders,
        "tasks": {
            kind: {"file": files[kind], "sampling_strategy": sampling[kind], **task}
            for kind, task in tasks.items()
        },
    }
    target.write(MANIFEST, [json.dumps(manifest, indent=1), "\n"])
    target.write(form.index, [form.names({target.out / files[kind]: how for kind, how in sampling.items()})])
    lines = [
        f"{kind}: {task['docs']} samples of {next(iter(task['sizes']))}-{list(task['sizes'])[-1]} images, "
        f"from {task['images']} pictures; one serves up to {task['largest_reuse']} samples"
        for kind, task in tasks.items()
    ]
    if store.dropped:
        lines.append(
            f"{len(store.dropped)} pictures were left out, {store.left_out} of them as excluded: "
            f"{MANIFEST} says why"
        )
    return tuple(lines)


def _records(
    plan: TaskPlan,
    pool: Pool,
    store: ExportStore,
    options: ExportOptions,
    form: ExportFormat,
    *,
    progress: bool,
) -> Iterator[dict[str, Any]]:
    """The samples of a task, each checked before it is written."""
    from tqdm import tqdm

    folder, controls = options.image_folder, options.controls
    maker = RowMaker(pool, Referenced(store), label=pool.source.name, seed=f"{options.seed}/{plan.kind}")
    paths = {i: pool.source.images[i].path for doc in plan.docs for i in doc.images}
    names = {i: form.name_of(path, folder, _name(path, folder)) for i, path in paths.items()}
    disable = None if progress else True
    bar = tqdm(plan.docs, desc=f"Writing {plan.kind}", unit="doc", disable=disable, leave=False)
    for number, doc in enumerate(bar):
        row = maker.row(
            doc, maker.wording(doc), controls, Transform(), idx=number, doc_id=f"{plan.kind}-{number:06d}"
        )
        yield form.record(row, [names[image] for image in doc.images])


def _name(path: Path, folder: Path) -> str:
    """A picture's path relative to the image folder."""
    return Path(os.path.relpath(path, folder)).as_posix()


def _statistics(plan: TaskPlan) -> dict[str, Any]:
    record = docs_record(plan.docs)
    record.pop("clusters")  # of use for the intervals of an evaluation
    return {"docs": len(plan.docs), "asked": plan.requested, "shortage": plan.shortage, **record}


def _arguments(options: ExportOptions) -> dict[str, Any]:
    """Everything that the export depends on, as the command takes it."""
    return {
        **options.sources.arguments(),
        "task": list(options.tasks),
        "docs": options.docs,
        "seed": options.seed,
        "max_images": options.max_images,
        "k": options.k,
        "classes": options.classes,
        "profile": options.profile,
        "max_reuse": options.max_reuse,
        "exclude": [str(folder) for folder in options.exclude],
        "sampling": {kind: options.sampling.get(kind, "all") for kind in options.tasks},
        "allow_fewer": options.allow_fewer,
        **({} if options.form == LLAVA.name else {"format": options.form}),
    }
