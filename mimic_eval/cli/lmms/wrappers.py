"""Wrappers around upstream's functions: our tasks' folders, our limit and stops, our summary."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any, BinaryIO

from mimic_eval.cli.lmms.arguments import check_limit, check_permuted, names_in
from mimic_eval.cli.lmms.outcome import Outcome
from mimic_eval.records import (
    UserError,
    announce_run,
    announce_system_instruction,
    announced_effects,
    announced_parameters,
    announced_run,
    announced_work,
)
from mimic_eval.records.processes import follows
from model_adapters.generation import UPSTREAMS_STOP


@contextmanager
def folders(include_path: str | list[str] | None) -> Iterator[list[str]]:
    """The user's folder, whose names win, then those with the mimic, permuted and official tasks."""
    from mimic_tasks.locate import official_folder, task_folder
    from mimic_tasks.permuted.tasks import permuted_folder

    given = [include_path] if isinstance(include_path, str) else list(include_path or [])
    folder, official = task_folder(), official_folder()
    overridden = sorted(names_in(given) & {*folder.tasks, *folder.permuted, *official.tasks})
    if overridden:
        print(f"--include_path defines {', '.join(overridden)}: used instead of ours", file=sys.stderr)
    print(f"MIMIC tasks from {folder.path} ({folder.label})", file=sys.stderr)
    with permuted_folder(folder) as permuted:
        yield [*given, str(folder.path), str(permuted), str(official.path)]


def only_ours(tasks: str, include_path: str | list[str] | None) -> bool:
    """Whether all tasks are of this package's folders, so that upstream need not look among its tasks."""
    from mimic_tasks.locate import official_folder, task_folder

    folder = task_folder()
    ours = {*folder.tasks, *folder.permuted, *official_folder().tasks}
    return set(tasks.split(",")) <= ours - names_in(include_path)


@contextmanager
def built_in_tasks(*, read: bool) -> Iterator[None]:
    """Do not read upstream's tasks if none is requested: thousands of files, and what they import.

    Its bootstrap imports some of them too, and serves only their metrics: ours bring their intervals.
    """
    from lmms_eval import __main__ as upstream
    from lmms_eval import evaluator

    manager, evaluate = upstream.TaskManager, evaluator.evaluate
    if not read:
        upstream.TaskManager = partial(manager, include_defaults=False)
        evaluator.evaluate = _without_bootstrap(evaluate)
    try:
        yield
    finally:
        upstream.TaskManager, evaluator.evaluate = manager, evaluate


@contextmanager
def libyaml() -> Iterator[None]:
    """Upstream reads its task files with PyYAML's C parser where that is built: about 8 times as fast."""
    import yaml
    from lmms_eval import utils

    if not yaml.__with_libyaml__:
        yield
        return

    class Loader(yaml.CFullLoader):  # type: ignore[misc]
        def __init__(self, stream: BinaryIO) -> None:
            super().__init__(stream)
            self.name = stream.name  # beside which upstream looks for a `!function`

    utils.yaml = SimpleNamespace(
        full_load=partial(yaml.load, Loader=Loader),
        add_constructor=partial(yaml.add_constructor, Loader=Loader),
    )
    try:
        yield
    finally:
        utils.yaml = yaml


def _without_bootstrap(original: Callable[..., Any]) -> Callable[..., Any]:
    def evaluate(*args: Any, **kwargs: Any) -> Any:
        return original(*args, **{**kwargs, "bootstrap_iters": 0})

    return evaluate


def summarizing(original: Callable[..., Any], outcome: Outcome) -> Callable[..., Any]:
    """`simple_evaluate` with our summary in its results (key `mimic`), made from the samples.

    The samples are retained for the summary even when the user does not log them, and then left out again.
    """

    def simple_evaluate(*args: Any, log_samples: bool = True, **kwargs: Any) -> Any:
        outcome.started = True
        announce_run()
        announce_system_instruction(kwargs.get("system_instruction"))
        results = original(*args, log_samples=True, **kwargs)
        if results is None or follows():
            return None
        from leaderboard.runs import Run, sort_samples
        from leaderboard.summary import summarize_run
        from leaderboard.table import render_table
        from mimic_eval import __version__

        samples = {task: sort_samples(rows) for task, rows in results["samples"].items()}
        results["samples"] = samples
        for task, logged in samples.items():  # upstream's count leaves --offset out
            results["n-samples"].get(task, {})["effective"] = len(logged)
        results["mimic"] = {
            "version": __version__,
            "run": announced_run(),
            "effects": announced_effects(),
            "work": announced_work(),
            "parameters": announced_parameters(),
        }
        rows = summarize_run(Run("this run", results, samples))
        results["mimic"]["rows"] = [row._asdict() for row in rows]
        if rows:
            outcome.tables.append(render_table(rows))
        if not log_samples:
            del results["samples"]
        return results

    return simple_evaluate


def limiting(original: Callable[..., Any]) -> Callable[..., Any]:
    """`evaluate`, whose tasks of ours stop at the end token only, and whose limit counts docs.

    Upstream limits rows, of which a permuted task has several a doc, and takes a share of the first task for
    all: there each task is cut to its first docs before it.
    """

    def evaluate(*args: Any, limit: float | None = None, **kwargs: Any) -> Any:
        from lmms_eval.evaluator_utils import get_task_list

        from mimic_tasks.permuted.limit import is_permuted, limit_docs

        tasks = {output.task_name: output.task for output in get_task_list(kwargs["task_dict"])}
        for task in tasks.values():
            leave_stops_out(task)
        permuted = [name for name, task in tasks.items() if is_permuted(task)]
        if permuted:
            check_permuted(permuted[0], offset=bool(kwargs.get("offset")))
        for name, task in tasks.items():
            if kwargs.get("offset") and kwargs["offset"] >= len(task.eval_docs):
                raise UserError(f"--offset {kwargs['offset']}: {name} has {len(task.eval_docs)} docs")
        if limit is None or limit == -1:
            return original(*args, limit=None, **kwargs)
        check_limit(limit)
        if not permuted and (limit >= 1 or len(tasks) == 1):
            return original(*args, limit=limit, **kwargs)
        had = limit_docs(tasks, limit)
        results = original(*args, limit=None, **kwargs)
        for name, counts in (results or {}).get("n-samples", {}).items():
            counts["original"] = had[name]
        return results

    return evaluate


def leave_stops_out(task: Any) -> None:
    """No stop but the end token in a task of ours (METHODS 2.1): upstream sets a blank line if none is set.

    Task folders that older versions built set none.
    """
    hook = getattr(task.config, "process_results", None)
    settings = getattr(task.config, "generation_kwargs", None)
    if not str(getattr(hook, "__module__", "")).startswith("mimic_tasks.") or settings is None:
        return
    if settings.get("until") in (None, UPSTREAMS_STOP):
        settings["until"] = []
