"""`mimic tiny-checkpoint`."""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from mimic_eval.records import UserError, check_integer, nearest
from mimic_eval.records.folders import done, workspace
from mimic_eval.records.reading import read_json
from model_adapters.disk import NOTE
from model_adapters.families import FAMILIES


def embedded_pictures() -> list[Any]:
    """Those of the first embedded doc, so that tokens of such pictures become sinks."""
    from mimic_tasks.lmms_hooks import doc_to_visual
    from mimic_tasks.locate import EMBEDDED
    from mimic_tasks.stored_docs import read_docs, task_files

    doc = next(iter(read_docs(next(iter(task_files(EMBEDDED).values())), ("images", "image_ids"))))
    return list(doc_to_visual(doc))


def tiny_checkpoint(
    out: Annotated[Path, typer.Argument(help="Output folder.")],
    family: Annotated[
        str, typer.Option(help=f"A model type of transformers: {', '.join(FAMILIES.ours)}.")
    ] = "llava_onevision",
    seed: Annotated[int, typer.Option(help="Random seed of the weights.")] = 0,
    sinks: Annotated[bool, typer.Option("--sinks", help="Add attention sinks, for mask=ar.")] = False,
) -> None:
    """Make a tiny random checkpoint of a family."""
    if family not in FAMILIES:
        raise UserError(nearest("family", family, FAMILIES.names()))
    check_integer("--seed", seed, least=0, most=2**63 - 1)
    out = Path(os.path.abspath(out))
    with workspace(out, {"family": family, "seed": seed, "sinks": sinks}, made=_made, option="") as partial:
        if partial is None:
            typer.echo(done(out))
            return
        description = _write(partial, family, seed, sinks=sinks)
    typer.echo(f"Wrote {out} ({description}: its answers mean nothing)")


def _write(folder: Path, family: str, seed: int, *, sinks: bool) -> str:
    """Write the checkpoint; returns what it is."""
    description = "random weights"
    if sinks:
        from model_adapters.sinks.planted import make_planted_checkpoint

        planted = make_planted_checkpoint(
            family, folder, pictures=embedded_pictures(), times_median=10_000, seed=seed
        )
        description = f"random weights with sinks in dimension {planted.dimensions[0]}"
    else:
        FAMILIES.get(family).make_tiny(folder, seed=seed)
    note = read_json(folder / NOTE) | {"family": family, "sinks": sinks}
    (folder / NOTE).write_text(json.dumps(note) + "\n", encoding="utf-8")
    return description


def _made(folder: Path) -> dict[str, Any] | None:
    """The record of a finished checkpoint of this command."""
    try:
        note = read_json(folder / NOTE)
        return {name: note[name] for name in ("family", "seed", "sinks")}
    except (UserError, KeyError, TypeError):
        return None
