"""What can be seen wrong in a command line or a config file before anything is imported or loaded."""

import argparse
import fnmatch
import importlib.util
import json
import math
import os
import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimic_eval.cli.lmms.config import PAIRS, config_runs, pairs_text
from mimic_eval.records import UserError, benchmark_of, groups_of, is_positional
from model_adapters.families import lmms_models

if TYPE_CHECKING:
    from model_adapters.tuning import Tuning

_TEXTS = (
    *("tasks", "config", "include_path", "model", "device", "output_path", "limit", "offset", "num_fewshot"),
    *("use_cache", "cache_requests", "reasoning_tags", *PAIRS),
)
_SWITCHES = (
    *("check_integrity", "log_samples", "predict_only", "force_simple"),
    *("apply_chat_template", "fewshot_as_multiturn"),
)
_SHORT = {"use_cache": "-c", "predict_only": "-x"}
JOURNAL = "the *_mask models keep their answers in a journal that knows weights, pictures and prompts"


def check_early(argv: list[str]) -> None:
    """What can be seen wrong before the quarter of a minute that upstream's imports take.

    Raises:
        UserError: see `check_run`; or a config file that cannot be read.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in _TEXTS:
        parser.add_argument(f"--{name}", *([_SHORT[name]] if name in _SHORT else []))
    for name in _SWITCHES:
        parser.add_argument(
            f"--{name}", *([_SHORT[name]] if name in _SHORT else []), action="store_true", default=None
        )
    parser.add_argument("--batch_size", "-b")
    known, _ = parser.parse_known_args(argv)
    given = {name: value for name, value in vars(known).items() if value is not None}
    for run in [{}] if known.config is None else config_runs(known.config):
        if "env" not in run:  # it may set MIMIC_DATA: `check_run` comes once it is set
            check_run({**run, **given})


def defaults_for(argv: Sequence[str]) -> dict[str, Any]:
    """Our defaults of upstream's arguments that a command line does not give; a config file may.

    Args:
        argv: the command line without the program.

    Returns:
        ``verbosity``, ``log_samples``, ``output_path`` (``runs/<time>``); where this folder cannot be
        written, nothing is stored, and a line says so.
    """

    def given(name: str) -> bool:
        return any(word == f"--{name}" or word.startswith(f"--{name}=") for word in argv)

    defaults: dict[str, Any] = {} if given("verbosity") else {"verbosity": "WARNING"}
    if given("output_path"):
        return {**defaults, "log_samples": True}
    folder = Path("runs")
    if not os.access(folder if folder.is_dir() else Path(), os.W_OK | os.X_OK):
        print(
            f"{folder.absolute()} cannot be written: results are only printed; --output_path stores them",
            file=sys.stderr,
        )
        return defaults
    return {**defaults, "log_samples": True, "output_path": str(folder / time.strftime("%Y%m%d_%H%M%S"))}


def check_run(given: Mapping[str, Any]) -> None:
    """What can be seen wrong in one run.

    Args:
        given: upstream's arguments by name, as a command line or a config file has them, or None if not
            given.

    Raises:
        UserError: no task, a mimic task that no folder has, a flag that does not go with our tasks or models,
            or a wrong argument for one of our models.
    """
    tasks = given.get("tasks")
    tasks = ",".join(map(str, tasks)) if isinstance(tasks, list) else tasks
    permuted = check_tasks(tasks, given.get("include_path"))
    model = given.get("model")
    ours = model in lmms_models()
    check_limit(given.get("limit"))
    if permuted:
        check_permuted(permuted[0], offset=str(given.get("offset") or 0) != "0")
    if ours or any(name.split("_")[0].lower() == "mimic" for name in str(tasks).split(",")):
        _check_flags(given, model=str(model) if ours else None)
    for name in PAIRS[1:]:
        _check_pairs(name, given.get(name))
    _check_trackers(given)
    _check_reasoning_tags(given.get("reasoning_tags"))
    check_writable(given.get("output_path"))
    if ours:
        _check_model_args(given, permuted)


def _check_flags(given: Mapping[str, Any], *, model: str | None) -> None:
    """Flags of upstream's that would give wrong or no answers with our tasks or models."""
    for flag in ("use_cache", "cache_requests"):
        if given.get(flag) not in (None, "", False):
            raise UserError(
                f"--{flag} knows neither weights nor pictures nor the task folder, so it can give another "
                f"checkpoint's answers or ask another folder's questions: leave it out ({JOURNAL})"
            )
    if str(given.get("num_fewshot") or 0) != "0":
        raise UserError(
            f"--num_fewshot {given['num_fewshot']}: the mimic tasks and the *_mask models do not support "
            "few-shot examples: leave it out"
        )
    refused = {
        "apply_chat_template": "the chat template is always applied by models that have one",
        "fewshot_as_multiturn": "few-shot examples are not supported",
        "check_integrity": "it runs tests of upstream's source tree, which has none for these tasks",
    }
    if model is not None:
        refused["force_simple"] = f"{model} is a chat model only"
    for flag, reason in refused.items():
        if given.get(flag):
            raise UserError(f"--{flag}: {reason}: leave it out")


