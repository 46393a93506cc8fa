"""`lmms_eval`: upstream's command with our tasks found, and a failed run that says so.

Upstream catches every failure and exits 0 (LMMS_EVAL trap 1). Here three of its functions are wrapped, not
replaced: `cli_evaluate_single`, one evaluation of a command line, and `simple_evaluate`, which returns its
results before they are written; and within that `evaluate`, so that `--limit` counts the docs of permuted
tasks. All flags and files stay upstream's.
"""

import argparse
import fnmatch
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

from mimic_eval.records import UserError, announce_run, announced_effects, announced_run
from model_adapters.manifests import OUR_MODELS

USER, FAILED = 2, 1


@dataclass
class Outcome:
    """What became of the evaluations of a command line."""

    errors: list[tuple[int, str]] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)

    def fail(self, code: int, message: str) -> None:
        """Enter a failure."""
        self.errors.append((code, " ".join(message.split())))


def main() -> None:
    """The `lmms_eval` command, also ``python -m mimic_tasks``."""
    outcome = Outcome()
    try:
        if _is_evaluation(sys.argv[1:]):
            _check_early(sys.argv[1:])
            _load_when_used("evaluate")
            _wrap(outcome)
        from lmms_eval.cli import dispatch

        dispatch.main()
    except (UserError, OSError) as error:
        outcome.fail(USER, str(error))
    except ValueError as error:  # upstream's refusals of its own arguments and config files
        outcome.fail(USER, _cause(error))
    for table in outcome.tables:
        print(f"\n{table}")
    for _, message in outcome.errors:
        print(f"error: {message}", file=sys.stderr)
    if outcome.errors:
        raise SystemExit(max(code for code, _ in outcome.errors))


