"""The command: early checks, upstream's command with our wrappers, one line for each failure."""

import argparse
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mimic_eval.cli.lmms.arguments import check_early, check_run, defaults_for
from mimic_eval.cli.lmms.config import settle
from mimic_eval.cli.lmms.outcome import FAILED, USER, Outcome, cause, given_up
from mimic_eval.cli.lmms.outputs import NewFolder, NotWritten, Staged
from mimic_eval.cli.lmms.wrappers import built_in_tasks, folders, libyaml, limiting, only_ours, summarizing
from mimic_eval.records import UserError, announced_cached, nearest
from mimic_eval.records.processes import world_size


def run() -> None:
    """The command without its signals.

    Raises:
        SystemExit: 2 after a user's mistake, 1 after another failure.
    """
    outcome = Outcome()
    try:
        if is_evaluation(sys.argv[1:]):
            check_early(sys.argv[1:])
            load_when_used("evaluate")
            _wrap(outcome)
        from lmms_eval.cli import dispatch

        dispatch.main()
    except BrokenPipeError:
        raise
    except (UserError, OSError) as error:
        outcome.fail(USER, str(error))
    except ValueError as error:  # upstream refuses arguments and config files so
        outcome.fail(USER, cause(error))
    except Exception as error:  # what upstream starts before it catches, as wandb
        if "DEBUG" in sys.argv:
            raise
        outcome.fail(FAILED if outcome.started else USER, cause(error))
    for table in outcome.tables:
        print(f"\n{table}")
    for folder in dict.fromkeys(outcome.folders):
        print(f"\nresults and samples: {folder} (`mimic report {folder}` prints the table again)")
    for _, message in outcome.errors:
        print(f"error: {message}", file=sys.stderr)
    if outcome.errors:
        raise SystemExit(max(code for code, _ in outcome.errors))


def is_evaluation(argv: list[str]) -> bool:
    """Upstream's rule: flags only, or `eval`; help, the wizard and other modes are left to it."""
    other = {"-h", "--help", "--tui", "--power-analysis"}
    starts = bool(argv) and (argv[0].startswith("-") or argv[0] == "eval")
    return starts and argv != ["eval"] and not other & set(argv)


def load_when_used(name: str) -> None:
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


def _wrap(outcome: Outcome) -> None:
    """Put our wrappers around upstream's functions."""
    from lmms_eval import __main__ as upstream
    from lmms_eval import evaluator

    parsers: list[argparse.ArgumentParser] = []
    parse, defaults = upstream.parse_eval_args, defaults_for(sys.argv[1:])
    if "output_path" in defaults:
        outcome.new_folder = NewFolder(Path(defaults["output_path"]))

    def parse_eval_args() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
        parser, args = parse()
        parser.set_defaults(**defaults)
        vars(args).update(defaults)
        if args.output_path:
            args.output_path = os.path.expanduser(args.output_path)  # a shell leaves --output_path=~/runs
        parsers[:] = [parser]
        return parser, args

    def print_unless_covered(*texts: Any) -> None:
        if outcome.uncovered:
            print(*texts)

    upstream.parse_eval_args = parse_eval_args
    upstream.print = print_unless_covered
    upstream.cli_evaluate_single = guarded(upstream.cli_evaluate_single, outcome, parsers)
    evaluator.simple_evaluate = summarizing(evaluator.simple_evaluate, outcome)
    evaluator.evaluate = limiting(evaluator.evaluate)


def guarded(
    original: Callable[..., Any], outcome: Outcome, parsers: list[argparse.ArgumentParser]
) -> Callable[..., Any]:
    """`cli_evaluate_single` with our folders, whose failures are entered instead of printed and forgotten."""

    def cli_evaluate_single(args: argparse.Namespace) -> tuple[Any, Any]:
        outcome.started = False
        try:
            if args.config:
                settle(args, parsers[0])
                check_run(vars(args))
            return _evaluate(original, args, outcome)
        except UserError as error:
            return _failed(outcome, args, USER, str(error))
        except NotWritten as error:
            stored = announced_cached() or "no answer is stored"
            text = f"--output_path {args.output_path}: the results could not be written ({error}); {stored}"
            return _failed(outcome, args, FAILED, text)
        except Exception as error:
            if args.verbosity == "DEBUG":
                outcome.fail(FAILED, cause(error))
                raise
            if isinstance(mistake := given_up(error), UserError):
                return _failed(outcome, args, USER, str(mistake))
            code = FAILED if outcome.started else USER
            return _failed(outcome, args, code, f"{cause(error)} (--verbosity DEBUG shows the traceback)")

    return cli_evaluate_single


