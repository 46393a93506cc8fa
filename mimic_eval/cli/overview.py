"""What `mimic --help` shows: the commands in groups, each with its first sentence, and an example of each."""

import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

from typer.core import TyperGroup

from mimic_eval.cli.words import options_of, parse_words, renamed

GROUPS: dict[str, tuple[str, ...]] = {
    "Data": ("scenes", "build", "sweep", "tasks", "show", "review", "check-overlap", "export-training"),
    "Results": (
        *("score", "report", "compare", "robustness", "power", "do-no-harm", "diagnose"),
        *("leaderboard", "reproduce"),
    ),
    "Models": (
        *("calibrate", "ground", "tune", "finetune", "train-reference", "families", "convert"),
        *("tiny-checkpoint", "cache"),
    ),
}
"""The order of the commands in the help. A test compares it with the commands that exist."""

_COCO = "--annotations annotations/instances_val2017.json --images val2017"

EXAMPLES: dict[str, str] = {
    "build": f"mimic build {_COCO} --out tasks/coco --docs 200",
    "cache list": "mimic cache list",
    "cache prune": "mimic cache prune --older-than 30d",
    "cache size": "mimic cache size",
    "calibrate": "mimic calibrate llava_ov_mask --pretrained llava-hf/llava-onevision-qwen2-0.5b-ov-hf",
    "check-overlap": "mimic check-overlap training tasks/coco",
    "compare": "mimic compare runs/none runs/block --margin 2",
    "convert internvl2": "mimic convert internvl2 OpenGVLab/InternVL2-1B internvl2-1b-hf",
    "diagnose": "mimic diagnose --model llava_ov_mask --model-args mask=none --tasks mimic --out why/none",
    "diagnose compare": "mimic diagnose compare why/none why/block",
    "diagnose heads": "mimic diagnose heads why/none --out heads",
    "do-no-harm": "mimic do-no-harm runs/none runs/block",
    "export-training": f"mimic export-training {_COCO} --out training --exclude tasks/coco",
    "families": "mimic families",
    "finetune": "mimic finetune --pretrained llava-hf/llava-onevision-qwen2-0.5b-si-hf "
    "--data training/mixture.yaml --recipe paper --lora --mask block --out trained",
    "ground": "mimic ground tasks/coco --batch-size 16",
    "leaderboard build": "mimic leaderboard build runs --out site",
    "leaderboard check": "mimic leaderboard check submissions/mine",
    "power": "mimic power --delta 5 --discordant 0.2",
    "report": "mimic report runs",
    "reproduce": "mimic reproduce mimic:fig1 --pretrained llava-hf/llava-onevision-qwen2-0.5b-ov-hf "
    f"{_COCO} --docs 50 --out fig1",
    "review page": "mimic review page tasks/coco --out review.html",
    "review score": "mimic review score answers.json --data tasks/coco --out runs/people",
    "robustness": "mimic robustness runs/permuted --margin 2",
    "scenes": "mimic scenes --out scenes --scenes 300 --seed 1",
    "score": "mimic score counting answers.jsonl",
    "show": "mimic show tasks/coco --out docs.html",
    "sweep": f"mimic sweep counting_spread {_COCO} --out tasks/spread",
    "tasks list": "mimic tasks list",
    "tasks path": 'lmms-eval --include_path "$(mimic tasks path)" --tasks mimic --model llava_ov_mask',
    "tiny-checkpoint": "mimic tiny-checkpoint tiny --family llava_onevision",
    "train-reference": "mimic train-reference internvl --out trained/internvl",
    "tune": "mimic tune sofa --data tasks/tuning --tasks counting --model-args pretrained=DIR --out s.json",
}
"""An example of each command, by its words."""


class Overview(TyperGroup):
    """The group of all commands, or of a command's parts: first sentences in full, and an example of each."""

    headings: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command with its example below its help."""
        command = super().get_command(ctx, cmd_name)
        above = " ".join((ctx.command_path or "").split()[1:])
        example = EXAMPLES.get(f"{above} {cmd_name}".strip())
        if command is not None and example is not None:
            command.epilog = f"\b\nExample:\n  {example}"
        if command is not None:
            command.parse_args = partial(  # type: ignore[method-assign]
                parse_words, command, command.parse_args
            )
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands under their headings; those without one come last."""
        listed = [name for _, names in self.headings for name in names]
        others = tuple(name for name in self.list_commands(ctx) if name not in listed)
        for heading, names in [*self.headings, ("Commands", others)]:
            commands = [(name, self.get_command(ctx, name)) for name in names]
            rows = [(name, command.get_short_help_str(400)) for name, command in commands if command]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)


class Grouped(Overview):
    """`mimic` itself."""

    headings = tuple(GROUPS.items())


def missing(error: Any, argv: Sequence[str]) -> str | None:
    """One line that names all options a command line lacks, or None if it is another error than that.

    Args:
        error: typer's exception.
        argv: the command line without the program.
    """
    if type(error).__name__ != "MissingParameter" or error.ctx is None:
        return None

    words = renamed(argv, options_of(error.ctx.command))

    def given(names: Sequence[str]) -> bool:
        return any(word == name or word.startswith(f"{name}=") for word in words for name in names)

    absent = [
        param.opts[0]
        for param in error.ctx.command.params
        if param.required and param.param_type_name == "option" and not given(param.opts)
    ]
    first = error.param
    if first is not None and first.param_type_name == "argument":
        absent.insert(0, f"{{{first.name}}}")
    if len(absent) < 2:
        return None
    return f"missing: {', '.join(absent)} (`{error.ctx.command_path} --help` explains them)"


def print_version(requested: bool) -> None:
    """`mimic --version`."""
    if requested:
        from importlib.metadata import version

        print(f"mimic-eval {version('mimic-eval')}")
        sys.exit(0)
