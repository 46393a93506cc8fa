"""`mimic families`."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Option


def families(
    types: Annotated[
        list[str] | None, Option("--type", help="Try only this model type of transformers; repeat.")
    ] = None,
    write: Annotated[Path | None, Option(help="Also write the table as a Markdown page.")] = None,
) -> None:
    """Try each model type of transformers: taken by name, by hf_mask, or refused and why."""
    import warnings

    from transformers.utils import logging

    from mimic_eval.records.folders import write_atomically
    from model_adapters.survey import survey
    from model_adapters.survey_page import count_line, page, text_line

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    lines = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for line in survey(types):
            lines.append(line)
            typer.echo(text_line(line))
    typer.echo(count_line(lines))
    if write is not None:
        write_atomically(write, page(lines).encode())
        typer.echo(f"Wrote {write}")
