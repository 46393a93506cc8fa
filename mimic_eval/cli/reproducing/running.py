"""The cells of a study, one after the other in this process; what is finished is not run again."""

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from mimic_eval.cli.lmms.arguments import check_run
from mimic_eval.cli.lmms.outcome import Outcome
from mimic_eval.cli.reproducing.data import Built
from mimic_eval.cli.reproducing.models import LoadedModel, calibrate_sinks, check_cells
from mimic_eval.cli.reproducing.plan import Plan, arguments_of, attention_options
from mimic_eval.cli.reproducing.record import claimed, finish, is_finished
from mimic_eval.records import UserError, announce_cached
from mimic_eval.records.processes import rank, world_size
from mimic_eval.studies import Cell, Cost
from mimic_eval.studies.results import CELLS

_TIMEOUT_S = 60_000
"""How long a process waits for the others, as upstream's do."""


@dataclass
class Ran:
    """What became of the cells.

    Attributes:
        finished: how many are finished now, of the plan's.
        failed: why others failed, by name.
        left_out: why others were left out, by name.
        busy: those that another process runs.
        notes: a line for each thing that was made on the way.
    """

    finished: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    busy: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def lines(self, plan: Plan, out: Path) -> list[str]:
        """What to say at the end."""
        lines = [f"{self.finished} of {len(plan.mine)} cells are finished in {out}"]
        if self.left_out:
            lines.append(f"left out, as this model cannot run them: {', '.join(self.left_out)}")
        if self.busy:
            lines.append(f"run by another process: {', '.join(self.busy)}")
        if self.finished:
            lines.append(f"Wrote {out / 'index.html'}: what is reported, what was measured, and at what cost")
        return lines


@contextmanager
def variables(plan: Plan, built: Built) -> Iterator[None]:
    """The environment of the study's runs: its task folder, and its orders."""
    from mimic_tasks.locate import VARIABLE
    from mimic_tasks.permuted.orders import RULE

    wanted = {
        **({} if built.folder is None else {VARIABLE: str(built.folder)}),
        **({RULE: plan.study.permuted_orders} if plan.study.permuted_orders else {}),
    }
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def check_early(plan: Plan, out: Path) -> None:
    """What can be seen wrong of any cell before anything heavy is imported; `variables` are set.

    Raises:
        UserError: a task, a data set or an argument that does not fit; names the cell.
    """
    from mimic_eval.cli.diagnosing.run import check

    if world_size() > 1 and any(cell.measure == "attention" for cell in plan.mine):
        raise UserError(
            f"{plan.study.id} measures attention, in one process: use --shard instead of torchrun"
        )
    for cell in plan.mine:
        try:
            if cell.measure == "attention":
                check(_job(cell, plan, out))
            else:
                check_run(
                    {
                        "tasks": ",".join(cell.tasks), "model": cell.entry.model, "limit": plan.limit,
                        "model_args": arguments_of(cell), "log_samples": True, "output_path": str(out),
                    }
                )  # fmt: skip
        except UserError as error:
            raise UserError(f"{plan.study.id}, cell {cell.name}: {error}") from error


def run_cells(plan: Plan, out: Path) -> Ran:
    """Run the cells of the plan's shard that are not finished.

    Args:
        plan: checked; `variables` are set.
        out: with its ``study.json``.

    Raises:
        UserError: a checkpoint that cannot be loaded, or a cell that its model cannot run.
    """
    _join_processes()
    ran = Ran()
    waiting = [cell for cell in plan.mine if not _agreed(is_finished(cell, out))]
    if not waiting:
        ran.finished = len(plan.mine)
        return ran
    from mimic_eval.cli.lmms.calls import lmms_runs

    models = LoadedModel()

    def stored() -> str:
        done = sum(is_finished(cell, out) for cell in plan.mine)
        return f"{done} of {len(plan.mine)} cells are finished in {out}; the same command goes on"

    def load(name: str, given: Mapping[str, Any]) -> Any:
        model = models.load(name, given)
        announce_cached(stored)
        return model

    _check_data_sets(waiting)
    with lmms_runs(load) as run:
        for _, group in groupby(waiting, key=lambda cell: cell.entry.name):
            cells = list(group)
            note = calibrate_sinks(models, cells, plan.study)
            ran.notes += [note] if note else []
            refused = check_cells(models, cells)
            _refuse(plan, refused)
            ran.left_out |= refused
            ran.notes += [f"cell {name} is left out: {reason}" for name, reason in refused.items()]
            announce_cached(stored)
            for cell in cells:
                if cell.name not in refused:
                    _run_cell(cell, plan, out, ran, models, run)
    ran.finished = sum(is_finished(cell, out) for cell in plan.mine)
    return ran


