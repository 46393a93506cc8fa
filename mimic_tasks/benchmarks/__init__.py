"""Public multi-image benchmarks as tasks: in upstream's form and with images at their marks (METHODS 15)."""

from mimic_tasks.benchmarks.sets import BENCHMARKS
from mimic_tasks.benchmarks.spec import Benchmark, Question

__all__ = ["BENCHMARKS", "Benchmark", "Question"]