def _check_model_args(given: Mapping[str, Any], permuted: list[str]) -> None:
    from model_adapters.options import AdapterOptions, parse_arg_string

    extra = {"device": given.get("device"), "batch_size": given.get("batch_size")}
    text = pairs_text("model_args", given.get("model_args") or "")
    options = AdapterOptions.parse(parse_arg_string(text, extra))
    if options.tuning is not None:
        _check_originals(options.tuning, given)
    order = options.general.order
    _check_positions(str(given.get("tasks")).split(","), order=order, mask=options.general.mask)
    if permuted and order != "fixed":
        raise UserError(
            f"order={order} does not go with {permuted[0]}, which has several image orders of "
            "each doc already: leave order= out, or choose the plain task"
        )


def _check_positions(names: list[str], *, order: str, mask: str) -> None:
    """That images stay where the truths of the tasks say."""
    from mimic_tasks.locate import PERMUTED_SUFFIX, task_folder
    from mimic_tasks.stored_docs import task_kind
    from model_adapters.doc_prompt import positions_text

    if order == "fixed" and mask != "orders":
        return
    folder = task_folder()
    plain = [task.removeprefix("mimic_") for task in folder.tasks if task_kind(task.removeprefix("mimic_"))]
    groups = {**groups_of(plain), **groups_of(plain, PERMUTED_SUFFIX)}
    for name in names:
        requested = groups.get(name) or fnmatch.filter((*folder.tasks, *folder.permuted), name)
        for task in filter(is_positional, requested):
            raise UserError(positions_text(task, order=order, mask=mask))


def _check_originals(tuning: "Tuning", given: Mapping[str, Any]) -> None:
    """What the pictures of our folder were made from, where a build changed them, is not what was tuned on.

    The model compares the pictures themselves, of every task, before it answers.
    """
    from mimic_tasks.locate import task_folder
    from mimic_tasks.originals import read_originals

    folder = task_folder()
    ours, tasks = (*folder.tasks, *folder.permuted), str(given.get("tasks")).split(",")
    if any(fnmatch.filter(ours, name) for name in tasks):
        tuning.check_pictures((digest.hex(), name) for digest, name in read_originals(folder.path))


def _check_pairs(name: str, value: Any) -> None:
    if not isinstance(value, str) or set("{}[]'\"") & set(value):  # upstream reads quotes and brackets
        return
    for part in value.split(","):
        if part.strip() and "=" not in part:
            raise UserError(f"--{name} must read key=value,key=value; '{part.strip()}' has no '='")


def _check_trackers(given: Mapping[str, Any]) -> None:
    """What upstream would start, and would find missing with a traceback."""
    if given.get("wandb_args") and importlib.util.find_spec("wandb") is None:
        raise UserError("--wandb_args needs the package wandb: pip install wandb")
    if given.get("launcher_args") and "name=" not in str(given["launcher_args"]):
        raise UserError("--launcher_args must name the launcher: name=...")


def _check_reasoning_tags(value: Any) -> None:
    """Upstream reads them after the model has answered."""
    if not isinstance(value, str) or value.strip().lower() in ("", "none"):
        return
    try:
        tags = json.loads(value)
    except ValueError:
        tags = None
    pairs = tags if isinstance(tags, list) else [None]
    if not all(isinstance(pair, list) and [*map(type, pair)] == [str, str] for pair in pairs):
        raise UserError(f'--reasoning_tags must be a JSON list of pairs like [["<a>", "</a>"]], got {value}')


