"""Records that travel between rooms: the doc's schema and hash, the unscored answer, a user's mistake.

This package imports nothing of ours and nothing heavy, so every room may import it.
"""

from mimic_eval.records.doc import CONTROL_COLUMNS, DOC_COLUMNS, TASK_KINDS, Box, content_hash
from mimic_eval.records.errors import UserError, check_integer, nearest
from mimic_eval.records.marks import (
    IMAGE_MARK,
    MARK_RULES,
    Interleaved,
    count_marks,
    interleaved,
    without_marks,
)
from mimic_eval.records.order import ORDERS, image_order, order_text, parse_order, reordered
from mimic_eval.records.over_orders import ORDER_COLUMNS, OVER_ORDERS, doc_means
from mimic_eval.records.pixels import rgb_digest
from mimic_eval.records.run import (
    INTERVENTIONS,
    RUN_SETTINGS,
    announce_cached,
    announce_effects,
    announce_run,
    announce_system_instruction,
    announce_work,
    announced_cached,
    announced_effects,
    announced_run,
    announced_system_instruction,
    announced_work,
    extend_run,
)
from mimic_eval.records.sample import METRICS, UNSCORED, Item, Ordering, Sample, read_samples
from mimic_eval.records.tasks import (
    BENCHMARK_MEASURES,
    INTERLEAVED,
    ORDER_SUITE,
    TASKS,
    Positional,
    benchmark_of,
    groups_of,
    is_positional,
    measure_name,
    positional_of,
    task_kinds,
)
from mimic_eval.records.unscored import Unscorable, unscored_reason, unscored_response

__all__ = [
    "BENCHMARK_MEASURES",
    "CONTROL_COLUMNS",
    "DOC_COLUMNS",
    "IMAGE_MARK",
    "INTERLEAVED",
    "INTERVENTIONS",
    "MARK_RULES",
    "METRICS",
    "ORDERS",
    "ORDER_COLUMNS",
    "ORDER_SUITE",
    "OVER_ORDERS",
    "RUN_SETTINGS",
    "TASKS",
    "TASK_KINDS",
    "UNSCORED",
    "Box",
    "Interleaved",
    "Item",
    "Ordering",
    "Positional",
    "Sample",
    "Unscorable",
    "UserError",
    "announce_cached",
    "announce_effects",
    "announce_run",
    "announce_system_instruction",
    "announce_work",
    "announced_cached",
    "announced_effects",
    "announced_run",
    "announced_system_instruction",
    "announced_work",
    "benchmark_of",
    "check_integer",
    "content_hash",
    "count_marks",
    "doc_means",
    "extend_run",
    "groups_of",
    "image_order",
    "interleaved",
    "is_positional",
    "measure_name",
    "nearest",
    "order_text",
    "parse_order",
    "positional_of",
    "read_samples",
    "reordered",
    "rgb_digest",
    "task_kinds",
    "unscored_reason",
    "unscored_response",
    "without_marks",
]
