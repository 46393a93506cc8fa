"""`mimic tiny-checkpoint`."""

from pathlib import Path
from typing import Annotated

import typer


def tiny_checkpoint(
    out: Annotated[Path, typer.Argument(help="The folder to write.")],
    seed: Annotated[int, typer.Option(help="Seed of the weights.")] = 0,
) -> None:
    """Make a tiny random LLaVA-OneVision checkpoint."""
    from model_adapters.tiny import make_tiny_llava_onevision

    make_tiny_llava_onevision(out, seed=seed)
    typer.echo(f"Wrote {out} (random weights: its answers mean nothing)")
