"""What `mimic reproduce` will run: the study, the models and the cells, checked before anything is loaded."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimic_eval.records import UserError, check_integer, nearest, task_kinds
from mimic_eval.studies import BASE, Cell, Data, Entry, Study, make_cells, read_study
from mimic_eval.studies.fields import Value

if TYPE_CHECKING:
    from mimic_tasks.source_files import SourceFiles

_OF_ANSWERS = ("batch_size", "journal")
"""Arguments that `mimic diagnose` does not have."""


@dataclass(frozen=True)
class Request:
    """What the user gave.

    Attributes:
        study: an id or a file.
        model: of lmms_eval.
        pretrained: the checkpoint of the first entry, or None for the packaged one.
        model_args: further arguments of all entries.
        entries: ``NAME:key=value,...``.
        docs: instead of the study's, or None.
        seed: instead of the study's, or None.
        shard: ``i/n``, or None.
        out: the results' folder, or None for a dry run.
        data: a task folder to use instead of what the study builds, or None.
        sources: annotated pictures to build from, or None: scenes.
        allow_fewer: build fewer docs where the data allow no more.
        leave_out: leave out cells that the model cannot run.
    """

    study: str
    model: str
    pretrained: str | None = None
    model_args: str = ""
    entries: tuple[str, ...] = ()
    docs: int | None = None
    seed: int | None = None
    shard: str | None = None
    out: Path | None = None
    data: Path | None = None
    sources: "SourceFiles | None" = None
    allow_fewer: bool = False
    leave_out: bool = False


@dataclass(frozen=True)
class Plan:
    """A study that can be run.

    Attributes:
        request: what the user gave.
        study: with the docs and the seed that apply.
        entries: the models.
        cells: all of them.
        mine: those of this shard.
        notes: one line for each thing that is left out.
    """

    request: Request
    study: Study
    entries: tuple[Entry, ...]
    cells: tuple[Cell, ...]
    mine: tuple[Cell, ...]
    notes: tuple[str, ...]

    @property
    def builds(self) -> bool:
        """Whether a task folder is built for it."""
        return self.study.data is not None and self.request.data is None

    @property
    def limit(self) -> int | None:
        """Docs of each task; None: all, where a sweep has been built with so many in each cell."""
        sweeps = self.study.data is not None and self.study.data.sweeps is not None
        return None if sweeps else self.study.docs


def make_plan(request: Request) -> Plan:
    """Read and check a study and what it is to run on.

    Raises:
        UserError: a wrong study, model, argument or cell; the message names it.
    """
    study = _with(read_study(request.study), request)
    entries = _entries(request)
    cells = _fitted(make_cells(study, entries), study)
    for cell in cells:
        try:
            options_of(cell)
            _check_cell(cell)
        except UserError as error:
            raise UserError(f"{study.id}, cell {cell.name}: {error}") from error
    given = {entry.name for entry in entries}
    notes = [
        f"setting {setting.name} is left out: it needs --entry {setting.entry}:key=value,... "
        f"({study.entries[setting.entry]})"
        for setting in study.settings
        if setting.entry is not None and setting.entry not in given
    ]
    return Plan(request, study, entries, tuple(cells), _shard(cells, request.shard), tuple(notes))


def options_of(cell: Cell) -> Any:
    """`AdapterOptions` of a cell.

    Raises:
        UserError: an argument that its mask does not have.
    """
    from model_adapters.options import AdapterOptions, parse_arg_string

    return AdapterOptions.parse(parse_arg_string(arguments_of(cell), {}))


def arguments_of(cell: Cell) -> str:
    """``--model_args`` of a cell as its command takes them."""
    if cell.measure == "scores":
        return cell.arguments
    left = {key: value for key, value in cell.model_args.items() if key not in _OF_ANSWERS}
    return replace(cell, model_args=left).arguments


def attention_options(cell: Cell, study: Study) -> dict[str, Any]:
    """The arguments of `mimic diagnose` for a cell: its sinks only where its mask needs none."""
    given = dict(study.attention)
    if options_of(cell).sinks is not None:
        given.pop("sinks", None)
    return given


def needs_sinks(cell: Cell) -> bool:
    """Whether its mask needs sinks from a calibration in the cache folder."""
    sinks = options_of(cell).sinks
    return sinks is not None and sinks.calibration is None and sinks.calibrate


def _with(study: Study, request: Request) -> Study:
    """The study with the docs and the seed that the user gave."""
    changed: dict[str, Any] = {}
    if request.docs is not None:
        changed["docs"] = check_integer("--docs", request.docs, least=1, most=1_000_000)
    if request.seed is not None:
        changed["seed"] = check_integer("--seed", request.seed, least=0, most=2**63 - 1)
    study = replace(study, **changed, source={**study.source, **changed})
    kinds = _plain_kinds(study)
    if study.data is None and (request.sources is not None or _lacks(kinds, request)):
        if not kinds:
            tasks = dict.fromkeys(task for setting in study.settings for task in setting.tasks)
            raise UserError(
                f"{study.id} runs {', '.join(tasks)}, which are not built: leave --annotations out"
            )
        build = {"task": kinds}
        study = replace(study, data=Data(None, build), source={**study.source, "data": {"build": build}})
    return study


def _lacks(kinds: Sequence[str], request: Request) -> bool:
    """Whether the embedded folder, which would be used, has not all these tasks: they are built then."""
    from mimic_tasks.locate import EMBEDDED, task_folder

    folder = task_folder()
    used = request.data is None and folder.path == EMBEDDED
    return used and not {f"mimic_{kind}" for kind in kinds} <= set(folder.tasks)


def _plain_kinds(study: Study) -> list[str]:
    """The kinds of tasks that `mimic build` makes, of a study that runs the task folder in use."""
    tasks = dict.fromkeys(task for setting in study.settings for task in setting.tasks)
    plain = [task.removesuffix("_permuted").removeprefix("mimic_") for task in tasks]
    return [kind for kind in task_kinds() if kind in plain]


def _fitted(cells: Sequence[Cell], study: Study) -> list[Cell]:
    """Cells without those arguments of their entry that their mask does not use and another cell's does.

    Raises:
        UserError: an unknown mask.
    """
    used = []
    for cell in cells:
        try:
            used.append(_used_by(cell))
        except UserError as error:
            raise UserError(f"{study.id}, cell {cell.name}: {error}") from error
    known = set().union(*used)
    return [
        replace(
            cell,
            model_args={
                key: value
                for key, value in cell.model_args.items()
                if key in of_cell or key not in known or key not in cell.entry.model_args
            },
        )
        for cell, of_cell in zip(cells, used, strict=True)
    ]


def _used_by(cell: Cell) -> set[str]:
    """The arguments that a cell's mask uses, with its source of relevance."""
    from model_adapters.arguments import Arguments
    from model_adapters.options import ModelOptions, argument_parts
    from model_adapters.providers import RelevanceOptions
    from model_adapters.relevance import parse_relevance

    chosen, needs = argument_parts(str(cell.model_args.get("mask", ModelOptions().mask)))
    parts: list[type[Arguments]] = [ModelOptions, chosen, *needs]
    names = {name for part in parts for name in part.arguments()}
    if RelevanceOptions in needs:
        choice = parse_relevance(str(cell.model_args.get("relevance", RelevanceOptions().relevance)))
        names -= RelevanceOptions.arguments().keys() - {"relevance", *choice.settings}
    return names


