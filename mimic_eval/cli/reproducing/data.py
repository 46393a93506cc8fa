"""The task folder of a study: made once in the cache folder, by `mimic sweep` or `mimic build`."""

import contextlib
import hashlib
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mimic_eval.cli.reproducing.plan import Plan
from mimic_eval.records import UserError, nearest
from mimic_eval.records.locking import locked
from mimic_eval.studies import Data, Study

SCENES, _SCENES_SEED = 400, 11


@dataclass(frozen=True)
class Built:
    """A study's task folder.

    Attributes:
        folder: for `MIMIC_DATA`, or None for what applies without a study.
        source: what it was made from, in words.
        command: that makes it, or empty.
        notes: one line for each thing that a reader must know.
    """

    folder: Path | None
    source: str
    command: str = ""
    notes: tuple[str, ...] = ()


def check_data(study: Study) -> None:
    """That a study's tasks are among those that it builds, and its sweeps are sweeps.

    Raises:
        UserError: they are not.
    """
    data = study.data
    if data is None:
        return
    built = _built_tasks(study, data)
    known = {*built, *(f"{task}_permuted" for task in built)}
    tasks = dict.fromkeys(task for setting in study.settings for task in setting.tasks)
    for task in tasks:
        if task in known or (data.build is not None and task not in _MIMIC and not _is_ours(task)):
            continue
        if data.sweeps is not None and not _is_ours(task):
            raise UserError(f"{study.id} builds a sweep and runs {task}, which is none: make it two studies")
        raise UserError(f"{study.id} builds {', '.join(built)}: {nearest('task', task, known)}")


_MIMIC = ("mimic", "mimic_permuted")


def _is_ours(task: str) -> bool:
    """Whether a task is one of `mimic build` or `mimic sweep`, by its name."""
    from mimic_eval.records import benchmark_of
    from mimic_tasks.locate import official_folder

    named = task.split("_")[0] == "mimic"
    return named and task not in official_folder().tasks and benchmark_of(task) is None


def _built_tasks(study: Study, data: Data) -> list[str]:
    if data.build is not None:
        from mimic_eval.cli.build import parse_kind
        from mimic_eval.records import TASK_KINDS

        named = data.build.get("task", list(TASK_KINDS))
        return [f"mimic_{parse_kind(str(kind))}" for kind in (named if isinstance(named, list) else [named])]
    from mimic_tasks.sweeps import parse_sweep, read_sweep

    tasks = []
    for sweep in data.sweeps or ():
        if isinstance(sweep, str):
            tasks.append(f"mimic_{read_sweep(_sweep_file(study, sweep)).task}")
        else:
            tasks.append(f"mimic_{parse_sweep(sweep).task}")
    return tasks


def make_data(plan: Plan) -> Built:
    """Build a study's task folder, or take the one that is there.

    Raises:
        UserError: options that do not fit, or a request that the data cannot satisfy.
    """
    from mimic_tasks.locate import VARIABLE, task_folder

    if plan.request.data is not None:
        folder = plan.request.data.expanduser()
        if not folder.is_dir():
            raise UserError(f"--data {folder}: no such folder")
        return Built(folder.resolve(), str(folder))
    if plan.study.data is None:
        located = task_folder()
        embedded = located.label == "embedded"
        return Built(None, "the embedded data" if embedded else f"{VARIABLE}={located.path}")
    source, words, notes = _source(plan)
    command = [*_command(plan.study, plan.study.data), *words]
    if plan.request.allow_fewer or plan.request.sources is None:
        command.append("--allow-fewer")
    folder = _root() / f"{plan.study.id.replace(':', '_')}-{_digest(command)}"
    with locked(folder.parent / f".{folder.name}.lock"):
        if not (folder / "manifest.json").is_file():
            print(f"{plan.study.id}: building its docs from {source}", file=sys.stderr)
        _run([*command, "--out", str(folder)], plan.study)
    notes += [f"fewer docs than requested: {line}" for line in _shortages(folder)]
    return Built(folder, source, shlex.join(["mimic", *command, "--out", "FOLDER"]), tuple(notes))


