"""Which task folder a run uses: `MIMIC_DATA` if set, else the embedded one, never a mixture (METHODS 13)."""

import os
from dataclasses import dataclass
from pathlib import Path

from mimic_eval.records import TASKS, UserError, groups_of

VARIABLE = "MIMIC_DATA"
PATTERN_CHARACTERS = "*?[]{}"
"""Characters that `datasets` reads as patterns in a data file's path."""

_HERE = Path(__file__).resolve().parent
EMBEDDED = _HERE / "embedded"
OFFICIAL = _HERE / "official"
PERMUTED = _HERE / "permuted"
PERMUTED_SUFFIX = "_permuted"


@dataclass(frozen=True)
class TaskFolder:
    """A folder of lmms-eval tasks: its path, a label for people, and the names it defines."""

    path: Path
    label: str
    tasks: tuple[str, ...]

    @property
    def permuted(self) -> tuple[str, ...]:
        """The permuted task of each of its tasks, and their groups."""
        names = [task.removeprefix("mimic_") for task in self.tasks if not task.endswith(PERMUTED_SUFFIX)]
        plain = [name for name in names if name.split("_")[0] in TASKS]
        return (*groups_of(plain, PERMUTED_SUFFIX), *(f"mimic_{name}{PERMUTED_SUFFIX}" for name in plain))


def task_folder() -> TaskFolder:
    """The folder of the mimic_* tasks that applies now.

    Raises:
        UserError: `MIMIC_DATA` names no folder, or one without tasks.
    """
    given = os.environ.get(VARIABLE)
    if not given:
        return TaskFolder(EMBEDDED, "embedded", _tasks(EMBEDDED))
    path = Path(os.path.abspath(os.path.expanduser(given)))
    if not os.path.isdir(path):
        raise UserError(f"{VARIABLE}={given:.200}: no such folder; unset it to use the embedded data")
    if set(PATTERN_CHARACTERS) & set(str(path)):
        raise UserError(
            f"{VARIABLE}={given}: datasets reads {PATTERN_CHARACTERS} in a path as patterns; rename it"
        )
    if not os.access(path, os.R_OK | os.X_OK):
        raise UserError(f"{VARIABLE}={given}: the folder may not be read")
    tasks = _tasks(path)
    if not tasks:
        raise UserError(
            f"{VARIABLE}={given} holds no mimic_*.yaml task; make one with: mimic build --out FOLDER"
        )
    return TaskFolder(path, VARIABLE, tasks)


def official_folder() -> TaskFolder:
    """The packaged tasks that read the official data from the Hub."""
    return TaskFolder(OFFICIAL, "official", _tasks(OFFICIAL))


def _tasks(path: Path) -> tuple[str, ...]:
    """Task and group names: a task's file is called like the task (`mimic.yaml` is the group)."""
    return tuple(sorted(file.stem for file in path.glob("mimic*.yaml")))