def _entries(request: Request) -> tuple[Entry, ...]:
    """The first model, and those of ``--entry``."""
    common = _pairs("--model-args", request.model_args)
    first: dict[str, Value] = {} if request.pretrained is None else {"pretrained": request.pretrained}
    entries = [_entry(BASE, request.model, first, common)]
    for given in request.entries:
        name, colon, text = given.partition(":")
        if not colon or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise UserError(f"--entry must read NAME:key=value,key=value, got '{given}'")
        if name == BASE:
            raise UserError(f"--entry {BASE}: is the model of --model and --pretrained: use another name")
        own = _pairs(f"--entry {name}", text)
        model = str(own.pop("model", request.model))
        inherited = first if model == request.model and "pretrained" not in own else {}
        entries.append(_entry(name, model, {**inherited, **own}, common))
    return tuple(entries)


def _entry(name: str, model: str, own: Mapping[str, Value], common: Mapping[str, Value]) -> Entry:
    from model_adapters.disk import check_checkpoint
    from model_adapters.families import lmms_models

    known = lmms_models()
    if model not in known:
        raise UserError(nearest("model", model, known))
    arguments = {**common, **own}
    for key in ("pretrained", "peft"):
        given = str(arguments.get(key, ""))
        if given and not given.startswith("embedded:"):
            check_checkpoint(key, given)
    return Entry(name, model, arguments)


def _pairs(option: str, text: str) -> dict[str, Value]:
    from model_adapters.options import parse_arg_string

    try:
        return parse_arg_string(text, {})
    except UserError as error:
        raise UserError(str(error).replace("--model_args", option)) from error


def _check_cell(cell: Cell) -> None:
    """What a cell of `mimic diagnose` cannot have."""
    if cell.measure == "attention":
        permuted = [task for task in cell.tasks if task.endswith("_permuted")]
        if permuted:
            raise UserError(f"measure: attention takes no permuted task ({permuted[0]}): use orders: instead")


def _shard(cells: Sequence[Cell], shard: str | None) -> tuple[Cell, ...]:
    """Every n-th cell, from the i-th."""
    if shard is None:
        return tuple(cells)
    number, slash, count = shard.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise UserError(f"--shard must read i/n with i within 1-n, as 1/4, got '{shard}'")
    return tuple(cells[int(number) - 1 :: int(count)])