def _check_data_sets(cells: Sequence[Cell]) -> None:
    """That data from elsewhere can be loaded, before a model is.

    Raises:
        UserError: an unknown task of upstream's, or data out of reach.
    """
    from mimic_eval.cli.diagnosing.requests import loaded_tasks
    from mimic_eval.records import benchmark_of
    from mimic_tasks.benchmarks.reading import VARIABLE
    from mimic_tasks.locate import task_folder

    folder, copies = task_folder(), bool(os.environ.get(VARIABLE))  # which `check_early` has seen
    here = {*folder.tasks, *folder.permuted}
    tasks = dict.fromkeys(task for cell in cells for task in cell.tasks)
    elsewhere = [task for task in tasks if task not in here and not (copies and benchmark_of(task))]
    if elsewhere:
        with loaded_tasks(cells[0].entry.model, ",".join(elsewhere), None):
            return


def _refuse(plan: Plan, refused: Mapping[str, str]) -> None:
    """End before anything is run if a cell is impossible, unless the user lets them be left out."""
    for name, reason in refused.items():
        if not plan.request.leave_out:
            more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
            raise UserError(f"cell {name}{more}: {reason}; --leave-out runs the other cells")
        _say(f"{name} is left out: {reason}")


def _run_cell(
    cell: Cell,
    plan: Plan,
    out: Path,
    ran: Ran,
    models: LoadedModel,
    run: Callable[[Sequence[str]], Outcome],
) -> None:
    """Run one cell, unless another process does."""
    with _claimed(cell, out) as mine:
        if not mine:
            ran.busy.append(cell.name)
            return
        if _agreed(is_finished(cell, out)):
            return
        start, number = time.perf_counter(), plan.cells.index(cell) + 1
        _say(f"[{number}/{len(plan.cells)}] {cell.name}: {', '.join(cell.tasks)}")
        try:
            measured = _attention if cell.measure == "attention" else _scores
            run_record, cost = measured(cell, plan, out, models, run)
        except UserError as error:
            ran.failed[cell.name] = str(error)
            _say(f"error: {cell.name}: {error}")
        else:
            if rank() == 0:
                finish(cell, out, run=run_record, cost=cost)
            _say(f"{cell.name}: {cost.docs} docs, {time.perf_counter() - start:.1f} s")
        _wait()


def _scores(
    cell: Cell, plan: Plan, out: Path, models: LoadedModel, run: Callable[[Sequence[str]], Outcome]
) -> tuple[dict[str, Any], Cost]:
    """A run of `lmms_eval`; results that a killed process wrote are taken as they are.

    Raises:
        UserError: it failed.
    """
    from mimic_eval.cli.reproducing.cost import cost_of_scores, decoder_size, peak_memory
    from model_adapters.options import parse_arg_string

    folder = out / CELLS / cell.name
    spent, peak = None, None
    if not _agreed(_has_results(folder)):
        _remove_unfinished(folder)
        words = ["--tasks", ",".join(cell.tasks), "--model", cell.entry.model]
        words += ["--model_args", arguments_of(cell), "--log_samples", "--output_path", str(folder)]
        words += ["--verbosity", "WARNING", *([] if plan.limit is None else ["--limit", str(plan.limit)])]
        with peak_memory() as seen:
            outcome = run(words)
        if outcome.errors:
            raise UserError("; ".join(message for _, message in outcome.errors))
        peak = seen.bytes
    model = models.loaded(cell.entry.model, parse_arg_string(arguments_of(cell), {}))
    if peak is not None:
        spent = model.spent
    if rank() != 0:
        return {}, Cost(docs=0)
    results = _newest(folder)
    docs = sum(counts["effective"] for counts in results["n-samples"].values())
    mimic = results["mimic"]
    cost = cost_of_scores(mimic, decoder_size(model), docs=docs, spent=spent, peak_memory=peak)
    return mimic["run"], cost


