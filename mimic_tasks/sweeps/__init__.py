"""Sweeps: a grid of cells over the benchmark's controls, built as one task, balanced and said to be so."""

from mimic_tasks.sweeps.spec import Cell, Sweep, packaged, parse_sweep, read_sweep

__all__ = ["Cell", "Sweep", "packaged", "parse_sweep", "read_sweep"]
