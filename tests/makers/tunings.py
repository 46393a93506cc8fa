"""Calls of `mimic tune` in this process."""

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from mimic_eval.cli.commands import app
from mimic_eval.records import UserError
from tests.makers.dial import DIAL


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["tune", *map(str, arguments)])


def refusal(*arguments: object) -> str:
    result = run(*arguments)
    assert isinstance(result.exception, UserError), result.output
    return str(result.exception)


def call(data: Path, out: Path, *more: object) -> tuple[object, ...]:
    of_model = ("--model-args", "batch_size=8")
    return (
        DIAL,
        "--data",
        data,
        "--tasks",
        "counting,mimic_common",
        "--docs",
        6,
        *of_model,
        "--out",
        out,
        *more,
    )


def content(path: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(path.read_text())
    return record
