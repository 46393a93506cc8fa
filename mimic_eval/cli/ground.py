"""`mimic ground`."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from mimic_eval.records import UserError, check_integer, nearest

if TYPE_CHECKING:
    from model_adapters.relevance.fill import StoredDoc

_MOST = 4096
_LISTED = 5
_NEEDED = ("images", "question")
_COLUMNS = (*_NEEDED, "task", "targets", "category", "content_hash")


def ground(
    build: Annotated[
        Path | None,
        Argument(help="A task folder, or a parquet file. [default: MIMIC_DATA, else the embedded one]"),
    ] = None,
    relevance: Annotated[
        str,
        Option(help="As in --model_args: grounded_clip, sam_clip, clip, uniform:grounded_clip, ..."),
    ] = "grounded_clip",
    grounding: Annotated[str | None, Option(help="Folder or Hub id of Grounding DINO.")] = None,
    clip: Annotated[str | None, Option(help="Folder or Hub id of CLIP.")] = None,
    sam: Annotated[str | None, Option(help="Folder or Hub id of SAM or SAM 2.")] = None,
    batch_size: Annotated[int, Option(help="Pictures at a time.")] = 8,
    dtype: Annotated[
        str, Option(help="Precision: float32, bfloat16, float16. Runs then need the same relevance_dtype=.")
    ] = "float32",
    device: Annotated[str | None, Option(help="cpu, cuda, cuda:N. [default: a GPU if there is one]")] = None,
) -> None:
    """Run Grounding DINO, SAM and CLIP over a build ahead of its runs, and store what they find.

    The runs read it from the cache folder and start no outside model. A stopped command resumes when it is
    run again. Then: lmms_eval with --model_args mask=ar,relevance=grounded_clip and, if --dtype was given,
    relevance_dtype.
    """
    check_integer("--batch-size", batch_size, least=1, most=_MOST)
    given = {"grounding": grounding, "sam": sam, "clip": clip}
    for name, text in (*given.items(), ("device", device)):
        if text == "":
            raise UserError(f"--{name} is empty: leave it out, or give a value")
    from model_adapters.relevance.choice import DTYPES, parse_relevance

    if dtype not in DTYPES:
        raise UserError(nearest("--dtype", dtype, DTYPES))
    choice = parse_relevance(relevance)
    if not choice.models:
        raise UserError(f"--relevance {choice} runs no outside model: there is nothing to store")
    for name, text in given.items():
        if text is not None and name not in choice.models:
            raise UserError(f"--{name} {text} is not used by --relevance {choice}: leave it out")
    files = _files(build)

    from mimic_tasks.images import decode_strict
    from model_adapters.assembly import chosen_device
    from model_adapters.relevance.cache import cache_folder
    from model_adapters.relevance.fill import CacheFiller
    from model_adapters.relevance.sources import RelevanceSource

    source = RelevanceSource(
        choice, grounding=grounding, sam=sam, clip=clip, device=str(chosen_device(device)), dtype=dtype
    )
    source.identities()  # a missing or wrong checkpoint is refused before the docs are read
    filler = CacheFiller(source, lambda: _docs(files), decode_strict, batch_size=batch_size, progress=True)
    filled = filler.survey()
    for line in filled.left_out[:_LISTED]:
        print(f"left out {line}", file=sys.stderr)
    if len(filled.left_out) > _LISTED:
        print(f"left out {len(filled.left_out) - _LISTED} more docs", file=sys.stderr)
    if not filled.pictures:
        raise UserError(f"{build or 'the build'} holds no docs with pictures that can be decoded")
    models = source.models()
    cached = [
        f"{model.title} {filled.cached[name]} of {filled.cached[name] + filled.missing[name]}"
        for name, model in models.items()
    ]
    typer.echo(f"{filled.docs} docs, {filled.pictures} different pictures")
    typer.echo(f"Cached already: {', '.join(cached)}")
    if not sum(filled.missing.values()):
        typer.echo(f"All of it is in {cache_folder()}: nothing to do")
        return
    start = time.monotonic()
    filler.run()
    made = ", ".join(f"{model.title} {filled.made[name]}" for name, model in models.items())
    typer.echo(f"Wrote {made} to {cache_folder()} in {time.monotonic() - start:.1f} s")
    if filled.elsewhere:
        typer.echo(f"{filled.elsewhere} more were written by another process meanwhile")
    names = "".join(f",{name}={text}" for name, text in given.items() if text is not None)
    precision = "" if dtype == "float32" else f",relevance_dtype={dtype}"
    typer.echo(f"Runs read them with relevance={choice}{names}{precision} in --model_args")


def _files(build: Path | None) -> dict[str, Path]:
    """The parquet files of a build, by their task's short name.

    Raises:
        UserError: none there, or one without pictures or questions.
    """
    from mimic_tasks.locate import task_folder
    from mimic_tasks.stored_docs import chosen_files, stored_columns

    path = (task_folder().path if build is None else build).expanduser()
    files = {path.stem: path} if path.is_file() else chosen_files(path, None)
    for file in files.values():
        stored = stored_columns(file)
        lacking = [name for name in _NEEDED if name not in stored]
        if lacking and not (lacking == ["images"] and "image_files" in stored):
            raise UserError(f"{file}: holds no docs of a task: it has no column {', '.join(lacking)}")
    return files


def _docs(files: dict[str, Path]) -> "Iterator[StoredDoc]":
    from mimic_tasks.stored_docs import read_docs, stored_columns
    from model_adapters.relevance.fill import StoredDoc
    from model_adapters.relevance.query import Query

    for task, file in files.items():
        stored = stored_columns(file)
        columns = [name for name in _COLUMNS if name in (*stored, "images")]
        for number, doc in enumerate(read_docs(file, columns)):
            pictures = [None if image is None else image["bytes"] for image in doc.pop("images")]
            yield StoredDoc(Query.of_doc(doc, (), name=f"mimic_{task} doc {number}"), pictures)
