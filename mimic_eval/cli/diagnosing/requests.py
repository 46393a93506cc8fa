"""The requests of lmms-eval's tasks, as a run of `lmms_eval` makes them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimic_eval.cli.lmms.outcome import cause, given_up
from mimic_eval.cli.lmms.wrappers import folders, leave_stops_out, libyaml, only_ours
from mimic_eval.records import UserError

if TYPE_CHECKING:
    from lmms_eval.api.instance import Instance

    from model_adapters.adapter import MaskedModel


_UNREACHABLE = (ValueError, KeyError, OSError, ImportError)
"""What a task's data raise that cannot be loaded; upstream tries again, and names the last of them."""


@contextmanager
def loaded_tasks(model: str, tasks: str, include_path: Path | None) -> Iterator[dict[str, Any]]:
    """Upstream's task objects by name, with their data; entered until all docs are read.

    Args:
        model: its name, to which upstream's tasks may fit their prompts.
        tasks: as `--tasks` has them; `check_tasks` has seen them.
        include_path: a folder of further tasks, or None.

    Raises:
        UserError: an unknown task, data out of reach, or a task that is not answered by generation.
    """
    from lmms_eval.tasks import TaskManager, get_task_dict

    from mimic_tasks.dataset_cache import keyed_by_content

    given = None if include_path is None else str(include_path)
    with folders(given) as paths, keyed_by_content(), libyaml():
        ours = only_ours(tasks, given)
        manager = TaskManager(include_path=paths, include_defaults=not ours, model_name=model)
        names = _matching(tasks, manager)
        try:
            found = dict(_leaves(get_task_dict(names, manager, "chat")))
        except Exception as error:
            reason = given_up(error)
            if isinstance(reason, UserError):
                raise reason from error
            if not isinstance(reason, _UNREACHABLE):
                raise
            raise UserError(f"--tasks {tasks}: {cause(error)}") from error
        for name, task in found.items():
            if task.OUTPUT_TYPE != "generate_until":
                raise UserError(f"{name} is not answered by generation: leave it out")
        yield found


def requests_for(model: "MaskedModel", tasks: Mapping[str, Any], *, docs: int) -> list["Instance"]:
    """The requests of the first docs of each task, which the model then knows.

    Args:
        model: answers them.
        tasks: from `loaded_tasks`, changed in place.
        docs: the most of each task.
    """
    requests = []
    for name, task in tasks.items():
        leave_stops_out(task)
        task.set_config(key="num_fewshot", value=0)
        model.task_dict[name] = task.dataset
        task.build_all_requests(limit=docs, rank=0, world_size=1)
        requests += task.instances
    return requests


def _matching(tasks: str, manager: Any) -> list[str]:
    names = []
    for name in tasks.split(","):
        matching = manager.match_tasks([name])
        if not matching:
            raise UserError(f"unknown task '{name}': `lmms_eval tasks` lists them, `mimic tasks list` ours")
        names += matching
    return list(dict.fromkeys(names))


def _leaves(tasks: Any) -> Iterator[tuple[str, Any]]:
    """The tasks in groups and subgroups."""
    for name, task in tasks.items():
        if isinstance(task, dict):
            yield from _leaves(task)
        elif isinstance(task, Sequence):
            yield name, task[1]
        elif task is not None:
            yield name, task
