"""The cells of a study: one run each, of one model under one setting."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from mimic_eval.records import UserError
from mimic_eval.studies.fields import Value, argument_text
from mimic_eval.studies.spec import Setting, Study

BASE = "base"
"""The name of the entry that `--model` and `--pretrained` make."""

_LONGEST = 120


@dataclass(frozen=True)
class Entry:
    """A model that a study runs on.

    Attributes:
        name: ``base``, or one of the study's `entries`, or any other.
        model: of lmms_eval.
        model_args: its checkpoint, and what else all its cells have.
    """

    name: str
    model: str
    model_args: Mapping[str, Value]


@dataclass(frozen=True)
class Cell:
    """One run.

    Attributes:
        name: of its folder, unique in the study.
        entry: the model.
        setting: the setting's name.
        measure: ``scores`` (a run of `lmms_eval`) or ``attention`` (of `mimic diagnose`).
        order: of ``order=``.
        values: of the arguments that vary.
        tasks: of lmms-eval.
        model_args: all of `--model_args`: the entry's, the setting's, those that vary, the order.
    """

    name: str
    entry: Entry
    setting: str
    measure: str
    order: str
    values: Mapping[str, Value]
    tasks: tuple[str, ...]
    model_args: Mapping[str, Value]

    @property
    def arguments(self) -> str:
        """``--model_args`` as text."""
        return ",".join(f"{key}={argument_text(value)}" for key, value in self.model_args.items())


def make_cells(study: Study, entries: Sequence[Entry]) -> list[Cell]:
    """All cells, entry by entry: a setting without an entry runs on each that the study has no name for.

    Raises:
        UserError: two entries of one name, an argument that entry and setting both give, or no cell.
    """
    names = [entry.name for entry in entries]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two entries are called {name}: give each --entry its own name")
    cells: dict[str, Cell] = {}
    for entry in entries:
        for setting in study.settings:
            if entry.name == setting.entry or (setting.entry is None and entry.name not in study.entries):
                for cell in _of_setting(study, entry, setting):
                    if cell.name in cells:
                        raise UserError(f"two cells are called {cell.name}: rename a setting or an entry")
                    cells[cell.name] = cell
    if not cells:
        raise UserError(f"{study.id} has no setting for the entries {', '.join(names) or '(none)'}")
    return list(cells.values())


def _of_setting(study: Study, entry: Entry, setting: Setting) -> list[Cell]:
    twice = sorted(set(entry.model_args) & {*setting.model_args, *setting.vary})
    if twice:
        raise UserError(
            f"{twice[0]} is set by setting {setting.name} of {study.id}: leave it out of the model "
            f"arguments of {entry.name}"
        )
    cells = []
    for measure, order in product(setting.measure, setting.orders):
        for combination in product(*setting.vary.values()):
            values = dict(zip(setting.vary, combination, strict=True))
            parts = [entry.name, setting.name]
            parts += [f"{key}={argument_text(value)}" for key, value in values.items()]
            parts += [order] if len(setting.orders) > 1 else []
            parts += [measure] if len(setting.measure) > 1 else []
            model_args = {**entry.model_args, **setting.model_args, **values}
            if order != "fixed":
                model_args["order"] = order
            cells.append(
                Cell(
                    _folder_name(parts),
                    entry,
                    setting.name,
                    measure,
                    order,
                    values,
                    setting.tasks,
                    model_args,
                )
            )
    return cells


def _folder_name(parts: Sequence[str]) -> str:
    return re.sub(r"[^A-Za-z0-9._=+-]", "_", "--".join(parts))[:_LONGEST]
