"""The kinds of tasks that are known here: MIMIC's four, and those that other modules and packages add.

A kind is one module `mimic_tasks/specs/<name>.py` with a `SPEC` (`mimic_tasks.task_spec.TaskSpec`), or such a
module of another installed package that names it in the entry-point group ``mimic_eval.tasks``. Nothing is
imported before a kind is used, so rooms that must not import `mimic_tasks` can ask for a kind's facts here.
"""

import re
from collections.abc import Sequence
from importlib.util import find_spec
from pkgutil import iter_modules

from mimic_eval.records.doc import TASK_KINDS
from mimic_eval.records.registry import Registry

GROUP = "mimic_eval.tasks"
"""Entry points: ``name = package.module:SPEC``."""


INTERLEAVED = "_interleaved"
"""The end of the name of a benchmark's task that shows images at their marks."""

BENCHMARK_MEASURES = {
    "muirbench": "binary",
    "mirb": "binary",
    "blink": "binary",
    "libench": "graded",
    "mantis": "binary",
    "mmt_mi": "binary",
    "mmiu": "binary",
    "mibench": "binary",
}
"""Public benchmarks that have a task here (`mimic_tasks.benchmarks`), and what their scores are."""


def benchmark_of(task: str) -> str | None:
    """The public benchmark of a task (``mimic_muirbench_interleaved``: muirbench); None for another task."""
    name = re.sub(rf"({INTERLEAVED}|_permuted_(images|options|references))$", "", task.removeprefix("mimic_"))
    return name if task.startswith("mimic_") and name in BENCHMARK_MEASURES else None


def task_targets(folders: Sequence[str]) -> dict[str, str]:
    """Name -> ``mimic_tasks.specs.name:SPEC`` of each module of some folders; MIMIC's four come first."""
    names = sorted(module.name for module in iter_modules(folders) if not module.name.startswith("_"))
    ordered = (*TASK_KINDS, *(name for name in names if name not in TASK_KINDS))
    return {name: f"mimic_tasks.specs.{name}:SPEC" for name in ordered}


def _folders() -> list[str]:
    found = find_spec("mimic_tasks")
    return [f"{folder}/specs" for folder in (found and found.submodule_search_locations) or ()]


TASKS = Registry("task", task_targets(_folders()), group=GROUP)


def task_kinds() -> tuple[str, ...]:
    """All known kinds: MIMIC's four in their usual order, then others by name."""
    return (*TASK_KINDS, *(name for name in TASKS if name not in TASK_KINDS))


def measure_name(kind: str) -> str:
    """What scores of a kind or benchmark are: ``binary`` (also if unknown), ``graded`` or ``corpus_f1``."""
    if kind in BENCHMARK_MEASURES:
        return BENCHMARK_MEASURES[kind]
    return str(TASKS.get(kind).measure) if kind in TASKS else "binary"
