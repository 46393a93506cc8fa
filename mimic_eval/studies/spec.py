"""A study file: what is run, what is drawn of it, and what the paper reports (METHODS 17)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from mimic_eval.records import UserError, check_integer, nearest
from mimic_eval.records.order import parse_order
from mimic_eval.records.reading import read_yaml
from mimic_eval.studies import fields
from mimic_eval.studies.fields import Value
from mimic_eval.studies.outputs import Claim, Output, Reported, read_claim, read_output, read_reported

MEASURES = ("scores", "attention")
"""What a setting is run for: a run of `lmms_eval`, or one of `mimic diagnose`."""

_KEYS = (
    *("id", "title", "paper", "figure", "docs", "seed", "data", "tasks", "entries", "settings", "vary"),
    *("orders", "permuted_orders", "measure", "attention", "output", "reported", "claims", "caveats"),
)
_SETTING = ("name", "entry", "model_args", "vary", "orders", "tasks", "measure")
_ATTENTION = ("sinks", "maps", "map_rows", "map_layers")
_ID = re.compile(r"[a-z0-9_.-]+:[a-z0-9_.-]+")
_MOST_DOCS = 1_000_000


@dataclass(frozen=True)
class Setting:
    """An intervention with its arguments, which runs on the models that are given.

    Attributes:
        name: of the study's settings.
        entry: the only entry that it runs on, or None for all that are given.
        model_args: of `--model_args`, without the checkpoint's.
        vary: lists of further arguments; every combination is a cell.
        orders: values of ``order=``; each is a cell.
        tasks: of lmms-eval.
        measure: of `MEASURES`.
    """

    name: str
    entry: str | None
    model_args: Mapping[str, Value]
    vary: Mapping[str, tuple[Value, ...]]
    orders: tuple[str, ...]
    tasks: tuple[str, ...]
    measure: tuple[str, ...]


@dataclass(frozen=True)
class Data:
    """What is built for the study, as one task folder: either is None.

    Attributes:
        sweeps: as `mimic sweep` takes them: ready-made names, files beside the study, or mappings.
        build: options of `mimic build` by name (``tasks``, ``n_images``, ``total``, ...).
    """

    sweeps: tuple[str | Mapping[str, Any], ...] | None
    build: Mapping[str, Any] | None


@dataclass(frozen=True)
class Study:
    """A study file.

    Attributes:
        id: ``mimic:fig4``.
        title: of the study.
        paper: where its figure is.
        figure: ``Fig. 4``, ``Table 2``.
        docs: of each task; in a sweep, of each cell.
        seed: of what is built.
        data: what is built, or None: the task folder that applies (`MIMIC_DATA`, else the embedded one).
        entries: the models that the study wants beside the first: what each is, by name.
        settings: what is run.
        permuted_orders: of permuted tasks: `MIMIC_ORDERS`, or empty for the default.
        attention: arguments of `mimic diagnose`: ``sinks``, ``maps``, ``map_rows``, ``map_layers``.
        outputs: what is drawn.
        reported: the paper's numbers.
        claims: what it says in words.
        caveats: what is not comparable, and why; a sentence each.
        source: the mapping that the file holds.
        path: of the file, or None.
    """

    id: str
    title: str
    paper: str
    figure: str
    docs: int
    seed: int
    data: Data | None
    entries: Mapping[str, str]
    settings: tuple[Setting, ...]
    permuted_orders: str
    attention: Mapping[str, Any]
    outputs: tuple[Output, ...]
    reported: tuple[Reported, ...]
    claims: tuple[Claim, ...]
    caveats: tuple[str, ...]
    source: Mapping[str, Any]
    path: Path | None = None


def packaged() -> dict[str, Path]:
    """The files of the packaged studies by id: ``mimic:fig4`` is ``mimic_fig4.yaml``."""
    folder = Path(str(files("mimic_eval.studies") / "files"))
    return {path.stem.replace("_", ":", 1): path for path in sorted(folder.glob("*.yaml"))}


def read_study(study: str) -> Study:
    """A packaged study by its id, or one from a YAML file.

    Raises:
        UserError: no such id or file, or a wrong value; the message names file and key.
    """
    ready = packaged()
    path = ready.get(study, Path(study).expanduser())
    if study not in ready and not path.exists():
        raise UserError(f"{nearest('study', study, ready)} Or give a YAML file: there is none at {path}")
    data = read_yaml(path)
    try:
        return parse_study(data, path=path)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def parse_study(data: Any, *, path: Path | None = None) -> Study:
    """A study from the mapping that its YAML holds.

    Raises:
        UserError: an unknown key or a wrong value.
    """
    if not isinstance(data, dict):
        raise UserError(f"is no study: it must map {', '.join(_KEYS)} to values")
    fields.check_keys("the study", data, _KEYS, needed=("id", "settings"))
    id_ = fields.text("id", data["id"])
    if not _ID.fullmatch(id_):
        raise UserError(
            f"id must read paper:figure, in lower-case letters, digits, '.', '_' and '-', got '{id_:.80}'"
        )
    entries = {
        fields.name("entries", key): fields.text(f"entries: {key}", value)
        for key, value in fields.mapping("entries", data.get("entries")).items()
    }
    settings = _settings(data, entries)
    names = [setting.name for setting in settings]
    return Study(
        id=id_,
        title=fields.text("title", data.get("title"), default=id_),
        paper=fields.text("paper", data.get("paper"), default="not named"),
        figure=fields.text("figure", data.get("figure"), default=id_.partition(":")[2]),
        docs=check_integer("docs", data.get("docs", 100), least=1, most=_MOST_DOCS),
        seed=check_integer("seed", data.get("seed", 0), least=0, most=2**63 - 1),
        data=_data(data.get("data")),
        entries=entries,
        settings=settings,
        permuted_orders=_permuted_orders(data.get("permuted_orders")),
        attention=_attention(data.get("attention")),
        outputs=fields.each("output", data.get("output"), lambda where, one: read_output(where, one, names)),
        reported=fields.each(
            "reported", data.get("reported"), lambda where, one: read_reported(where, one, names)
        ),
        claims=fields.each("claims", data.get("claims"), lambda where, one: read_claim(where, one, names)),
        caveats=tuple(
            fields.text(f"caveats: {number}", caveat)
            for number, caveat in enumerate(fields.items("caveats", data.get("caveats")), start=1)
        ),
        source=data,
        path=path,
    )


def _settings(data: Mapping[str, Any], entries: Mapping[str, str]) -> tuple[Setting, ...]:
    settings = fields.each(
        "settings", data["settings"], lambda where, one: _setting(where, one, data, entries)
    )
    names = [setting.name for setting in settings]
    if not names:
        raise UserError("settings must list at least one")
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two settings are called {name}")
    return settings


def _setting(
    where: str, one: Mapping[str, Any], study: Mapping[str, Any], entries: Mapping[str, str]
) -> Setting:
    fields.check_keys(where, one, _SETTING, needed=("name",))
    name = fields.name(f"{where}: name", one["name"])
    where = f"setting {name}"
    given = {**{key: study.get(key) for key in ("vary", "orders", "tasks", "measure")}, **one}
    tasks = fields.tasks(f"{where}: tasks", given["tasks"])
    if not tasks:
        raise UserError(f"{where} has no tasks: give tasks: in it, or in the study")
    entry = one.get("entry")
    if entry is not None and entry not in entries:
        raise UserError(
            f"{where}: entry: {nearest('entry', str(entry), entries)} The study lists them in entries:"
        )
    model_args = fields.arguments(f"{where}: model_args", one.get("model_args"))
    vary = fields.grid(f"{where}: vary", given["vary"])
    both = sorted(set(model_args) & set(vary))
    if both:
        raise UserError(f"{where}: {both[0]} is both in model_args and in vary")
    for key in ("pretrained", "peft"):
        if key in model_args or key in vary:
            raise UserError(
                f"{where}: {key} belongs to the command line (--pretrained, --entry): leave it out"
            )
    if "order" in model_args or "order" in vary:
        raise UserError(f"{where}: order is set by orders: [fixed, reversed]")
    orders = tuple(
        parse_order(fields.text(f"{where}: orders", order))
        for order in fields.items(f"{where}: orders", given["orders"] or ["fixed"])
    )
    measure = tuple(
        fields.one_of(f"{where}: measure", measure, MEASURES)
        for measure in fields.items(f"{where}: measure", given["measure"] or ["scores"], least=1)
    )
    return Setting(name, entry, model_args, vary, orders, tasks, measure)


def _data(value: Any) -> Data | None:
    given = fields.mapping("data", value)
    if not given:
        return None
    fields.check_keys("data", given, ("sweeps", "build"))
    if len(given) != 1:
        raise UserError("data holds sweeps: or build:, not both: one task folder is made")
    if "build" in given:
        return Data(None, fields.mapping("data: build", given["build"]))
    sweeps = fields.items("data: sweeps", given["sweeps"], least=1)
    for sweep in sweeps:
        if not isinstance(sweep, str | dict):
            raise UserError(f"data: sweeps must list names, files or sweeps, got {sweep!r:.80}")
    return Data(tuple(sweeps), None)


def _permuted_orders(value: Any) -> str:
    return "" if value is None else fields.text("permuted_orders", value)


def _attention(value: Any) -> dict[str, Any]:
    given = fields.mapping("attention", value)
    fields.check_keys("attention", given, _ATTENTION)
    read: dict[str, Any] = {
        key: fields.text(f"attention: {key}", given[key]) for key in given if key != "maps"
    }
    if "maps" in given:
        maps = fields.items("attention: maps", given["maps"])
        read["maps"] = tuple(fields.text("attention: maps", doc) for doc in maps)
    return read