def _evaluate(original: Callable[..., Any], args: argparse.Namespace, outcome: Outcome) -> tuple[Any, Any]:
    """One evaluation with our folders, and its files moved to their folder.

    Raises:
        NotWritten: they could not be written.
    """
    from lmms_eval import __main__ as upstream

    from leaderboard.runs import is_mimic
    from mimic_eval.cli.calibrate import embedded_docs
    from mimic_tasks.dataset_cache import keyed_by_content
    from model_adapters.sinks import calibrating_with

    _check_model(args.model)
    _check_hub(args.hf_hub_log_args)
    _check_task_keys(args.tasks)
    tracker = upstream.EvaluationTracker
    new = outcome.new_folder
    if new is not None and args.output_path != str(new.wanted):
        new = None  # a config file names another
    staged = Staged(args.output_path, new) if args.output_path else None
    ours = only_ours(args.tasks, args.include_path)
    with (
        folders(args.include_path) as include_path,
        built_in_tasks(read=not ours),
        libyaml(),
        keyed_by_content(),
        calibrating_with(embedded_docs),
    ):
        args.include_path = include_path
        if staged is not None:
            upstream.EvaluationTracker = staged.tracker(tracker)
        try:
            results, samples = original(args)
            if results is not None:
                _check_results(outcome, results)
                if args.verbosity in ("TRACE", "DEBUG", "INFO") or not all(map(is_mimic, results["results"])):
                    outcome.uncovered = True
                if staged is not None:
                    staged.publish(results, samples)
                    outcome.folders.append(str(staged.output_path))
        finally:
            upstream.EvaluationTracker = tracker
            if staged is not None:
                staged.discard()
    return results, samples


def _failed(outcome: Outcome, args: argparse.Namespace, code: int, message: str) -> tuple[None, None]:
    """Enter a failure; one of several processes ends at once, lest the others wait for it."""
    run = f"{args.model} ({args.model_args}) on {args.tasks}: " if args.config else ""
    outcome.fail(code, f"{run}{message}")
    if world_size() > 1:
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


def _check_hub(text: str) -> None:
    """That the keys of --hf_hub_log_args are upstream's."""
    from lmms_eval.loggers import EvaluationTracker

    known = [name for name in inspect.signature(EvaluationTracker.__init__).parameters if name != "self"]
    for part in text.split(","):
        key = part.split("=", 1)[0].strip()
        if key and key not in known:
            raise UserError(nearest("key of --hf_hub_log_args", key, known))


def _check_task_keys(tasks: str) -> None:
    """That the task files have no keys that upstream ends with, after it has loaded the model."""
    from lmms_eval.api.task import TaskConfig

    from mimic_tasks.folder_check import check_keys
    from mimic_tasks.locate import task_folder

    check_keys(task_folder().path, tasks.split(","), [field.name for field in fields(TaskConfig)])


def _check_results(outcome: Outcome, results: dict[str, Any]) -> None:
    """Every task has a number."""
    for task, scores in results["results"].items():
        if task in results.get("group_subtasks", {}) and results["group_subtasks"][task]:
            continue
        values = [value for key, value in scores.items() if "," in key and "_stderr" not in key]
        if not any(isinstance(value, int | float) for value in values):
            outcome.fail(FAILED, f"{task} yielded no result")
    for row in results["mimic"]["rows"]:
        if row["score"] is None and not row["metric"].endswith("_official"):
            outcome.fail(FAILED, f"{row['task']} yielded no result: all {row['unscored']} docs are unscored")
