"""`mimic convert`: checkpoints in another layout, written so that transformers loads them."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Convert checkpoints to the format of transformers.", no_args_is_help=True, rich_markup_mode=None
)


@app.command("internvl2")
def internvl2(
    source: Annotated[str, typer.Argument(help="InternVL2's original layout: a folder or a Hub id.")],
    out: Annotated[Path, typer.Argument(help="Output folder; new or empty.")],
) -> None:
    """Write an original InternVL2 checkpoint in the -hf format, without running its code."""
    from model_adapters.internvl2 import convert

    convert(source, out)
    arguments = shlex.quote(f"pretrained={out}")
    typer.echo(f"Wrote {out}. Run: lmms_eval --model internvl2_mask --model_args {arguments} ...")
