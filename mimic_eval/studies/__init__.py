"""Studies: a figure or table of a paper as a grid of runs (METHODS 17): the file's form and the results'.

This package imports nothing of ours but the records, and nothing heavy: `mimic reproduce` runs a study, and
the leaderboard draws it.
"""

from mimic_eval.studies.cells import BASE, Cell, Entry, make_cells
from mimic_eval.studies.outputs import Column, Output, Reported, ReportedRow
from mimic_eval.studies.results import CellResult, Cost, StudyResult, load_results
from mimic_eval.studies.spec import Data, Setting, Study, packaged, parse_study, read_study

__all__ = [
    "BASE",
    "Cell",
    "CellResult",
    "Column",
    "Cost",
    "Data",
    "Entry",
    "Output",
    "Reported",
    "ReportedRow",
    "Setting",
    "Study",
    "StudyResult",
    "load_results",
    "make_cells",
    "packaged",
    "parse_study",
    "read_study",
]
