"""Tasks of lmms-eval that score docs only when they aggregate: their rule, applied to each doc.

SEED-Bench compares the first character of the answer with the truth. MMBench (`mmbench_en_dev_static`) asks a
question again with its options rotated and counts it as right if every rotation is: it becomes one row.
"""

import importlib.util
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from mimic_eval.records import UserError

_ROTATION = 1_000_000
"""MMBench's rotations of a question have its index plus a multiple of this."""
_MMBENCH = "gpt_eval_score"  # upstream's name, also where no judge is called

Row = Mapping[str, Any]


def scored_rows(task: str, rows: Sequence[Row], where: object) -> tuple[list[Row], bool]:
    """The samples of a task with a ``score`` in each metric that its aggregation would compute from them.

    Args:
        task: lmms-eval's name.
        rows: samples as logged, each doc once.
        where: their file, for messages.

    Returns:
        The rows, and whether several docs became one.

    Raises:
        UserError: a sample is not in the task's form.
    """
    rule = _RULES.get(task)
    if rule is None:
        return list(rows), False
    try:
        scored = rule(rows)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        fault = f"{type(error).__name__}: {error}"
        raise UserError(f"{where}: not in the form of {task}'s samples ({fault})") from error
    return scored, len(scored) < len(rows)


def _seedbench(rows: Sequence[Row]) -> list[Row]:
    """As `seed_aggregation_result`."""
    return [
        {
            name: {**entry, "score": float(entry["pred"].lower().strip() == entry["answer"].lower().strip())}
            if name.startswith("seed_")
            else entry
            for name, entry in row.items()
        }
        for row in rows
    ]


def _mmbench(rows: Sequence[Row]) -> list[Row]:
    """As `MMBench_Evaluator.eval_result` with ``eval_method="static"``; rotations without their question are
    left out, as there."""
    questions: defaultdict[int, list[Row]] = defaultdict(list)
    for row in rows:
        questions[int(row[_MMBENCH]["index"]) % _ROTATION].append(row)
    scored: list[Row] = []
    for index, rotations in questions.items():
        questioned = [row for row in rotations if row[_MMBENCH]["index"] == index]
        if questioned:
            right = all(_mmbench_right(row[_MMBENCH]) for row in rotations)
            scored.append({**questioned[0], _MMBENCH: {"score": float(right)}})
    return scored


def _mmbench_right(entry: Row) -> bool:
    """As `MMBench_Evaluator.eval_sub_data` for one rotation."""
    item = {**entry, "prediction": str(entry["prediction"])}
    evaluator = _upstream("mmbench/mmbench_evals").MMBench_Evaluator()
    letter = evaluator.prefetch_answer(item)
    if not letter:
        extract = _upstream("_task_utils/mcq_extract").extract_mcq_answer
        letter = extract(item["prediction"], choices=sorted(evaluator.build_choices(item)))
    return bool(letter == item["answer"])


@cache
def _upstream(name: str) -> Any:
    """A file of lmms-eval's tasks alone: to import it by its name imports all of lmms-eval (15 s)."""
    from loguru import logger

    package = importlib.util.find_spec("lmms_eval")
    if package is None or package.origin is None:
        raise UserError("lmms_eval is not installed: MMBench's answers are read by its functions")
    alias = f"mimic_upstream_{Path(name).name}"
    spec = importlib.util.spec_from_file_location(alias, Path(package.origin).parent / "tasks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    logger.disable(alias)  # it has a line for every answer with the word A
    spec.loader.exec_module(module)
    return module


_RULES: dict[str, Callable[[Sequence[Row]], list[Row]]] = {
    "seedbench": _seedbench,
    "seedbench_lite": _seedbench,
    "mmbench_en_dev_static": _mmbench,
}
