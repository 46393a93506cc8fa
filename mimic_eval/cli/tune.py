"""`mimic tune`."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from mimic_eval.records import UserError, check_integer

_MOST_DOCS = 100_000


def tune(
    method: Annotated[str, Argument(help="The mask whose number is chosen: sofa, focus, dab, var, ar, ...")],
    out: Annotated[Path, Option(help="Output file, for tuned=FILE.")],
    grid: Annotated[
        str | None, Option(help="Values to try, as 0,0.25,0.5,0.75,1. [default: the method's]")
    ] = None,
    argument: Annotated[
        str | None,
        Option(help="Another number among the arguments of the mask. [default: the method's free number]"),
    ] = None,
    docs: Annotated[int, Option(help="Number of docs of each task.")] = 32,
    tasks: Annotated[list[str] | None, Option(help="Tasks: a,b. [default: all of the folder]")] = None,
    data: Annotated[
        Path | None,
        Option(help="Task folder to choose the value on. [default: MIMIC_DATA, else the embedded one]"),
    ] = None,
    evaluation: Annotated[
        Path | None, Option(help="Task folder to evaluate on later: refused if it shares a picture.")
    ] = None,
    model: Annotated[str, Option(help="A *_mask model of lmms_eval.")] = "llava_ov_mask",
    model_args: Annotated[str, Option(help="As for lmms_eval: pretrained=...,batch_size=8,...")] = "",
    seed: Annotated[int, Option(help="Seed for sampling docs.")] = 0,
    overwrite: Annotated[bool, Option("--overwrite", help="Replace the --out file.")] = False,
) -> None:
    """Choose a method's free number on docs that share no picture with the evaluation.

    Then: lmms_eval with --model_args tuned=FILE, where FILE is --out.
    """
    from mimic_eval.cli.calibrate import check_out
    from mimic_eval.cli.sources import task_names
    from mimic_eval.cli.tuning.docs import check_evaluation, draw_docs
    from mimic_eval.cli.tuning.plan import make_plan

    check_integer("--docs", docs, least=1, most=_MOST_DOCS)
    check_integer("--seed", seed, least=0, most=2**63 - 1)
    out = out.expanduser()
    check_out(out, overwrite=overwrite)
    values = None if grid is None else _grid(grid)
    plan = make_plan(method, argument=argument, grid=values, model=model, model_args=model_args)
    drawn = draw_docs(data, names=task_names(tasks), docs=docs, seed=seed)
    for line in drawn.left_out:
        print(line, file=sys.stderr)
    if evaluation is not None:
        check_evaluation(drawn, evaluation)

    from mimic_eval.cli.tuning.runs import run_values
    from model_adapters.tuning import save_tuning

    tuned = run_values(plan, drawn)
    save_tuning({**tuned.record, "command": shlex.join(["mimic", *sys.argv[1:]])}, out)
    typer.echo(tuned.text)
    typer.echo(f"Wrote {out}: add tuned={out} to --model_args")


def _grid(text: str) -> list[float]:
    values: list[float] = []
    for part in text.split(","):
        try:
            number = float(part)
        except ValueError:
            raise UserError(f"--grid must read 0,0.25,0.5; '{part.strip()}' is no number") from None
        if not abs(number) < float("inf"):
            raise UserError(f"--grid: {part.strip()} is not finite")
        values.append(int(part) if part.strip().lstrip("+-").isdecimal() else number)
    return values
