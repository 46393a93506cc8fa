"""`mimic sweep`: sweep files and pictures in, a task folder out, in which each picture's bytes lie once."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mimic_eval.records import UserError
from mimic_eval.records.folders import done, workspace
from mimic_eval.records.progress import progress_bar
from mimic_tasks import folder
from mimic_tasks.build import check_out
from mimic_tasks.image_store import DocPictures, ImageStore
from mimic_tasks.manifest import common_records, docs_record, made_with
from mimic_tasks.originals import write_originals
from mimic_tasks.pool import Pool
from mimic_tasks.profiles import DEFAULT_PROFILE
from mimic_tasks.rows import RowMaker
from mimic_tasks.source_files import SourceFiles, read_pool
from mimic_tasks.sweeps.balance import Balance, balance, require_balance
from mimic_tasks.sweeps.matching import SweepPlan, plan_sweep
from mimic_tasks.sweeps.spec import Sweep
from mimic_tasks.task_spec import spec_of

IMAGES = "images"
"""Where the pictures lie, as ``<SHA-256>.<ext>``, below the folder."""


@dataclass(frozen=True)
class SweepOptions:
    """Everything a build of sweeps depends on.

    Attributes:
        sweeps: what to build, one task each.
        sources: where the pictures and boxes are.
        out: the task folder to write.
        classes: the only classes that may be targets, or None for all.
        profile: one of `profiles.PROFILES`: what Counting and Listing leave out.
        allow_fewer: take what the data can give, as long as every cell has the same number of docs.
        label: how results made with the build are labelled, or None for the annotation files' names.
    """

    sweeps: tuple[Sweep, ...]
    sources: SourceFiles
    out: Path
    classes: tuple[str, ...] | None = None
    profile: str = DEFAULT_PROFILE
    allow_fewer: bool = False
    label: str | None = None


@dataclass(frozen=True)
class SweepResult:
    """What was written: the folder, some lines for each sweep, and one sentence for each shortage."""

    out: Path
    summary: tuple[str, ...]
    shortages: tuple[str, ...]


def build_sweeps(options: SweepOptions, *, progress: bool = True) -> SweepResult:
    """Build a folder with one task for each sweep.

    Args:
        options: what to build.
        progress: show a bar on stderr.

    Raises:
        UserError: bad input, a request that the data cannot satisfy, or cells that differ in what the sweep
            should leave alone.
    """
    options = replace(options, out=Path(os.path.abspath(options.out)))
    _check(options)
    options.sources.check_folders()
    check_out(options.out)
    with workspace(options.out, _arguments(options), made=made_with) as partial:
        if partial is None:
            return SweepResult(options.out, (done(options.out),), ())
        pool = read_pool(options.sources, classes=options.classes, profile=options.profile)
        store = ImageStore(pool, progress=progress)
        while True:
            plans = _plans(options, pool, progress=progress)
            broken = store.check(
                {i for plan in plans for docs in plan.sets for doc in docs for i in doc.images}
            )
            if not broken:
                break
            pool = pool.without(broken)
        label = options.label or pool.source.name
        doc_pictures = DocPictures(store, _Files(partial).keep)
        tasks = {}
        lines: list[str] = []
        for plan in plans:
            record, balances = _write(partial, plan, pool, doc_pictures, label)
            tasks[plan.sweep.task] = record
            lines += _summary(plan, balances)
        write_originals(partial, doc_pictures.originals)
        folder.write_group_yamls(partial, list(tasks))
        counts = {name: task["docs"] for name, task in tasks.items()}
        folder.write_card(partial, label=label, counts=counts, seed=options.sweeps[0].seed, command="sweep")
        arguments = _arguments(options)
        folder.write_manifest(partial, common_records(pool, store, arguments, label) | {"tasks": tasks})
    return SweepResult(options.out, tuple(lines), _shortages(plans))


def plan_sweeps(options: SweepOptions) -> dict[str, Any]:
    """What a build would draw, without opening a picture: a JSON-able summary.

    Raises:
        UserError: as for `build_sweeps`.
    """
    _check(options)
    pool = read_pool(
        options.sources, classes=options.classes, profile=options.profile, look_for_pictures=False
    )
    plans = _plans(options, pool, progress=True)
    return {plan.sweep.task: _record(plan) for plan in plans}


def _check(options: SweepOptions) -> None:
    names = Counter(sweep.task for sweep in options.sweeps)
    if not names:
        raise UserError("no sweep file given")
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise UserError(f"two sweeps are called {twice[0]}: one folder holds one task of a name")


def _plans(options: SweepOptions, pool: Pool, *, progress: bool) -> list[SweepPlan]:
    plans = [plan_sweep(sweep, pool, progress=progress) for sweep in options.sweeps]
    for plan in plans:
        if plan.shortage and not (options.allow_fewer and plan.sets):
            fewer = "fewer --docs or smaller cells, or pass --allow-fewer" if plan.sets else "smaller cells"
            raise UserError(f"{plan.shortage}. Ask for {fewer}")
    return plans


def _shortages(plans: Sequence[SweepPlan]) -> tuple[str, ...]:
    return tuple(plan.shortage for plan in plans if plan.shortage)


class _Files:
    """Pictures as files below a folder, named by their bytes."""

    def __init__(self, out: Path) -> None:
        self._folder = out / IMAGES
        self._folder.mkdir(exist_ok=True)

    def keep(self, digest: str, data: bytes, name: str) -> None:
        """Write one; its ending is what its bytes say."""
        ending = next(
            (ext for signature, ext in _SIGNATURES.items() if data.startswith(signature)), Path(name).suffix
        )
        (self._folder / f"{digest}{ending}").write_bytes(data)


_SIGNATURES = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"RIFF": ".webp", b"GIF8": ".gif", b"BM": ".bmp"}


def _write(
    out: Path, plan: SweepPlan, pool: Pool, doc_pictures: DocPictures, label: str
) -> tuple[dict[str, Any], list[Balance]]:
    """Write a sweep's parquet, YAML and balance report; returns its part of the manifest and the balance."""
    sweep = plan.sweep
    spec = spec_of(sweep.kind)
    maker = RowMaker(pool, doc_pictures, label=label, seed=f"{sweep.seed}/{sweep.kind}")
    rows: list[dict[str, Any]] = []
    for number, docs in enumerate(progress_bar(plan.sets, what=f"Writing {sweep.task}", unit="set")):
        questions: dict[object, str] = {}
        for position, (cell, doc) in enumerate(zip(sweep.cells, docs, strict=True)):
            named = doc.targets if spec.asks_about == "targets" else doc.category
            if named not in questions:
                questions[named] = maker.wording(doc)
            row = maker.row(
                doc, questions[named], cell.controls, cell.transform,
                idx=len(rows), doc_id=f"{sweep.task}-{number:05d}-{position:03d}", cell=cell.name,
            )  # fmt: skip
            rows.append(row)
    files = {path.stem: f"{IMAGES}/{path.name}" for path in (out / IMAGES).iterdir()}
    for row in rows:
        row["image_files"] = [files[digest] for digest in row.pop("_pictures")]
    balances = balance(
        sweep, {cell.name: [r for r in rows if r["cell"] == cell.name] for cell in sweep.cells}
    )
    require_balance(sweep, balances)
    folder.write_file_parquet(out / folder.parquet_path(sweep.task), rows)
    text = json.dumps({part.of: part.record() for part in balances}, indent=1) + "\n"
    (out / folder.parquet_path(sweep.task)).with_name("balance.json").write_text(text, encoding="utf-8")
    k = max(cell.controls.k for cell in sweep.cells)
    metadata = {"label": label, "docs": len(rows), "sweep": sweep.metadata()}
    images = max(row["n_images"] for row in rows)
    folder.write_task_yaml(out, sweep.task, sweep.kind, k=k, images=images, metadata=metadata, files=True)
    return _record(plan), balances


