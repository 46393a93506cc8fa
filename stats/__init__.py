"""Statistics: intervals for proportions and for the corpus F1 (METHODS 9). Imports nothing of ours."""

from stats.bootstrap import F1, F1Interval, f1_from_counts, micro_f1
from stats.proportions import Interval, clopper_pearson, rule_of_three, wilson

__all__ = [
    "F1",
    "F1Interval",
    "Interval",
    "clopper_pearson",
    "f1_from_counts",
    "micro_f1",
    "rule_of_three",
    "wilson",
]
