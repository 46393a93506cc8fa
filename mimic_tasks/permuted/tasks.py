"""The task files of the permuted tasks: the plain tasks' files, with their functions exchanged."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mimic_eval.records import UserError, groups_of
from mimic_tasks.folder import HOOKS, dump_yaml, parquet_path, read_task_yaml
from mimic_tasks.lmms_hooks import POSITION_RSD, Function
from mimic_tasks.locate import EMBEDDED, PERMUTED, PERMUTED_SUFFIX, TaskFolder
from mimic_tasks.permuted.hooks import metric_name
from mimic_tasks.permuted.orders import orders_from_environment
from mimic_tasks.stored_docs import read_docs, task_kind

_OURS = "mimic_tasks.permuted.hooks"
_PLAIN = "mimic_tasks.lmms_hooks"
_HOOKS_CODE = """\
\"\"\"What lmms-eval calls for permuted tasks whose docs name their pictures, in the row's order.\"\"\"

from pathlib import Path

from mimic_tasks.lmms_hooks import hooks_of

doc_to_visual, doc_to_messages = hooks_of(Path({folder!r}))
"""


def permuted_config(plain: Mapping[str, Any], *, folder: Path, packaged: bool = False) -> dict[str, Any]:
    """The permuted task of a plain one, with its prompts, its data and its generation settings.

    Args:
        plain: the plain task's file.
        folder: where that lies.
        packaged: the data's path is given relative to this package's folder.
    """
    name = plain["task"].removeprefix("mimic_")
    file = folder / plain["dataset_kwargs"]["data_files"]["test"]
    path = Path(os.path.relpath(file, PERMUTED)).as_posix() if packaged else str(file)
    expand = "expand_embedded" if packaged else "expand"
    exchanged = {
        key: _exchanged(plain[key]) for key in ("doc_to_visual", "doc_to_messages", "process_results")
    }
    names = [entry["metric"] for entry in plain["metric_list"] if entry["metric"] != "unscored"]
    metrics = {
        metric_name(metric): ("aggregate_over_orders", True) for metric in names if metric != POSITION_RSD
    }
    if POSITION_RSD in names:
        metrics[POSITION_RSD] = ("aggregate_position_rsd", False)
    metrics |= {"docs": ("aggregate_docs", True), "unscored": ("aggregate_unscored", False)}
    return {
        **plain,
        **exchanged,
        "process_docs": Function(f"{_OURS}.{expand}"),
        "metric_list": [
            {"metric": metric, "aggregation": Function(f"{_OURS}.{function}"), "higher_is_better": higher}
            for metric, (function, higher) in metrics.items()
        ],
        "generation_kwargs": {
            **plain["generation_kwargs"],
            "until": plain["generation_kwargs"].get("until", []),
        },
        "cluster_key": "doc",  # for the standard errors of upstream
        "task": f"mimic_{name}{PERMUTED_SUFFIX}",
        "dataset_kwargs": {"data_files": {"test": path}},
        "metadata": {key: value for key, value in plain["metadata"].items() if key != "sweep"},
    }


def _exchanged(function: str) -> Function:
    """Ours for the plain task's function; the folder's hooks, which read names, are written again."""
    return Function(function.replace(f"{_PLAIN}.", f"{_OURS}."))


def write_tasks(out: Path, folder: Path, *, packaged: bool = False) -> tuple[str, ...]:
    """Write the permuted task of each plain one in `folder`, and their groups.

    Returns:
        The tasks' names. Files that are not in the form of `mimic build` are passed over.
    """
    names = []
    for file in sorted(folder.glob("mimic_*.yaml")):
        plain = _read(file)
        if plain is None or file.stem.endswith(PERMUTED_SUFFIX):
            continue
        config = permuted_config(plain, folder=folder, packaged=packaged)
        (out / f"{config['task']}.yaml").write_text(dump_yaml(config), encoding="utf-8")
        names.append(config["task"])
        if plain["doc_to_visual"].startswith(f"{HOOKS}."):
            (out / f"{HOOKS}.py").write_text(_HOOKS_CODE.format(folder=str(folder)), encoding="utf-8")
    plain_names = [name.removeprefix("mimic_").removesuffix(PERMUTED_SUFFIX) for name in names]
    for group, members in groups_of(plain_names, PERMUTED_SUFFIX).items():
        config = {"group": group, "task": list(members)}
        (out / f"{group}.yaml").write_text(dump_yaml(config), encoding="utf-8")
    return tuple(names)


def _read(file: Path) -> dict[str, Any] | None:
    """A task file of ours, its functions by name; None for another."""
    try:
        config = read_task_yaml(file)
    except UserError:
        return None
    plain_hook = config.get("process_docs") == f"{_PLAIN}.keep_bytes"
    needed = {"task", "metric_list", "metadata", "doc_to_visual", "process_results", "generation_kwargs"}
    complete = plain_hook and needed <= config.keys()
    return config if complete and config.get("dataset_path") == "parquet" else None


@contextmanager
def permuted_folder(folder: TaskFolder) -> Iterator[Path]:
    """A folder with the permuted tasks of the task folder that applies: the packaged one, or made for it."""
    if folder.path == EMBEDDED:
        yield PERMUTED
        return
    with tempfile.TemporaryDirectory(prefix="mimic_permuted_") as made:
        write_tasks(Path(made), folder.path)
        yield Path(made)


def check_orders(folder: TaskFolder, tasks: list[str]) -> None:
    """What can be seen wrong before a model is loaded.

    Args:
        folder: that applies.
        tasks: the permuted tasks and groups of them that a run requests; if there are none, nothing is
            checked.

    Raises:
        UserError: `MIMIC_ORDERS` or `MIMIC_SEED` is wrong, or a doc has too many images for the rule.
    """
    if not tasks:
        return
    orders = orders_from_environment()
    if orders.rule != "all":
        return
    groups = [task for task in tasks if not task_kind(task.removeprefix("mimic_"))]
    requested = folder.permuted if groups else tasks
    for task in requested:
        name = task.removeprefix("mimic_").removesuffix(PERMUTED_SUFFIX)
        file = folder.path / parquet_path(name)
        if not task_kind(name) or not file.is_file():
            continue
        for number, doc in enumerate(read_docs(file, ("boxes",))):  # one entry for each image
            orders.check(len(doc["boxes"] or ()), f"doc {number} of mimic_{name} in {folder.path}")