def check_tasks(tasks: str | None, include_path: str | list[str] | None) -> list[str]:
    """That the tasks are known; returns the permuted ones among them, whose settings are checked too."""
    from mimic_tasks.folder_check import check_tasks_folder
    from mimic_tasks.locate import EMBEDDED, official_folder, task_folder
    from mimic_tasks.permuted.tasks import check_orders

    if not tasks:
        raise UserError("no task given: --tasks mimic_counting, for example; `mimic tasks list` shows ours")
    folder, official = task_folder(), official_folder()
    included = names_in(include_path)
    known_tasks = {*folder.tasks, *folder.permuted, *official.tasks, *included}
    names = str(tasks).split(",")
    if not all(name.strip() == name and name for name in names):
        raise UserError(f"--tasks must read name,name without spaces or empty names, got '{tasks}'")
    plain = [task for task in official.tasks if benchmark_of(task) is None]
    for name in names:
        near = [task for task in folder.tasks if task.endswith(f"_{name}")] if name not in known_tasks else []
        if near:
            raise UserError(f"Unknown task '{name}'. Did you mean '{near[0]}'? `mimic tasks list` shows ours")
        if name.split("_")[0].lower() == "mimic" and not fnmatch.filter(known_tasks, name):
            raise UserError(
                f"{folder.path} ({folder.label}) has no task '{name}'; it has {', '.join(folder.tasks)}. "
                "MIMIC_DATA chooses another folder; beside it there are "
                f"{', '.join((*folder.permuted, *plain))}, and the tasks of public benchmarks "
                "(`mimic tasks list`)"
            )
    _check_benchmarks(name for name in official.tasks if name not in included and _requested(name, names))
    for at in (str(folder.path), *_folders(include_path)):
        if Path(at) != EMBEDDED:
            check_tasks_folder(Path(at), names)
    permuted = [task for task in folder.permuted if _requested(task, names)]
    check_orders(folder, [task for task in permuted if task not in included])
    return permuted


def _requested(task: str, names: Iterable[str]) -> bool:
    return any(fnmatch.fnmatch(task, name) for name in names)


def _check_benchmarks(tasks: Iterable[str]) -> None:
    """That the sets of public benchmarks among some tasks are there, as far as that can be seen."""
    sets = dict.fromkeys(name for name in map(benchmark_of, tasks) if name is not None)
    if sets:
        from mimic_tasks.benchmarks import BENCHMARKS
        from mimic_tasks.benchmarks.reading import check_available

        for name in sets:
            check_available(BENCHMARKS[name])


def check_permuted(task: str, *, offset: bool) -> None:
    """What permuted tasks cannot go with: upstream counts rows."""
    if offset:
        raise UserError(f"--offset counts rows, of which {task} has several a doc: leave it out")


def check_limit(limit: Any) -> None:
    """A number above 0 that is finite, or -1."""
    try:
        number = 1.0 if limit is None else float(limit)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(limit, bool) or not (0 < number < math.inf or number == -1):
        raise UserError(f"--limit must be a number of docs, a share below 1, or -1 for all, got '{limit}'")


def check_writable(output_path: Any) -> None:
    """The results can be written there: seen before the run and not after it."""
    if output_path is None:
        return
    if output_path == "":
        raise UserError("--output_path is empty: leave it out, or give a folder")
    if set(",{}[]'\"") & set(str(output_path)):
        raise UserError(f"--output_path {output_path}: upstream interprets commas, quotes and brackets")
    parent = Path(os.path.abspath(os.path.expanduser(str(output_path))))
    while not os.path.lexists(parent):
        parent = parent.parent
    if not os.path.isdir(parent) or not os.access(parent, os.W_OK | os.X_OK):
        raise UserError(f"--output_path {output_path}: cannot be written, because of {parent}")


def _folders(include_path: str | list[str] | None) -> list[str]:
    return [include_path] if isinstance(include_path, str) else include_path or []


def names_in(include_path: str | list[str] | None) -> set[str]:
    """The tasks and groups that a user's --include_path defines."""
    names: set[str] = set()
    for folder in _folders(include_path):
        if not Path(folder).is_dir():
            raise UserError(f"--include_path {folder}: no such folder")
        for file in Path(folder).rglob("*.yaml"):
            text = file.read_text(encoding="utf-8", errors="replace")
            names.update(re.findall(r"^(?:task|group): *['\"]?([\w-]+)['\"]? *$", text, re.MULTILINE))
    return names
