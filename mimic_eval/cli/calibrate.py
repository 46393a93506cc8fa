"""`mimic calibrate`."""

import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, overload

import typer
from typer import Argument, Option

from mimic_eval.records import Unscorable, UserError, announce_cached, check_integer, nearest

if TYPE_CHECKING:
    from model_adapters.families.base import Family
    from model_adapters.sinks import Calibration, CalibrationDocs, CorpusDoc

DOCS = 32
"""How many docs are looked at unless the user says more."""
_MOST_DOCS = 100_000
_COLUMNS = ("images", "question", "gt", "task", "image_ids", "content_hash")


def calibrate(
    model: Annotated[str, Argument(help="A *_mask model of lmms_eval, such as llava_ov_mask.")],
    pretrained: Annotated[
        str | None, Option(help="Checkpoint: a folder or a Hub id. [default: the embedded one]")
    ] = None,
    out: Annotated[
        Path | None,
        Option(help="Output file, for calibration=FILE. [default: in the cache folder, where runs read it]"),
    ] = None,
    docs: Annotated[int, Option(help="Number of docs.")] = DOCS,
    seed: Annotated[int, Option(help="Seed for sampling docs.")] = 0,
    data: Annotated[
        Path | None, Option(help="A task folder. [default: MIMIC_DATA, else the embedded one]")
    ] = None,
    min_magnitude: Annotated[float, Option(help="Minimum magnitude of a sink dimension.")] = 100.0,
    min_ratio: Annotated[
        float, Option(help="And its minimum multiple of the median magnitude of the layer's input.")
    ] = 1000.0,
    dtype: Annotated[
        str, Option(help="Data type of the weights: auto, bfloat16, float16, float32.")
    ] = "auto",
    device: Annotated[str | None, Option(help="cpu, cuda, cuda:N. [default: a GPU if there is one]")] = None,
    overwrite: Annotated[bool, Option("--overwrite", help="Replace the --out file.")] = False,
) -> None:
    """Find a model's sink dimensions, which mask=ar, mask_only and unmask_only need."""
    from model_adapters.families import lmms_models

    if model not in lmms_models():
        raise UserError(nearest("model", model, lmms_models()))
    for name, text in (("--pretrained", pretrained), ("--device", device)):
        if text == "":
            raise UserError(f"{name} is empty: leave it out, or give a value")
    check_integer("--docs", docs, least=1, most=_MOST_DOCS)
    for name, value in (("--min-magnitude", min_magnitude), ("--min-ratio", min_ratio)):
        if not 0 <= value < float("inf"):
            raise UserError(f"{name} must be a number of at least 0, got {value}")
    if out is not None:
        out = out.expanduser()
        check_out(out, overwrite=overwrite)
    drawn, source = draw_docs(data, docs, seed)

    from model_adapters import sinks
    from model_adapters.models import model_class

    given = {"pretrained": pretrained, "dtype": dtype, "device": device}
    loaded = model_class(model)(
        mask="none", journal=False, **{key: value for key, value in given.items() if value}
    )
    announce_cached(lambda: "no calibration was written; run the same command to start again")
    calibration = sinks.calibrate_within_memory(
        loaded.model,
        loaded.family,
        CorpusDocs(drawn, loaded.family),
        source=source,
        seed=seed,
        checkpoint=pretrained or "embedded",
        min_magnitude=min_magnitude,
        min_ratio=min_ratio,
        progress=True,
    )
    path = out or sinks.default_path(loaded.model)
    sinks.save_calibration(calibration, path)
    _print(calibration)
    use = f"add calibration={path}" if out else "runs of this model find it there"
    typer.echo(f"Wrote {path}: {use}")


def embedded_docs(family: "Family") -> "CalibrationDocs":
    """The docs of a calibration that is made on the way: never those of a folder that the user evaluates."""
    from mimic_tasks.locate import EMBEDDED
    from model_adapters.sinks import CalibrationDocs

    drawn, _ = draw_docs(EMBEDDED, DOCS, 0)
    return CalibrationDocs(CorpusDocs(drawn, family), "embedded", 0)


def check_out(out: Path, *, overwrite: bool) -> None:
    """Refuse a path that could not be written at the end."""
    if out.is_dir():
        raise UserError(f"--out {out} is a folder: name a file")
    above = out.absolute().parent
    while not above.exists():
        above = above.parent
    if not above.is_dir():
        raise UserError(f"--out {out}: {above} is not a folder")
    if out.exists() and not overwrite:
        raise UserError(f"--out {out} exists: --overwrite replaces it")


