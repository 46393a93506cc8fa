"""Which images make which doc: one planner for each task, and the loop that draws docs from it."""

from mimic_tasks.planning.base import PlannedDoc
from mimic_tasks.planning.controls import (
    DEFAULT_TOTAL,
    MAX_CONFUSABLE,
    MAX_SIZE,
    MAX_TOTAL,
    SPLITS,
    Controls,
    Range,
    parse_range,
)
from mimic_tasks.planning.plan import TaskPlan, best_constant, plan_task

__all__ = [
    "DEFAULT_TOTAL",
    "MAX_CONFUSABLE",
    "MAX_SIZE",
    "MAX_TOTAL",
    "SPLITS",
    "Controls",
    "PlannedDoc",
    "Range",
    "TaskPlan",
    "best_constant",
    "parse_range",
    "plan_task",
]
