"""`mimic score`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mimic_eval.cli.build import parse_kind


def score(
    task: Annotated[str, typer.Argument(help="counting, listing, common, oddone, pqa or retrieval.")],
    file: Annotated[Path, typer.Argument(help='JSONL of {"response": ..., "gt": ...} lines.')],
) -> None:
    """Score answers from a file; prints one JSON object."""
    from mimic_tasks.scoring import COCO_CLASSES, corpus_score, read_jsonl
    from mimic_tasks.task_spec import spec_of

    kind = parse_kind(task)
    rows = read_jsonl(file, kind=kind)
    if spec_of(kind).names_classes:
        strange = {name for _, doc in rows for name in doc["gt"].split(", ")} - set(COCO_CLASSES)
        if strange:
            names = ", ".join(repr(name) for name in sorted(strange)[:5])
            typer.echo(f"warning: {len(strange)} names in gt are no COCO classes: {names}", err=True)
    result = asdict(corpus_score(kind, rows))
    always = ("n", "score", "score_official", "unparsed")
    typer.echo(
        json.dumps({key: result[key] for key in always} | {k: v for k, v in result.items() if v is not None})
    )
