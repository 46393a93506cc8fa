"""The sub-commands of `mimic`, gathered.

Each sub-command imports what it needs when it is called, so that `mimic --help` answers at once.
"""

import sys
from typing import Annotated, NoReturn

import typer

from mimic_eval.cli import (
    build,
    cache,
    calibrate,
    checkpoint,
    compare,
    convert,
    diagnose,
    families,
    finetune,
    ground,
    harm,
    leaderboard,
    overlap,
    power,
    report,
    reproduce,
    review,
    robustness,
    scenes,
    score,
    show,
    sweep,
    tasks,
    train,
    training,
    tune,
)
from mimic_eval.cli.overview import Grouped, Overview, missing, print_version
from mimic_eval.records import UserError

app = typer.Typer(
    name="mimic",
    cls=Grouped,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def mimic(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Build the MIMIC benchmark, score answers, and read the results of lmms_eval runs."""


app.command("build")(build.build)
app.command("sweep")(sweep.sweep)
app.command("scenes")(scenes.scenes)
app.command("score")(score.score)
app.command("reproduce")(reproduce.reproduce)
app.command("report")(report.report)
app.command("compare")(compare.compare)
app.command("power")(power.power)
app.command("do-no-harm")(harm.do_no_harm)
app.command("robustness")(robustness.robustness)
app.command("show")(show.show)
app.command("export-training")(training.export_training)
app.command("check-overlap")(overlap.check_overlap)
app.command("calibrate")(calibrate.calibrate)
app.command("ground")(ground.ground)
app.command("tune")(tune.tune)
app.command("finetune")(finetune.finetune)
app.command("train-reference")(train.train_reference)
app.command("families")(families.families)
app.command("tiny-checkpoint")(checkpoint.tiny_checkpoint)
app.add_typer(diagnose.app, name="diagnose", cls=Overview)
app.add_typer(convert.app, name="convert", cls=Overview)
app.add_typer(tasks.app, name="tasks", cls=Overview)
app.add_typer(leaderboard.app, name="leaderboard", cls=Overview)
app.add_typer(review.app, name="review", cls=Overview)
app.add_typer(cache.app, name="cache", cls=Overview)


def fail(message: str) -> NoReturn:
    """A user's mistake: one line on stderr, exit code 2; what a terminal would act on is escaped."""
    line = " ".join(message.split())
    printable = (
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in line
    )
    print(f"error: {''.join(printable)}", file=sys.stderr)
    raise SystemExit(2)


def run() -> None:
    """The `mimic` command without its signals."""
    try:
        code = app(sys.argv[1:] or ["--help"], prog_name="mimic", standalone_mode=False)
    except UserError as error:
        fail(str(error))
    except typer.TyperException as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # a sub-command group alone: its help, as it is
            print(error)
            raise SystemExit(0) from None
        fail(missing(error, sys.argv[1:]) or error.format_message())
    except BrokenPipeError:
        raise
    except OSError as error:
        fail(f"{error.filename or 'a file'}: {error.strerror or error}")
    raise SystemExit(code or 0)
