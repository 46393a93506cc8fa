"""`mimic reproduce --dry-run`: what would run, and how long, from a few docs on the real model."""

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimic_eval.cli.reproducing.models import LoadedModel, calibrate_sinks, check_cells
from mimic_eval.cli.reproducing.plan import Plan, arguments_of, options_of
from mimic_eval.records import UserError
from mimic_eval.records.folders import write_atomically
from mimic_eval.records.reading import read_json
from mimic_eval.studies import Cell

if TYPE_CHECKING:
    from lmms_eval.api.instance import Instance

    from model_adapters.adapter import MaskedModel

_TIMED = 3
_FORMAT = "mimic_eval estimate 1"


@dataclass(frozen=True)
class _Docs:
    """The docs of a cell: how many, and how many images each has, where the task says so."""

    requests: "tuple[Instance, ...]"
    images: tuple[int | None, ...]


@dataclass(frozen=True)
class Measured:
    """A few docs under one setting.

    Attributes:
        seconds: of a doc, on average.
        peak_memory: bytes, while the largest doc ran.
        loading: seconds until the model was ready, once for its entry.
        docs: that were timed.
    """

    seconds: float
    peak_memory: int
    loading: float
    docs: int


def estimate(plan: Plan) -> Iterator[str]:
    """Lines of text: first what would run, then the estimate; `variables` are set.

    Each setting is timed once for its entry, with the first of the values that vary: the docs at the
    quartiles of the number of images, after the largest, which also gives the memory. Measurements are kept
    in the cache folder.

    Raises:
        UserError: a checkpoint that cannot be loaded, or a cell that its model cannot run.
    """
    with _quiet(), _tasks(plan) as tasks:
        built: set[str] = set()
        docs = {cell.name: _docs_of(cell, plan, tasks, built) for cell in plan.mine}
        passes = {cell.name: _passes(cell, docs[cell.name]) for cell in plan.mine}
        yield f"{plan.study.id}: {len(plan.mine)} cells"
        yield _table(
            [
                [cell.name, cell.measure, len(docs[cell.name].requests), passes[cell.name]]
                for cell in plan.mine
            ],
            ["cell", "measure", "docs", "forward passes over prompts"],
        )
        measured = _measure(plan, docs, tasks)
    rows, total = [], 0.0
    for cell in plan.mine:
        of_cell = measured[_key(cell)]
        first = next(one for one in plan.mine if _key(one) == _key(cell))
        per_pass = of_cell.seconds / max(passes[first.name] / max(len(docs[first.name].requests), 1), 1e-9)
        seconds = per_pass * passes[cell.name]
        total += seconds
        rows.append([cell.name, _time(seconds), f"{of_cell.peak_memory / 2**30:.1f} GiB"])
    yield _table(rows, ["cell", "time, estimated", "memory, largest doc"])
    loading = sum({cell.entry.name: measured[_key(cell)].loading for cell in plan.mine}.values())
    yield (
        f"About {_time(total + loading)} in one process, {_time(loading)} of it to load: {_TIMED} docs of "
        "each setting were timed, one at a time; larger batches and answers that are stored take less"
    )


