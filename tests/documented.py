"""The commands that README.md and docs/*.md print, read by the parsers that would get them.

As a script (`Command` fixture, for upstream's imports): reads the command lines of `lmms_eval` in a JSON file
with upstream's parser, and prints what it says of each, and the names of the models.
"""

import contextlib
import io
import json
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
_FENCE = re.compile(r"^```(.*)\n((?s:.*?))^```$", re.MULTILINE)
_CODE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_PROGRAMS = (
    *("make", "mimic", "lmms_eval", "lmms-eval", "python", "pip", "accelerate", "torchrun"),
    *("hf", "swift", "srun"),
)
SHELL = ("export", "test", "mkdir", "printf", "ls", "cp")
"""Words of a shell and ordinary tools: read no further."""
_ENDS = (";", "&&", "||", "|", "\n")
_SKIPPED = ("do", "done", "then", "fi")


@dataclass(frozen=True)
class Documented:
    """A command as a page prints it.

    Attributes:
        page: the page's name.
        words: program and arguments.
        variables: set before it.
        inline: it is in a sentence: it may leave out what a command needs.
        language: of its block (``sh``: a test runs it), or empty.
    """

    page: str
    words: tuple[str, ...]
    variables: Mapping[str, str]
    inline: bool = False
    language: str = ""

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"

    @property
    def cut(self) -> bool:
        """Whether it is not complete."""
        return self.inline or "..." in self.words


def fences(page: Path) -> list[tuple[str, str]]:
    """The language and the text of each block of a page."""
    return _FENCE.findall(page.read_text(encoding="utf-8"))


def documented(page: Path) -> Iterator[Documented]:
    """All commands of a page, in its blocks and in its sentences."""
    for language, text in fences(page):
        if language in ("sh", "bash"):
            for words, variables in commands(text):
                yield Documented(page.name, words, variables, language=language)
    for code in _CODE.findall(_FENCE.sub("", page.read_text(encoding="utf-8"))):
        code = " ".join(code.split())
        first = code.split()[0] if code.split() else ""
        if " " in code and (first in _PROGRAMS or re.match(r"MIMIC_\w+=", first)) and " / " not in code:
            for words, variables in commands(code):
                yield Documented(page.name, words, variables, inline=True)


def commands(text: str) -> Iterator[tuple[tuple[str, ...], dict[str, str]]]:
    """The simple commands of a shell script, each value of a loop, and what is substituted."""
    text = re.sub(r"\\\n", " ", text)
    inner: list[str] = []

    def substituted(match: re.Match[str]) -> str:
        inner.append(match[1])
        return "SUBSTITUTED"

    text = re.sub(r"\$\(([^()]*)\)", substituted, text)
    for one in inner:
        yield from commands(one)
    exported: dict[str, str] = {}
    loops: dict[str, list[str]] = {}
    for words in _simple(text):
        if words[0] == "for":
            loops[words[1]] = words[3:]
            continue
        if words[0] == "export":
            exported |= dict(word.split("=", 1) for word in words[1:])
            continue
        used = {
            name: values for name, values in loops.items() if re.search(rf"\$\{{?{name}\b", " ".join(words))
        }
        for values in product(*used.values()):
            known = dict(zip(used, values, strict=True))
            filled = [_filled(word, known) for word in words]
            assigned = {}
            while filled and re.match(r"[A-Z_]+=", filled[0]):
                name, _, value = filled.pop(0).partition("=")
                assigned[name] = value
            filled = filled[: next((at for at, word in enumerate(filled) if word in ("<", ">", ">>")), None)]
            if filled:
                yield tuple(filled), exported | assigned


def _simple(text: str) -> Iterator[list[str]]:
    words: list[str] = []
    for line in text.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|<>")
        lexer.whitespace_split = True
        lexer.commenters = "#"
        words = []
        for word in [*lexer, "\n"]:
            if word in _ENDS:
                if words:
                    yield words
                words = []
            elif not (word in _SKIPPED and not words):
                words.append(word)


