"""`mimic score`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mimic_eval.cli.build import parse_kind


def score(
    task: Annotated[str, typer.Argument(help="counting, listing, common or oddone.")],
    file: Annotated[Path, typer.Argument(help='JSONL of {"response": ..., "gt": ...} lines.')],
) -> None:
    """Score answers obtained anywhere; prints one JSON object."""
    from mimic_tasks.scoring import corpus_score, read_jsonl

    result = asdict(corpus_score(parse_kind(task), read_jsonl(file)))
    always = ("n", "score", "score_official", "unparsed")
    typer.echo(
        json.dumps({key: result[key] for key in always} | {k: v for k, v in result.items() if v is not None})
    )
