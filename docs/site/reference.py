"""Pages made of the code: every command's help, and the Python API from docstrings."""

import ast
import importlib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from mimic_eval.cli.commands import app
from mimic_eval.cli.overview import EXAMPLES, GROUPS

MODULES: dict[str, tuple[str, tuple[str, ...]]] = {
    "mimic_eval": ("Models and docs", ()),
    "stats": ("Statistics", ()),
    "mimic_eval.studies": (
        "Studies",
        ("load_results", "packaged", "read_study", "StudyResult", "CellResult"),
    ),
    "finetune.mixture": ("Training data", ()),
    "model_adapters.interventions.base": ("Masks of yours: the kernel", ("Intervention", "LayerView")),
    "model_adapters.interventions.options": ("Masks of yours: the options", ("MaskOptions",)),
    "model_adapters.families.base": ("Families of yours", ("Family",)),
    "mimic_tasks.task_spec": ("Kinds of task of yours", ("TaskSpec",)),
}
"""What is public: the title of each module's page, and its names; without them all of `__all__`."""


def command_pages() -> dict[str, str]:
    """A page for each group of commands, and one for `lmms_eval`, by file name."""
    root = typer.main.get_command(app)
    pages = {}
    for title, names in GROUPS.items():
        parts = [f"# Commands: {title.lower()}"]
        for name in names:
            for words, command in _with_parts((name,), root.commands[name]):  # type: ignore[attr-defined]
                parts.append(_command(words, command))
        pages[f"commands/{title.lower()}.md"] = "\n\n".join(parts) + "\n"
    pages["commands/lmms_eval.md"] = _lmms_eval()
    return pages


def _with_parts(words: tuple[str, ...], command: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield words, command
    for name, part in getattr(command, "commands", {}).items():
        yield from _with_parts((*words, name), part)


def _command(words: tuple[str, ...], command: Any) -> str:
    """A command's help as Markdown."""
    name = " ".join(("mimic", *words))
    context = command.make_context(name, [], resilient_parsing=True)
    usage = " ".join((name, *command.collect_usage_pieces(context)))
    parts = [f"## {name}", plain(command.help or ""), f"```text\n{usage}\n```"]
    records = [
        record
        for param in command.get_params(context)
        if (record := param.get_help_record(context)) and param.name not in ("help", "install_completion")
    ]
    if records:
        rows = [f"| `{_cell(names)}` | {plain(text)} |" for names, text in records]
        parts.append("\n".join(["| argument | meaning |", "|---|---|", *rows]))
    if " ".join(words) in EXAMPLES:
        parts.append(f"Example:\n\n```text\n{EXAMPLES[' '.join(words)]}\n```")
    return "\n\n".join(parts)


def _lmms_eval() -> str:
    """The flags of `lmms_eval`, which are upstream's, as its source has them."""
    rows = [f"| `{_cell(flags)}` | {plain(text)} |" for flags, text in upstream_flags()]
    return "\n".join(
        [
            "# Commands: lmms_eval",
            "",
            "`lmms_eval` is lmms-eval's command with the tasks and models of this package. Its flags are "
            "upstream's, and this table is read from the version that is installed. What our models take in "
            "`--model_args` is in [the models](/models.md); what differs from upstream is in "
            "[commands and files](/commands.md#lmms_eval).",
            "",
            "| flag | meaning |",
            "|---|---|",
            *rows,
            "",
        ]
    )


def upstream_flags() -> list[tuple[str, str]]:
    """Flags and help texts of upstream's parser, read from its source: importing it takes ten seconds."""
    spec = importlib.util.find_spec("lmms_eval")
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse((Path(spec.origin).parent / "__main__.py").read_text(encoding="utf-8"))
    listed = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument":
            flags = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
            helps = [word.value for word in node.keywords if word.arg == "help"]
            text = helps[0].value if helps and isinstance(helps[0], ast.Constant) else ""
            listed.append((", ".join(map(str, flags)), str(text)))
    return listed


def python_pages() -> dict[str, str]:
    """A page for each module with public names, by file name."""
    pages = {}
    for module, (title, names) in MODULES.items():
        if not names:
            names = tuple(importlib.import_module(module).__all__)
        parts = [f"# {title}: `{module}`"]
        for name in sorted(names, key=lambda name: _directive(module, name) != "autofunction"):
            if not name.startswith("__"):
                parts.append(f"```{{eval-rst}}\n.. {_directive(module, name)}:: {module}.{name}\n```")
        pages[f"python/{module}.md"] = "\n\n".join(parts) + "\n"
    return pages


def _directive(module: str, name: str) -> str:
    value = getattr(importlib.import_module(module), name)
    if isinstance(value, type):
        return "autoexception" if issubclass(value, BaseException) else "autoclass"
    return "autofunction"


def plain(text: str) -> str:
    """A text as Markdown that shows the same words; options and what has an underscore become code."""
    words = " ".join(text.split())
    parts = re.split(r"(`[^`]*`|(?<![\w-])--[a-z][\w-]*|\b\w+_[\w*]+\b)", words)
    for number, part in enumerate(parts):
        if number % 2:
            parts[number] = part if part.startswith("`") else f"`{part}`"
        else:
            parts[number] = re.sub(r"([*<\[|])", r"\\\1", part)
    return "".join(parts)


def _cell(text: str) -> str:
    return text.replace("|", r"\|")