def _filled(word: str, known: Mapping[str, str]) -> str:
    """A word with the variables of loops filled in; others, which the user's machine sets, are a 1."""
    return re.sub(r"\$\{?(\w+)(?:%%[^}]*)?\}?", lambda match: known.get(match[1], "1"), word)


def lmms_arguments(command: Documented) -> list[str] | None:
    """The arguments of `lmms_eval`, if the command is one under any of its names."""
    words = list(command.words)
    if words[0] in ("srun", "torchrun", "accelerate") and "-m" in words:
        words = ["python", *words[words.index("-m") :]]
    if words[0] in ("lmms_eval", "lmms-eval"):
        return [word for word in words[1:] if word != "..."]
    if words[:3] == ["python", "-m", "mimic_tasks"]:
        return [word for word in words[3:] if word != "..."]
    return None


def mimic_arguments(command: Documented) -> list[str] | None:
    """The arguments of `mimic`, if the command is one under any of its names."""
    words = list(command.words)
    if words[0] == "srun":
        words = words[1:]
    if words[0] in ("torchrun", "accelerate") and "-m" in words:
        words = ["python", *words[words.index("-m") :]]
    if words[0] == "mimic":
        return words[1:]
    if words[:3] == ["python", "-m", "mimic_eval"]:
        return words[3:]
    if words[:3] == ["python", "-m", "finetune"]:
        return ["finetune", *words[3:]]
    return None


@cache
def mimic_parser() -> Any:
    """The parser of `mimic`."""
    import typer.main

    from mimic_eval.cli.commands import app

    return typer.main.get_command(app)


def parse_mimic(command: Documented, arguments: list[str]) -> dict[str, Any]:
    """Have the parser of a command read it.

    Returns:
        The parameters by name.

    Raises:
        typer.TyperException: as a user would get it.
    """
    parser = mimic_parser()
    names = ["mimic"]
    arguments = [word for word in arguments if word != "..."]
    while arguments and hasattr(parser, "commands") and arguments[0] in parser.commands:
        names.append(arguments[0])
        parser = parser.commands[arguments.pop(0)]
    if command.inline and not arguments:
        return {}
    if hasattr(parser, "commands") and len(names) == 1 and arguments[0] not in ("--help", "COMMAND"):
        raise ValueError(f"there is no command {arguments[0]}")
    if arguments[-1:] == ["--help"]:
        return {}
    if command.cut:  # options must exist; their values and what is missing do not matter
        known = {name for param in parser.params for name in (*param.opts, *param.secondary_opts)}
        unknown = [word for word in arguments if word.startswith("--") and word.split("=")[0] not in known]
        if unknown:
            raise ValueError(f"no such option: {unknown[0]}")
        return {}
    with parser.make_context(" ".join(names), arguments) as context:
        params: dict[str, Any] = context.params
        return params


def check_model_args(text: str) -> None:
    """Have the options of our models read a ``--model_args``.

    Raises:
        UserError: as a user would get it.
    """
    from model_adapters.options import AdapterOptions, parse_arg_string

    given = parse_arg_string(text, {})
    given.pop("tuned", None)  # a file that the commands before make
    AdapterOptions.parse(given)


def _upstream(lines: list[list[str]]) -> dict[str, Any]:
    from lmms_eval.__main__ import parse_eval_args
    from lmms_eval.models import list_available_models

    said = []
    for line in lines:
        sys.argv = ["lmms_eval", *line]
        errors = io.StringIO()
        try:
            with contextlib.redirect_stderr(errors):
                parse_eval_args()
            said.append("")
        except SystemExit:
            said.append(errors.getvalue().strip().splitlines()[-1])
    return {"said": said, "models": sorted(list_available_models(include_aliases=True))}


if __name__ == "__main__":
    print(json.dumps(_upstream(json.loads(Path(sys.argv[1]).read_text()))))
