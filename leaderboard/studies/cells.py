"""The finished cells of a study with their runs, and what each is called."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from leaderboard.arms import Arm, read_arm
from leaderboard.diagnosis.reading import Diagnosis, read_diagnosis
from leaderboard.diagnosis.shown import Shown, read_shown
from leaderboard.labels import checkpoint_label, setting_label
from leaderboard.runs import Run, is_mimic, read_runs
from mimic_eval.studies.fields import argument_text
from mimic_eval.studies.outputs import Output
from mimic_eval.studies.results import CellResult, StudyResult

BASE = "base"
"""The name of the entry that `--model` and `--pretrained` make."""


@dataclass(frozen=True)
class FinishedCell:
    """A cell that was run.

    Attributes:
        cell: its record.
        label: what tells it from the study's other cells.
    """

    cell: CellResult
    label: str

    @cached_property
    def run(self) -> Run:
        """The newest run in its folder."""
        return read_runs(self.cell.folder)[-1]

    @cached_property
    def arm(self) -> Arm:
        """Its runs for a comparison."""
        return read_arm(self.cell.folder)

    @cached_property
    def shown(self) -> Shown:
        """Its diagnosis as it was summarised."""
        return read_shown(self.cell.folder)

    @cached_property
    def diagnosis(self) -> Diagnosis:
        """The numbers of its docs."""
        return read_diagnosis(self.cell.folder)

    @property
    def scored(self) -> bool:
        """Whether it is a run of `lmms_eval`, and no diagnosis."""
        return self.cell.measure == "scores"

    @property
    def settings(self) -> Mapping[str, Any]:
        """What the model announced of itself."""
        return self.cell.run or (self.run.settings if self.scored else {})

    @property
    def checkpoint(self) -> str:
        """As in every table; without a record, as it was given."""
        given = self.cell.model_args.get("pretrained", "the embedded checkpoint")
        return checkpoint_label(self.settings) if self.settings else f"{given}"

    @property
    def model(self) -> str:
        """lmms-eval's model name, checkpoint and intervention."""
        setting = [setting_label(self.settings)] if self.settings else []
        return ", ".join([self.cell.model, self.checkpoint, *setting])

    def tasks_of(self, output: Output) -> list[str]:
        """Its tasks that an output shows."""
        names = list(self.run.results["results"]) if self.scored else list(self.cell.tasks)
        names = [name for name in names if not self.scored or is_mimic(name) or name in self.cell.tasks]
        return [name for name in names if not output.tasks or name in output.tasks]


def finished_cells(result: StudyResult) -> list[FinishedCell]:
    """The finished cells, each with a label of its own."""
    several = len({cell.entry for cell in result.cells if _free(result, cell)}) > 1
    orders = len({cell.order for cell in result.cells}) > 1
    return [FinishedCell(cell, _label(result, cell, several, orders)) for cell in result.cells]


def _free(result: StudyResult, cell: CellResult) -> bool:
    """Whether its setting runs on every model that is given."""
    return all(setting.entry is None for setting in result.study.settings if setting.name == cell.setting)


def _label(result: StudyResult, cell: CellResult, several: bool, orders: bool) -> str:
    parts = [f"{cell.entry}: {cell.setting}" if several and _free(result, cell) else cell.setting]
    parts += [f"{key} {argument_text(value)}" for key, value in cell.values.items()]
    parts += [cell.order] if orders else []
    return ", ".join(parts)


def chosen(cells: Sequence[FinishedCell], output: Output) -> list[FinishedCell]:
    """The cells that an output shows: diagnoses for ``attention`` and ``maps``, runs for the others."""
    measured = output.kind in ("attention", "maps")
    return [
        one
        for one in cells
        if one.scored != measured
        if not output.settings or one.cell.setting in output.settings
    ]


def groups(
    cells: Sequence[FinishedCell], reference: str | None
) -> list[tuple[FinishedCell, list[FinishedCell]]]:
    """The cells to be compared with each cell of the reference setting.

    A cell is compared with the reference of its own model, tasks and image order; a model without one (an
    adapter of the user) with that of the first model.
    """
    if not cells:
        return []
    name = reference or cells[0].cell.setting
    bases = [one for one in cells if one.cell.setting == name]
    found: dict[str, tuple[FinishedCell, list[FinishedCell]]] = {base.cell.name: (base, []) for base in bases}
    for one in cells:
        if one.cell.setting == name:
            continue
        alike = [base for base in bases if base.cell.order == one.cell.order]
        own = [base for base in alike if base.cell.entry == one.cell.entry] or alike
        own = [base for base in own if base.cell.values == one.cell.values] or own
        if own:
            found[own[0].cell.name][1].append(one)
    return [(base, others) for base, others in found.values() if others]


def maps_of(cell: FinishedCell) -> list[Path]:
    """The pictures of attention in a diagnosis."""
    return sorted((cell.cell.folder / "maps").glob("*.png"))
