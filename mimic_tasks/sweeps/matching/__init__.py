"""Drawing a sweep: matched sets, one doc in each cell, so that nothing moves but what the sweep varies."""

from mimic_tasks.sweeps.matching.plan import SweepPlan, plan_sweep

__all__ = ["SweepPlan", "plan_sweep"]