def _tasks(plan: Plan) -> AbstractContextManager[dict[str, Any]]:
    """Upstream's task objects of all cells."""
    from mimic_eval.cli.diagnosing.requests import loaded_tasks

    names = dict.fromkeys(task for cell in plan.mine for task in cell.tasks)
    return loaded_tasks(plan.mine[0].entry.model, ",".join(names), None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without upstream's log."""
    from loguru import logger

    logger.disable("lmms_eval")
    try:
        yield
    finally:
        logger.enable("lmms_eval")


def _key(cell: Cell) -> tuple[str, str, str]:
    return cell.entry.name, cell.setting, cell.measure


def _docs_of(cell: Cell, plan: Plan, tasks: dict[str, Any], built: set[str]) -> _Docs:
    """The requests of a cell, as its run makes them; those of permuted tasks are a row for each order.

    Args:
        built: names of tasks whose requests are made; changed in place.
    """
    from mimic_tasks.permuted.limit import limit_docs

    requests: list[Instance] = []
    images: list[int | None] = []
    for name in _leaves_of(cell, tasks):
        task = tasks[name]
        if name not in built:
            built.add(name)
            task.set_config(key="num_fewshot", value=0)
            if plan.limit is not None:
                limit_docs({name: task}, plan.limit)
            task.build_all_requests(limit=None, rank=0, world_size=1)
        requests += task.instances
        rows = task.dataset[task.config.test_split] if task.config.test_split else None
        known = rows is not None and "n_images" in (getattr(rows, "column_names", None) or ())
        counts = rows.select_columns(["n_images"])["n_images"] if known and rows is not None else None
        images += [None if counts is None else int(counts[one.args[3]]) for one in task.instances]
    return _Docs(tuple(requests), tuple(images))


def _leaves_of(cell: Cell, tasks: dict[str, Any]) -> list[str]:
    """The loaded tasks of a cell: a group's are its members."""
    direct = [name for name in cell.tasks if name in tasks]
    groups = [name for name in cell.tasks if name not in tasks]
    if not groups:
        return direct
    return [name for name in tasks if name in direct or any(name.startswith(f"{one}_") for one in groups)]


def _passes(cell: Cell, docs: _Docs) -> int:
    """Prompts that the model reads for a cell; a doc of an unknown number of images counts as two."""
    from PIL import Image

    from model_adapters.passes import PassInput
    from model_adapters.picture import as_pictures

    expand = options_of(cell).intervention().passes.expand
    of_count: dict[int, int] = {}
    total = 0
    for count in docs.images:
        images = 2 if count is None else count
        if images not in of_count:
            pictures = as_pictures([Image.new("RGB", (1, 1))] * images)
            of_count[images] = len(expand(PassInput(pictures, "", None, "")))
        total += of_count[images]
    return total


def _measure(
    plan: Plan, docs: dict[str, _Docs], tasks: dict[str, Any]
) -> dict[tuple[str, str, str], Measured]:
    """Each setting of each entry once, unless the cache has it."""
    measured: dict[tuple[str, str, str], Measured] = {}
    models = LoadedModel()
    for entry in dict.fromkeys(cell.entry.name for cell in plan.mine):
        cells = [cell for cell in plan.mine if cell.entry.name == entry]
        firsts = {_key(cell): cell for cell in reversed(cells)}
        wanted = {key: cell for key, cell in firsts.items() if (found := _cached(cell, plan)) is None}
        measured |= {key: found for key, cell in firsts.items() if (found := _cached(cell, plan)) is not None}
        if not wanted:
            continue
        start = time.perf_counter()
        calibrate_sinks(models, cells, plan.study)
        refused = check_cells(models, cells)
        if refused and not plan.request.leave_out:
            name, reason = next(iter(refused.items()))
            raise UserError(f"cell {name}: {reason}; --leave-out runs the other cells")
        loading = time.perf_counter() - start
        for key, cell in wanted.items():
            if cell.name in refused:
                measured[key] = Measured(0.0, 0, loading, 0)
                continue
            measured[key] = _time_docs(cell, models, docs[cell.name], tasks, loading)
            _store(cell, plan, measured[key])
    return measured


def _time_docs(
    cell: Cell, models: LoadedModel, docs: _Docs, tasks: dict[str, Any], loading: float
) -> Measured:
    """The largest doc, then the timed ones, without the journal."""
    from mimic_eval.cli.reproducing.cost import peak_memory
    from model_adapters.options import parse_arg_string

    given = {**parse_arg_string(arguments_of(cell), {}), "journal": False}
    model = models.load(cell.entry.model, given)
    for name, task in tasks.items():
        model.task_dict[name] = task.dataset
    by_size = sorted(range(len(docs.requests)), key=lambda i: docs.images[i] or 0)
    largest = docs.requests[by_size[-1]]
    last = len(by_size) - 1
    chosen = [docs.requests[by_size[round(last * part / 4)]] for part in (1, 2, 3)][:_TIMED]
    with peak_memory() as peak:
        _answer(cell, model, [largest])
    start = time.perf_counter()
    _answer(cell, model, chosen)
    seconds = (time.perf_counter() - start) / len(chosen)
    return Measured(seconds, peak.bytes or 0, loading, len(chosen))


def _answer(cell: Cell, model: "MaskedModel", requests: "Sequence[Instance]") -> None:
    if cell.measure == "scores":
        model.generate_until(list(requests))
        return
    from model_adapters.diagnostics.observing import Watcher

    watcher = Watcher(model, None)
    try:
        for request in requests:
            watcher.watch(watcher.show(request))
    finally:
        watcher.close()


def _path(cell: Cell, plan: Plan) -> Path:
    """Where a measurement is stored: of all that it depends on, but the weights."""
    from mimic_eval import __version__
    from mimic_eval.cli.reproducing.record import machine
    from mimic_tasks.locate import task_folder
    from model_adapters.disk import cache_root

    parts = [
        *(cell.entry.model, arguments_of(cell), cell.measure, cell.tasks, plan.limit, machine()),
        *(str(task_folder().path), __version__),
    ]
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]
    return cache_root() / "estimates" / f"{digest}.json"


def _cached(cell: Cell, plan: Plan) -> Measured | None:
    path = _path(cell, plan)
    if not path.is_file():
        return None
    record = read_json(path)
    if not isinstance(record, dict) or record.pop("format", None) != _FORMAT:
        return None
    return Measured(**record)


def _store(cell: Cell, plan: Plan, measured: Measured) -> None:
    record = {"format": _FORMAT, **vars(measured)}
    write_atomically(_path(cell, plan), json.dumps(record).encode())


def _table(rows: Sequence[Sequence[Any]], headers: Sequence[str]) -> str:
    from tabulate import tabulate

    return str(tabulate(rows, headers=headers, disable_numparse=True))


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
