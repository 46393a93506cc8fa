"""The requests of lmms-eval's tasks, as a run of `lmms_eval` makes them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimic_eval.cli.lmms.outcome import cause
from mimic_eval.cli.lmms.wrappers import folders, leave_stops_out, only_ours
from mimic_eval.records import UserError

if TYPE_CHECKING:
    from lmms_eval.api.instance import Instance

    from model_adapters.adapter import MaskedModel


@contextmanager
def requests_of(
    model: "MaskedModel", name: str, tasks: str, *, docs: int, include_path: Path | None
) -> Iterator[list["Instance"]]:
    """The requests of the first docs of each task; the model knows the docs while it is entered.

    Args:
        model: answers them.
        name: of the model.
        tasks: as `--tasks` has them; `check_tasks` has seen them.
        docs: the most of each task.
        include_path: a folder of further tasks, or None.

    Raises:
        UserError: an unknown task, or one that is not answered by generation.
    """
    from lmms_eval.tasks import TaskManager, get_task_dict

    from mimic_tasks.dataset_cache import keyed_by_content

    given = None if include_path is None else str(include_path)
    with folders(given) as paths, keyed_by_content():
        ours = only_ours(tasks, given)
        manager = TaskManager(include_path=paths, include_defaults=not ours, model_name=name)
        names = _matching(tasks, manager)
        try:
            found = dict(_leaves(get_task_dict(names, manager, "chat")))
        except (ValueError, KeyError, OSError, ConnectionError) as error:
            raise UserError(f"--tasks {tasks}: {cause(error)}") from error
        requests = []
        for task_name, task in found.items():
            if task.OUTPUT_TYPE != "generate_until":
                raise UserError(f"{task_name} is not answered by generation: leave it out")
            leave_stops_out(task)
            model.task_dict[task_name] = task.dataset
            task.set_config(key="num_fewshot", value=0)
            task.build_all_requests(limit=docs, rank=0, world_size=1)
            requests += task.instances
        yield requests


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