def _attention(
    cell: Cell, plan: Plan, out: Path, models: LoadedModel, run: Callable[[Sequence[str]], Outcome]
) -> tuple[dict[str, Any], Cost]:
    """A run of `mimic diagnose`.

    Raises:
        UserError: it failed.
    """
    from mimic_eval.cli.diagnosing.folder import SUMMARY
    from mimic_eval.cli.diagnosing.run import run_docs
    from mimic_eval.cli.reproducing.cost import decoder_size, peak_memory
    from mimic_eval.records import announced_run
    from mimic_eval.records.reading import read_json
    from model_adapters.options import parse_arg_string

    job = _job(cell, plan, out)
    model = models.loaded(cell.entry.model, parse_arg_string(job.model_args, {}))
    start = time.perf_counter()
    with peak_memory() as seen:
        run_docs(job, model)
    record, layers = announced_run(), decoder_size(model).layers
    docs = int(read_json(job.out / SUMMARY)["results"]["docs"])
    return record, Cost(
        docs=docs,
        answered=docs,
        seconds=time.perf_counter() - start,
        peak_memory=seen.bytes,
        device=record.get("device"),
        layers=layers,
    )


def _job(cell: Cell, plan: Plan, out: Path) -> Any:
    from mimic_eval.cli.diagnosing.run import Job

    return Job(
        model=cell.entry.model,
        model_args=arguments_of(cell),
        tasks=",".join(cell.tasks),
        docs=plan.study.docs,
        out=out / CELLS / cell.name,
        **attention_options(cell, plan.study),
    )


def _newest(folder: Path) -> dict[str, Any]:
    from leaderboard.runs import read_results, results_files

    return read_results(results_files(folder)[-1])


def _has_results(folder: Path) -> bool:
    from leaderboard.runs import results_files

    try:
        return bool(results_files(folder))
    except UserError:
        return False


def _remove_unfinished(folder: Path) -> None:
    """What killed processes left: the folder is this process's."""
    from leaderboard.runs import UNFINISHED

    if rank() == 0 and folder.is_dir():
        for path in folder.glob(f".run_*{UNFINISHED}"):
            shutil.rmtree(path, ignore_errors=True)


def _say(line: str) -> None:
    if rank() == 0:
        print(line, file=sys.stderr, flush=True)


def _join_processes() -> None:
    """Let the processes of `torchrun` or `accelerate launch` know each other, as upstream's command does."""
    if world_size() == 1:
        return
    import datetime

    import torch
    from accelerate import Accelerator, InitProcessGroupKwargs  # type: ignore[import-untyped]

    if not torch.distributed.is_initialized():
        timeout = datetime.timedelta(seconds=_TIMEOUT_S)
        Accelerator(kwargs_handlers=[InitProcessGroupKwargs(timeout=timeout)])


def _together() -> bool:
    distributed = sys.modules.get("torch.distributed")
    return distributed is not None and distributed.is_available() and distributed.is_initialized()


def _agreed(value: bool) -> bool:
    """What the first process sees, in all of them: they do the same."""
    if not _together():
        return value
    import torch

    values = [value]
    torch.distributed.broadcast_object_list(values, src=0)
    return bool(values[0])


def _wait() -> None:
    if _together():
        import torch

        torch.distributed.barrier()


@contextmanager
def _claimed(cell: Cell, out: Path) -> Iterator[bool]:
    """`claimed` by the first process for all."""
    if rank() != 0:
        yield _agreed(False)
        return
    with claimed(cell, out) as mine:
        yield _agreed(mine)