def _load_when_used(name: str) -> None:
    """Let a module that upstream imports, and hardly ever uses, load at its first use.

    Not with `importlib.util.LazyLoader`, which loads as soon as anybody looks through `sys.modules`.
    """
    spec = importlib.util.find_spec(name)
    if name in sys.modules or spec is None:
        return

    def load(attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(f"{name} is not loaded yet and has no {attribute}")
        if sys.modules.get(name) is module:
            del sys.modules[name]
        return getattr(importlib.import_module(name), attribute)

    module = importlib.util.module_from_spec(spec)
    module.__getattr__ = load  # type: ignore[method-assign]
    sys.modules[name] = module


def _is_evaluation(argv: list[str]) -> bool:
    """Upstream's rule: flags only, or `eval`; help, the wizard and other modes are left to it."""
    other = {"-h", "--help", "--tui", "--power-analysis"}
    starts = bool(argv) and (argv[0].startswith("-") or argv[0] == "eval")
    return starts and argv != ["eval"] and not other & set(argv)


def _check_early(argv: list[str]) -> None:
    """What can be seen wrong before the quarter of a minute that upstream's imports take.

    Raises:
        UserError: no task, a mimic task that no folder has, or a wrong argument for one of our models.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for flag in ("--tasks", "--config", "--include_path", "--model", "--model_args", "--device"):
        parser.add_argument(flag)
    parser.add_argument("--output_path")
    parser.add_argument("--limit")
    parser.add_argument("--offset", default="0")
    parser.add_argument("--use_cache")
    parser.add_argument("--batch_size", "-b")
    known, _ = parser.parse_known_args(argv)
    if known.config:
        return
    permuted = _check_tasks(known.tasks, known.include_path)
    _check_limit(known.limit)
    if permuted:
        _check_permuted(permuted[0], offset=known.offset != "0", cache=known.use_cache is not None)
    _check_writable(known.output_path)
    if known.model in OUR_MODELS:
        from model_adapters.options import AdapterOptions, parse_arg_string

        extra = {"device": known.device, "batch_size": known.batch_size}
        options = AdapterOptions.parse(parse_arg_string(known.model_args or "", extra))
        if permuted and options.order != "fixed":
            raise UserError(
                f"order={options.order} does not go with {permuted[0]}, which shows each doc in orders of "
                "its own: leave order= out, or choose the plain task"
            )


def _check_tasks(tasks: str | None, include_path: str | list[str] | None) -> list[str]:
    """That the tasks are known; returns the permuted ones among them, whose settings are checked too."""
    from mimic_tasks.locate import official_folder, task_folder
    from mimic_tasks.permuted.tasks import check_asked

    if not tasks:
        raise UserError("no task given: --tasks mimic_counting, for example; `mimic tasks list` shows ours")
    folder, official = task_folder(), official_folder()
    own = _names_in(include_path)
    found = {*folder.tasks, *folder.permuted, *official.tasks, *own}
    names = tasks if isinstance(tasks, list) else str(tasks).split(",")
    if not all(isinstance(name, str) and name.strip() == name and name for name in names):
        raise UserError(f"--tasks must read name,name without spaces or empty names, got '{tasks}'")
    for name in names:
        near = [task for task in folder.tasks if task.endswith(f"_{name}")] if name not in found else []
        if near:
            raise UserError(f"Unknown task '{name}'. Did you mean '{near[0]}'? `mimic tasks list` shows ours")
        if name.split("_")[0].lower() == "mimic" and not fnmatch.filter(found, name):
            raise UserError(
                f"{folder.path} ({folder.label}) has no task '{name}'; it has {', '.join(folder.tasks)}. "
                "MIMIC_DATA chooses another folder; beside it there are "
                f"{', '.join((*folder.permuted, *official.tasks))}"
            )
    permuted = [task for task in folder.permuted if any(fnmatch.fnmatch(task, name) for name in names)]
    check_asked(folder, [task for task in permuted if task not in own])
    return permuted


def _check_permuted(task: str, *, offset: bool, cache: bool) -> None:
    """What permuted tasks cannot go with: upstream counts rows, and tells the rows of a doc not apart."""
    if offset:
        raise UserError(f"--offset counts rows, of which {task} has several a doc: leave it out")
    if cache:
        raise UserError(
            f"--use_cache and --cache_requests do not know the orders of {task}: leave them out (the *_mask "
            "models keep their answers anyway)"
        )


def _check_limit(limit: str | None) -> None:
    try:
        good = limit is None or float(limit) > 0 or float(limit) == -1
    except ValueError:
        good = False
    if not good:
        raise UserError(f"--limit must be a number of docs, a share below 1, or -1 for all, got '{limit}'")


def _check_writable(output_path: str | None) -> None:
    """The results can be written there: seen before the run and not after it."""
    if output_path is None:
        return
    place = Path(os.path.abspath(output_path))
    while not os.path.lexists(place):
        place = place.parent
    if not os.path.isdir(place) or not os.access(place, os.W_OK | os.X_OK):
        raise UserError(f"--output_path {output_path}: cannot be written, because of {place}")


def _names_in(include_path: str | list[str] | None) -> set[str]:
    """The tasks and groups that a user's --include_path defines."""
    folders = [include_path] if isinstance(include_path, str) else include_path or []
    names: set[str] = set()
    for folder in folders:
        if not Path(folder).is_dir():
            raise UserError(f"--include_path {folder}: no such folder")
        for file in Path(folder).rglob("*.yaml"):
            text = file.read_text(encoding="utf-8", errors="replace")
            names.update(re.findall(r"^(?:task|group): *['\"]?([\w-]+)['\"]? *$", text, re.MULTILINE))
    return names


def _wrap(outcome: Outcome) -> None:
    """Put our wrappers around upstream's two functions."""
    from lmms_eval import __main__ as upstream
    from lmms_eval import evaluator

    upstream.cli_evaluate_single = _guarded(upstream.cli_evaluate_single, outcome)
    evaluator.simple_evaluate = _summarizing(evaluator.simple_evaluate, outcome)
    evaluator.evaluate = _limiting(evaluator.evaluate)


def _guarded(original: Callable[..., Any], outcome: Outcome) -> Callable[..., Any]:
    """`cli_evaluate_single` with our folders, whose failures are entered instead of printed and forgotten."""

    def cli_evaluate_single(args: argparse.Namespace) -> tuple[Any, Any]:
        from mimic_tasks.dataset_cache import keyed_by_content

        try:
            if isinstance(args.tasks, list):  # as a config file may have it
                args.tasks = ",".join(map(str, args.tasks))
            _check_tasks(args.tasks, args.include_path)
            _check_model(args.model)
            ours = _only_ours(args.tasks, args.include_path)
            with _folders(args.include_path) as folders, _built_in_tasks(read=not ours), keyed_by_content():
                args.include_path = folders
                results, samples = original(args)
        except UserError as error:
            return _failed(outcome, args, USER, str(error))
        except Exception as error:
            if args.verbosity == "DEBUG":
                outcome.fail(FAILED, _cause(error))
                raise
            code = USER if "Tasks not found" in str(error) else FAILED
            return _failed(outcome, args, code, f"{_cause(error)} (--verbosity DEBUG shows the traceback)")
        if results is not None:
            _check_written(args, outcome, results)
        return results, samples

    return cli_evaluate_single


def _failed(outcome: Outcome, args: argparse.Namespace, code: int, message: str) -> tuple[None, None]:
    """Enter a failure; one of several processes ends at once, lest the others wait for it."""
    run = f"{args.model} ({args.model_args}) on {args.tasks}: " if args.config else ""
    outcome.fail(code, f"{run}{message}")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        print(f"error: {outcome.errors[-1][1]}", file=sys.stderr, flush=True)
        os._exit(code)
    return None, None


def _check_model(name: str) -> None:
    from lmms_eval.models import list_available_models

    names = list_available_models(include_aliases=True)
    if name not in names:
        close = get_close_matches(name, names, n=1)
        hint = f" Did you mean '{close[0]}'?" if close else ""
        raise UserError(f"Unknown model '{name}'.{hint} `lmms_eval models` lists them")


@contextmanager
def _folders(include_path: str | list[str] | None) -> Iterator[list[str]]:
    """The user's folder, whose names win, then those with the mimic, permuted and official tasks."""
    from mimic_tasks.locate import official_folder, task_folder
    from mimic_tasks.permuted.tasks import permuted_folder

    given = [include_path] if isinstance(include_path, str) else list(include_path or [])
    folder, official = task_folder(), official_folder()
    own = sorted(_names_in(given) & {*folder.tasks, *folder.permuted, *official.tasks})
    if own:
        print(f"--include_path defines {', '.join(own)}: used instead of ours", file=sys.stderr)
    print(f"MIMIC tasks from {folder.path} ({folder.label})", file=sys.stderr)
    with permuted_folder(folder) as permuted:
        yield [*given, str(folder.path), str(permuted), str(official.path)]


def _only_ours(tasks: str, include_path: str | list[str] | None) -> bool:
    """Whether all tasks are of this package's folders, so that upstream need not look among its own."""
    from mimic_tasks.locate import official_folder, task_folder

    folder = task_folder()
    ours = {*folder.tasks, *folder.permuted, *official_folder().tasks}
    return set(tasks.split(",")) <= ours - _names_in(include_path)


@contextmanager
def _built_in_tasks(*, read: bool) -> Iterator[None]:
    """Leave upstream's own tasks alone where none is asked for: thousands of files, and what they import.

    Its bootstrap imports some of them too, and is for their metrics only: ours have intervals of their own.
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


def _without_bootstrap(original: Callable[..., Any]) -> Callable[..., Any]:
    def evaluate(*args: Any, **kwargs: Any) -> Any:
        return original(*args, **{**kwargs, "bootstrap_iters": 0})

    return evaluate


def _cause(error: BaseException) -> str:
    """One line for an exception; what a retry gave up on is its cause."""
    attempt = getattr(error, "last_attempt", None)
    if attempt is not None and attempt.exception() is not None:
        error = attempt.exception()
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _summarizing(original: Callable[..., Any], outcome: Outcome) -> Callable[..., Any]:
    """`simple_evaluate` with our summary in its results (key `mimic`), made from the samples.

    The samples are kept for the summary even when the user does not log them, and then left out again.
    """

    def simple_evaluate(*args: Any, log_samples: bool = True, **kwargs: Any) -> Any:
        announce_run()
        results = original(*args, log_samples=True, **kwargs)
        if results is None:
            return None
        from leaderboard.runs import Run, sort_samples
        from leaderboard.summary import summarize_run
        from leaderboard.table import render_table
        from mimic_eval import __version__

        samples = {task: sort_samples(rows) for task, rows in results["samples"].items()}
        results["samples"] = samples
        results["mimic"] = {"version": __version__, "run": announced_run(), "effects": announced_effects()}
        rows = summarize_run(Run("this run", results, samples))
        results["mimic"]["rows"] = [row._asdict() for row in rows]
        if rows:
            outcome.tables.append(render_table(rows))
        if not log_samples:
            del results["samples"]
        return results

    return simple_evaluate


def _limiting(original: Callable[..., Any]) -> Callable[..., Any]:
    """`evaluate`, which limits rows: with a permuted task, each task is cut to its first docs before it."""

    def evaluate(*args: Any, limit: float | None = None, **kwargs: Any) -> Any:
        from lmms_eval.evaluator_utils import get_task_list

        from mimic_tasks.permuted.limit import is_permuted, limit_docs

        tasks = {output.task_name: output.task for output in get_task_list(kwargs["task_dict"])}
        permuted = [name for name, task in tasks.items() if is_permuted(task)]
        if not permuted:
            return original(*args, limit=limit, **kwargs)
        cache = kwargs.get("response_cache") is not None or bool(kwargs.get("cache_requests"))
        _check_permuted(permuted[0], offset=bool(kwargs.get("offset")), cache=cache)
        if limit is None or limit == -1:
            return original(*args, limit=None, **kwargs)
        _check_limit(str(limit))
        had = limit_docs(tasks, limit)
        results = original(*args, limit=None, **kwargs)
        for name, counts in (results or {}).get("n-samples", {}).items():
            counts["original"] = had[name]
        return results

    return evaluate


def _check_written(args: argparse.Namespace, outcome: Outcome, results: dict[str, Any]) -> None:
    """Every task has a number, and the files are there: upstream only logs a failure to write."""
    for task, scores in results["results"].items():
        if task in results.get("group_subtasks", {}) and results["group_subtasks"][task]:
            continue
        values = [value for key, value in scores.items() if "," in key and "_stderr" not in key]
        if not any(isinstance(value, int | float) for value in values):
            outcome.fail(FAILED, f"{task} yielded no result")
    for row in results["mimic"]["rows"]:
        if row["score"] is None and not row["metric"].endswith("_official"):
            outcome.fail(FAILED, f"{row['task']} yielded no result: all {row['unscored']} docs are unscored")
    written = f"{str(results['date']).replace(':', '-')}_results.json"
    if args.output_path and not any(Path(args.output_path).rglob(written)):
        outcome.fail(FAILED, f"--output_path {args.output_path}: the results could not be written there")
