"""Sweeps: a grid of cells over the benchmark's controls, built as one task, with a balance report."""

from mimic_tasks.sweeps.spec import Sweep, SweepCell, packaged, parse_sweep, read_sweep

__all__ = ["Sweep", "SweepCell", "packaged", "parse_sweep", "read_sweep"]