def _record(plan: SweepPlan) -> dict[str, Any]:
    """A sweep's part of the manifest."""
    cells = {}
    for position, cell in enumerate(plan.sweep.cells):
        record = docs_record([docs[position] for docs in plan.sets])
        del record["clusters"]["labels"]
        cells[cell.name] = {"docs": len(plan.sets), **record}
    return {
        "docs": len(plan.sets) * len(cells),
        "docs_in_each_cell": len(plan.sets),
        "asked_for_each_cell": plan.sweep.docs,
        "shortage": plan.shortage,
        "sweep": {**plan.sweep.metadata(), "kind": plan.sweep.kind, "seed": plan.sweep.seed},
        "cells": cells,
    }


def _summary(plan: SweepPlan, balances: Sequence[Balance]) -> list[str]:
    sweep = plan.sweep
    lines = [
        f"mimic_{sweep.task}: {len(sweep.cells)} cells of {len(plan.sets)} docs ({', '.join(sweep.vary)})"
    ]
    for part in balances:
        if part.moves:
            lines.append(f"  {part.of}: not tested, {part.moves}")
        else:
            lines.append(
                f"  {part.of}: no difference between the cells ({part.test}: {part.statistic:.1f}, "
                f"p = {part.pvalue:.2g})"
            )
    return lines


def _arguments(options: SweepOptions) -> dict[str, Any]:
    """Everything that the build depends on."""
    return {
        "sweeps": [
            {**sweep.metadata(), "kind": sweep.kind, "docs": sweep.docs, "seed": sweep.seed,
             "controls": [repr(cell.controls) for cell in sweep.cells]}
            for sweep in options.sweeps
        ],
        **options.sources.arguments(),
        "classes": options.classes,
        "profile": options.profile,
        "allow_fewer": options.allow_fewer,
        "label": options.label,
    }  # fmt: skip