def draw_docs(data: Path | None, docs: int, seed: int) -> tuple[list[dict[str, Any]], str]:
    """Docs of a folder's usual tasks, drawn without regard to their task, and its name for the record.

    A doc with a broken picture is left out and reported.
    """
    from mimic_tasks.lmms_hooks import doc_to_visual
    from mimic_tasks.locate import task_folder
    from mimic_tasks.stored_docs import count_docs, read_docs, task_files, usual_files

    if data is None:
        folder = task_folder()
        path, source = folder.path, folder.label if folder.label == "embedded" else str(folder.path)
    else:
        path, source = data, str(data)
    files = usual_files(task_files(path))
    counts = {name: count_docs(file) for name, file in files.items()}
    total = sum(counts.values())
    if not total:
        raise UserError(f"{path} holds no docs: make some with: mimic build --out FOLDER")
    if docs > total:
        print(f"{path} has {total} docs: all of them are looked at", file=sys.stderr)
    chosen = set(random.Random(seed).sample(range(total), min(docs, total)))
    drawn, first = [], 0
    for name, file in files.items():
        wanted = {number - first for number in chosen if first <= number < first + counts[name]}
        first += counts[name]
        if not wanted:
            continue
        for number, doc in enumerate(read_docs(file, _COLUMNS)):
            if number not in wanted:
                continue
            try:
                doc_to_visual(doc)
            except Unscorable as reason:
                print(f"mimic_{name} doc {number} is left out: {reason}", file=sys.stderr)
            else:
                drawn.append(doc)
    if not drawn:
        raise UserError(f"{path}: none of the {len(chosen)} sampled docs has pictures that can be decoded")
    return drawn, source


class CorpusDocs(Sequence["CorpusDoc"]):
    """Docs as the task presents them to a family's model; pictures are decoded when a doc is read."""

    def __init__(self, docs: Sequence[dict[str, Any]], family: "Family") -> None:
        self._docs = docs
        self._family = family

    def __len__(self) -> int:
        return len(self._docs)

    @overload
    def __getitem__(self, index: int) -> "CorpusDoc": ...
    @overload
    def __getitem__(self, index: slice) -> "Sequence[CorpusDoc]": ...
    def __getitem__(self, index: int | slice) -> "CorpusDoc | Sequence[CorpusDoc]":
        from mimic_tasks.lmms_hooks import doc_to_messages
        from model_adapters.doc_prompt import take_images
        from model_adapters.sinks import CorpusDoc

        if isinstance(index, slice):
            return CorpusDocs(self._docs[index], self._family)
        doc = self._docs[index]
        messages, images = take_images(doc_to_messages(doc))
        return CorpusDoc(images, self._family.prompt(messages), doc["content_hash"])


def _print(calibration: "Calibration") -> None:
    """The table of layers, and what was calibration, in words."""
    corpus, largest = calibration.corpus, max(layer.largest for layer in calibration.layers)
    typer.echo(
        f"{corpus.docs} docs, {corpus.images} images, {corpus.visual_tokens} visual of {corpus.tokens} "
        f"tokens ({corpus.source}, seed {corpus.seed})"
    )
    typer.echo(f"{'layer':>5}  {'median |x|':>10}  {'largest |x|':>11}  {'times':>8}  {'in dimension':>12}")
    for number, layer in enumerate(calibration.layers):
        times = f"{layer.largest / layer.median:.0f}" if layer.median else "-"
        typer.echo(
            f"{number:>5}  {layer.median:>10.3g}  {layer.largest:>11.4g}  {times:>8}  {layer.dimension:>12}"
        )
    bounds = (
        f"above {calibration.min_magnitude:g} and above {calibration.min_ratio:g} times the layer's median"
    )
    if not calibration.dimensions:
        typer.echo(
            f"No sink dimension: no activation is {bounds} (the largest is {largest:.4g}). "
            "This is a result, not a failure: interventions on sinks have nothing to work on in this model."
        )
        return
    typer.echo(f"Sink dimensions, {bounds}:")
    for sink in calibration.dimensions:
        typer.echo(
            f"  {sink.index}: largest magnitude {sink.largest:.4g} in layer {sink.layer}, "
            f"mu {sink.mu:.4g}, sigma {sink.sigma:.4g}"
        )
    matched = f"as many tokens as a ratio above {calibration.ratio_tau:g} ({calibration.flagged})"
    typer.echo(f"tau of score=z: {calibration.tau:.4g}, which flags {matched}")
