"""The kinds of tasks that are known here: MIMIC's four, and those that other modules and packages add.

A kind is one module `mimic_tasks/specs/<name>.py` with a `SPEC` (`mimic_tasks.task_spec.TaskSpec`), or such a
module of another installed package that names it in the entry-point group ``mimic_eval.tasks``. Nothing is
imported before a kind is used, so rooms that must not import `mimic_tasks` can ask for a kind's facts here.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pkgutil import iter_modules

from mimic_eval.records.doc import TASK_KINDS
from mimic_eval.records.registry import Registry

GROUP = "mimic_eval.tasks"
"""Entry points: ``name = package.module:SPEC``."""

ORDER_SUITE = ("pqa", "retrieval")
"""The kinds whose answers name images by their position (METHODS 16.1), beside MIMIC's four."""

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


@dataclass(frozen=True)
class Positional:
    """How the answers of a kind follow the order of a doc's images (METHODS 16.1).

    Attributes:
        in_order: an answer in the truth's form, for the same images in another order. Arguments: the answer
            for images 0..n-1, and a permutation of 0..n-1 whose entry m is the image that comes m-th.
        named: the positions, from 0, of the images that a truth names, ascending.
        constant: the mean score of the best answer that is the same for all docs of n images. Arguments: the
            truths of each doc, one for each of its orders.
    """

    in_order: Callable[[str, Sequence[int]], str]
    named: Callable[[str], tuple[int, ...]]
    constant: Callable[[Sequence[Sequence[str]]], float]

    def as_stored(self, answer: str, order: Sequence[int]) -> str:
        """An answer for images that were put in an order, for the images as they are stored."""
        inverse = sorted(range(len(order)), key=order.__getitem__)
        return self.in_order(answer, inverse)


def groups_of(names: Sequence[str], suffix: str = "") -> dict[str, tuple[str, ...]]:
    """The groups of a folder's tasks: ``mimic`` and, of the order suite, ``mimic_order``.

    A folder that holds the order suite alone has it in both.

    Args:
        names: of the tasks, without ``mimic_``; sweeps are called like their kind and more.
        suffix: of the groups' and tasks' names, for tasks made from others.
    """
    suite = [name for name in names if name.split("_")[0] in ORDER_SUITE]
    others = [name for name in names if name not in suite]
    groups = {"mimic": others or suite, "mimic_order": suite}
    return {
        f"{group}{suffix}": tuple(f"mimic_{name}{suffix}" for name in members)
        for group, members in groups.items()
        if members
    }


def positional_of(kind: str) -> Positional | None:
    """How the truth of a kind follows the images' order; None if it does not depend on it, or is unknown."""
    positional: Positional | None = TASKS.get(kind).positional if kind in TASKS else None
    return positional


def is_positional(task: str) -> bool:
    """Whether the answers of a task, or of docs with this `task` column, name images by their position."""
    return positional_of(task.removeprefix("mimic_").split("_")[0]) is not None


def measure_name(kind: str) -> str:
    """What scores of a kind or benchmark are: ``binary`` (also if unknown), ``graded`` or ``corpus_f1``."""
    if kind in BENCHMARK_MEASURES:
        return BENCHMARK_MEASURES[kind]
    return str(TASKS.get(kind).measure) if kind in TASKS else "binary"
