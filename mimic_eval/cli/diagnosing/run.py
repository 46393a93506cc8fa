"""`mimic diagnose`: docs once through a model whose attention is watched."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mimic_eval.cli.diagnosing.folder import SUMMARY, remove_docs, run_folder
from mimic_eval.records import Unscorable, UserError, announce_cached, announced_run, check_integer, nearest

if TYPE_CHECKING:
    from lmms_eval.api.instance import Instance

    from model_adapters.adapter import MaskedModel
    from model_adapters.diagnostics.observing import Shown, Watcher

_MOST_DOCS = 1_000_000


@dataclass(frozen=True)
class Job:
    """What the user gave.

    Attributes:
        model: of `lmms_models`.
        model_args: as of lmms_eval.
        tasks: names joined by commas.
        docs: the most of each task.
        out: the folder.
        sinks: arguments of sink detection for a mask that needs none, ``off``, or None for the default.
        include_path: a folder of further tasks, or None.
        device: or None.
        maps: docs to draw, ``TASK:DOC`` or numbers.
        map_rows: which rows' attention is drawn.
        map_layers: in which layers, as of ``layers=``.
    """

    model: str
    model_args: str
    tasks: str
    docs: int
    out: Path
    sinks: str | None = None
    include_path: Path | None = None
    device: str | None = None
    maps: tuple[str, ...] = ()
    map_rows: str = "answer"
    map_layers: str = "all"


def check(job: Job) -> dict[str, Any]:
    """What can be seen wrong before anything heavy is imported; returns the model's arguments.

    Raises:
        UserError: see there.
    """
    from mimic_eval.cli.lmms.arguments import check_tasks
    from model_adapters.families import lmms_models
    from model_adapters.options import AdapterOptions, parse_arg_string

    if job.model not in lmms_models():
        raise UserError(nearest("model", job.model, lmms_models()))
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("mimic diagnose runs in one process: start it without torchrun")
    check_integer("--docs", job.docs, least=1, most=_MOST_DOCS)
    folder = None if job.include_path is None else str(job.include_path)
    permuted = check_tasks(job.tasks, folder)
    if permuted:
        raise UserError(
            f"{permuted[0]} shows each doc in several orders, and docs are to be independent: choose the "
            "plain task with order=reversed or order=seeded, and `mimic diagnose compare`"
        )
    given = parse_arg_string(job.model_args, {"device": job.device})
    for name in ("journal", "batch_size"):
        if name in given:
            raise UserError(f"{name} is not used by mimic diagnose, which runs doc by doc: leave it out")
    options = AdapterOptions.parse(given)
    if job.sinks is not None and options.sinks is not None:
        raise UserError(
            f"--sinks is not used by mask={options.general.mask}, whose sinks are said in --model_args: "
            "leave it out"
        )
    _sink_options(job.sinks)
    return given


def _sink_options(text: str | None) -> Any:
    """`SinkOptions` of ``--sinks``; None for ``off``."""
    from model_adapters.options import parse_arg_string
    from model_adapters.providers import SinkOptions

    if text == "off":
        return None
    given = parse_arg_string(text or "", {})
    for key in given:
        if key not in SinkOptions.model_fields:
            raise UserError(nearest("argument of --sinks", key, SinkOptions.model_fields))
    return SinkOptions.read({**given, "allow_no_sinks": True})


def diagnose(job: Job) -> None:
    """`run_docs`, and print what was found.

    Raises:
        UserError: as there.
    """
    run_docs(job)
    from leaderboard.diagnosis.text import render_text
    from mimic_eval.records.reading import read_json

    typer.echo(render_text(read_json(job.out / SUMMARY)))
    typer.echo(f"Wrote {job.out / SUMMARY}, the tables (parquet) and the figures (SVG, CSV) beside it")


def run_docs(job: Job, model: "MaskedModel | None" = None) -> None:
    """Run the docs, write the tables, the summary and the figures.

    Args:
        job: what is run.
        model: loaded already, and set to the job's arguments by this call; None: it is loaded.

    Raises:
        UserError: the user's mistake, or no doc with several images.
    """
    given = check(job)
    from loguru import logger

    from mimic_eval.cli.calibrate import embedded_docs
    from mimic_eval.cli.diagnosing.requests import loaded_tasks, requests_for
    from model_adapters.sinks import calibrating_with

    logger.disable("lmms_eval")
    try:
        with loaded_tasks(job.model, job.tasks, job.include_path) as tasks:
            with calibrating_with(embedded_docs):
                watcher, run = _watcher(job, given, model)
            try:
                requests = requests_for(watcher.model, tasks, docs=job.docs)
                with run_folder(job.out, run) as finished:
                    if finished:
                        print(f"{job.out} is finished already: nothing is run again", file=sys.stderr)
                    else:
                        _finish(job, run, _run_docs(job, watcher, requests))
                    _draw_maps(job, watcher, requests)
            finally:
                watcher.close()
    finally:
        logger.enable("lmms_eval")


def _watcher(
    job: Job, given: dict[str, Any], model: "MaskedModel | None"
) -> "tuple[Watcher, dict[str, Any]]":
    """The model, loaded and watched, and the run's record; a line for what will be left out."""
    from model_adapters.diagnostics.observing import Watcher
    from model_adapters.identity import weights_hash
    from model_adapters.models import model_class

    if model is None:
        model = model_class(job.model)(**given, journal=False)
    else:
        model.change(**given, journal=False, batch_size=model.options.general.batch_size)
    find_sinks, note = _find_sinks(job.sinks, model)
    watcher = Watcher(model, find_sinks)
    settings: dict[str, Any] = getattr(watcher.find_sinks, "settings", dict)()
    if note:
        print(note, file=sys.stderr)
    if not model.family.has_places:
        print(
            f"The tokens of {model.family.name} show no parts of a picture: no boxes, no recurrence of sinks",
            file=sys.stderr,
        )
    return watcher, {
        "model": job.model,
        "run": announced_run(),
        "weights": weights_hash(model.model),
        "heads": int(model.model.config.get_text_config().num_attention_heads),
        "depth": watcher.depth,
        "watched": sorted(watcher.layers),
        "places": bool(model.family.has_places),
        "sinks": settings or None,
        "tasks": job.tasks,
        "docs": job.docs,
    }