def _source(plan: Plan) -> tuple[str, list[str], list[str]]:
    """What is built from: in words, as options, and a note where it is scenes."""
    sources = plan.request.sources
    if sources is None:
        from mimic_tasks.scenes import make_scenes

        folder = _root() / f"scenes-{SCENES}"
        annotations = make_scenes(folder, n=SCENES, seed=_SCENES_SEED, progress=False, wait=True)
        note = f"docs are made of {SCENES} drawn scenes: give --annotations and --images for photographs"
        words = ["--annotations", str(annotations), "--images", str(folder / "images")]
        return f"{SCENES} drawn scenes (mimic scenes)", words, [note]
    sources.check_folders()
    words = []
    for option, paths in (("--annotations", sources.annotations), ("--images", sources.images)):
        for path in paths:
            words += [option, str(path.expanduser().resolve())]
    others = {"--class-descriptions": sources.class_descriptions, "--hierarchy": sources.hierarchy}
    for option, other in others.items():
        words += [] if other is None else [option, str(other.expanduser().resolve())]
    return ", ".join(path.name for path in sources.annotations), words, []


def _command(study: Study, data: Data) -> list[str]:
    """`mimic sweep` or `mimic build` without its pictures and its folder."""
    numbers = ["--docs", str(study.docs), "--seed", str(study.seed)]
    if data.build is not None:
        return ["build", *_options(data.build), *numbers]
    return ["sweep", *(_sweep_file(study, sweep) for sweep in data.sweeps or ()), *numbers]


def _options(build: Mapping[str, Any]) -> list[str]:
    words: list[str] = []
    for key, value in build.items():
        option = f"--{key.replace('_', '-')}"
        if key in ("docs", "seed", "out", "annotations", "images", "allow_fewer", "plan_only", "embed"):
            raise UserError(f"data: build: {key} is not the study's to say: leave it out")
        for one in value if isinstance(value, list) else [value]:
            if one is True:
                words.append(option)
            elif one is not False and one is not None:
                words += [option, str(one)]
    return words


def _sweep_file(study: Study, sweep: str | Mapping[str, Any]) -> str:
    """A sweep as `mimic sweep` takes it: a ready-made name or a file."""
    if isinstance(sweep, str):
        beside = None if study.path is None else study.path.parent / sweep
        return str(beside.resolve()) if beside is not None and beside.is_file() else sweep
    import yaml

    text = yaml.safe_dump(dict(sweep), sort_keys=False)
    path = _root() / f"sweep-{hashlib.sha256(text.encode()).hexdigest()[:12]}.yaml"
    if not path.is_file():
        from mimic_eval.records.folders import write_atomically

        write_atomically(path, text.encode())
    return str(path)


def _run(words: Sequence[str], study: Study) -> None:
    """A command of `mimic` in this process; what it prints is no result of this one."""
    import typer

    from mimic_eval.cli.commands import app

    try:
        with contextlib.redirect_stdout(sys.stderr):
            app(list(words), standalone_mode=False)
    except typer.TyperException as error:
        raise UserError(f"{study.id}, data: {error.format_message()}") from error
    except UserError as error:
        raise UserError(f"{study.id}, data: {error}") from error


def _digest(command: Sequence[str]) -> str:
    """Of a command and the state of the files that it names."""
    parts: list[Any] = []
    for word in command:
        path = Path(word)
        parts.append(word)
        if path.is_file():
            parts += [path.stat().st_size, path.stat().st_mtime_ns]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def _root() -> Path:
    from model_adapters.disk import cache_root

    return cache_root() / "studies"


def _shortages(folder: Path) -> list[str]:
    from mimic_eval.records.reading import read_json

    tasks = read_json(folder / "manifest.json").get("tasks", {})
    return [task["shortage"] for task in tasks.values() if task.get("shortage")]