def _find_sinks(text: str | None, model: "MaskedModel") -> tuple[Any, str | None]:
    """How sinks are found under a mask that needs none, or None with a line that says why not."""
    from model_adapters.assembly import find_sinks

    if model.engine.find_sinks is not None:
        return model.engine.find_sinks, None
    options = _sink_options(text)
    if options is None:
        return None, None
    given = replace(model.options, sinks=options)
    family = None if text is None else model.family  # sinks that nobody asked for are not worth a calibration
    try:
        finder = find_sinks(given, model.model, model.engine.intervention, family)
    except UserError as error:
        if text is not None:
            raise
        return None, f"Sinks are left out: {error}"
    if finder is not None and not finder.calibration.dimensions:
        return None, "Sinks are left out: this model's calibration found no sink dimension"
    return finder, None


@dataclass
class _LeftOut:
    """Docs that are not diagnosed, by reason."""

    one_image: int = 0
    unscorable: int = 0


def _run_docs(job: Job, watcher: "Watcher", requests: Sequence["Instance"]) -> _LeftOut:
    """Each doc, unless its record is there."""
    from mimic_eval.records.progress import progress_bar
    from model_adapters.diagnostics.store import doc_path, read_doc, write_doc

    left_out, done = _LeftOut(), 0

    def stored() -> str:
        return f"{done} of {len(requests)} docs are stored in {job.out}; the same command goes on"

    announce_cached(stored)
    for request in progress_bar(requests, what="Diagnosing", unit="doc", in_log=True):
        shown = _show(watcher, request, left_out)
        if shown is None:
            continue
        path = doc_path(job.out, request.args[4], request.args[3])
        if not (path.exists() and read_doc(path).key == shown.key):
            write_doc(job.out, watcher.record(shown, watcher.watch(shown)))
        done += 1
    if not done:
        raise UserError(
            f"--tasks {job.tasks}: none of {len(requests)} docs has several images that can be shown "
            f"({left_out.one_image} have one, {left_out.unscorable} cannot be shown)"
        )
    return left_out


def _show(watcher: "Watcher", request: "Instance", left_out: _LeftOut) -> "Shown | None":
    """A doc with several images; another one is counted."""
    from model_adapters.request_loop import request_name

    try:
        shown = watcher.show(request)
    except Unscorable as reason:
        print(f"{request_name(request)} is left out: {reason}", file=sys.stderr)
        left_out.unscorable += 1
        return None
    if shown.images < 2:
        left_out.one_image += 1
        return None
    return shown


def _finish(job: Job, run: dict[str, Any], left_out: _LeftOut) -> None:
    """Tables, figures, and the summary last: it says that all is there."""
    from leaderboard.diagnosis.output import write_outputs
    from model_adapters.diagnostics.store import DOCS, finished_docs, read_doc, write_tables

    records = [(record.task, record.doc) for record in map(read_doc, finished_docs(job.out))]
    write_tables(job.out, records)
    write_outputs(job.out, run, left_out=vars(left_out))
    remove_docs(job.out, DOCS)


def _draw_maps(job: Job, watcher: "Watcher", requests: Sequence["Instance"]) -> None:
    if not job.maps:
        return
    from mimic_eval.cli.diagnosing.maps import draw_maps

    for path in draw_maps(job, watcher, requests):
        typer.echo(f"Wrote {path}")
