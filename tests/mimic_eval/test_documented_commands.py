"""Every command that README.md and docs/*.md print is one that its program takes, with these options."""

import fnmatch
import json
import re
import shlex
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from mimic_eval.records import UserError, groups_of
from mimic_eval.studies import parse_study
from mimic_tasks.locate import official_folder, task_folder
from mimic_tasks.sweeps.spec import packaged, parse_sweep
from tests import documented
from tests.conftest import Command
from tests.documented import PAGES, ROOT, SHELL, Documented

COMMANDS = [command for page in PAGES for command in documented.documented(page)]
LMMS = [(one, words) for one in COMMANDS if (words := documented.lmms_arguments(one)) is not None]
MIMIC = [(one, words) for one in COMMANDS if (words := documented.mimic_arguments(one)) is not None]
OTHERS = [one for one in COMMANDS if one not in [other for other, _ in LMMS] + [other for other, _ in MIMIC]]
ONLY_READ = {
    "hf download MUIRBENCH/MUIRBENCH --repo-type dataset --local-dir DIR/MUIRBENCH",
    "pip install .",
    "swift sft training/dataset.yaml --model llava-hf/llava-onevision-qwen2-0.5b-ov-hf ...",
    "accelerate launch --cpu --num_processes 2",
    "accelerate launch",
    "python -m",
}
"""Commands of others' programs, which nothing here can check."""


def _faults(check: Callable[[Documented], None], commands: Sequence[Documented]) -> list[str]:
    faults = []
    for command in commands:
        try:
            check(command)
        except (UserError, typer.TyperException, ValueError, KeyError, AssertionError) as error:
            faults.append(f"{command}: {error}")
    return faults


def test_every_block_names_its_language() -> None:
    """`sh` is run by a test, `bash` is only read: `sh` blocks of a page need nothing but that page."""
    known = {"sh", "bash", "text", "python", "yaml", "json", "toml"}
    wrong = [
        f"{page.name}: {text[:60]}"
        for page in PAGES
        for lang, text in documented.fences(page)
        if lang not in known
    ]
    assert wrong == []
    assert len(LMMS) > 25
    assert len(MIMIC) > 150


def _check_mimic(command: Documented) -> None:
    params = documented.parse_mimic(command, documented.mimic_arguments(command) or [])
    if isinstance(params.get("model_args"), str):
        documented.check_model_args(params["model_args"])


def test_commands_of_mimic_are_taken_by_their_parsers() -> None:
    assert _faults(_check_mimic, [one for one, _ in MIMIC]) == []


@pytest.mark.slow
def test_commands_of_lmms_eval_are_taken_by_upstreams_parser(command: Command, tmp_path: Path) -> None:
    """Its flags and models; the tasks are those of a folder, of a sweep or of the package."""
    (tmp_path / "lines.json").write_text(json.dumps([words for _, words in LMMS]))
    done = command("python", ROOT / "tests/documented.py", tmp_path / "lines.json")
    assert done.returncode == 0, done.stderr
    read = json.loads(done.stdout.splitlines()[-1])
    assert [f"{one}: {said}" for (one, _), said in zip(LMMS, read["said"], strict=True) if said] == []
    models = [(one, _value(words, "--model")) for one, words in LMMS]
    assert [str(one) for one, model in models if model is not None and model not in read["models"]] == []


def _value(words: list[str], flag: str) -> str | None:
    return words[words.index(flag) + 1] if flag in words else None


@cache
def _tasks() -> set[str]:
    folder, official = task_folder(), official_folder()
    kinds = [task.removeprefix("mimic_") for task in folder.tasks]
    swept = {f"mimic_{name}" for name in packaged()}
    return {*folder.tasks, *folder.permuted, *official.tasks, *groups_of(kinds), *swept, "SUBSTITUTED"} | {
        f"{name}_permuted" for name in groups_of(kinds)
    }


def _check_lmms(command: Documented) -> None:
    words = documented.lmms_arguments(command) or []
    for task in (_value(words, "--tasks") or "").split(","):
        assert not task or fnmatch.filter(_tasks(), task), f"no task {task}"
    if str(_value(words, "--model")).endswith("_mask"):
        documented.check_model_args(_value(words, "--model_args") or "")


def test_tasks_and_model_args_of_lmms_eval_exist() -> None:
    assert _faults(_check_lmms, [one for one, _ in LMMS]) == []


def _check_other(command: Documented) -> None:
    words = command.words
    if words[0] == "make":
        makefile = (ROOT / "Makefile").read_text()
        assert words[1] in re.findall(r"^([a-z]+):", makefile, re.MULTILINE)
    elif words[0] == "python" and words[1].endswith(".py"):
        text = (ROOT / words[1]).read_text() + (ROOT / "benchmarks/measuring.py").read_text()
        for word in words[2:]:
            assert not word.startswith("--") or f'"{word}"' in text, f"{words[1]} has no {word}"
    elif words[:2] == ("python", "-c"):
        compile(words[2], "-c", "exec")
    else:
        assert words[0] in SHELL or shlex.join(words) in ONLY_READ, "is neither read nor run"


def test_other_programs() -> None:
    """Targets of make, scripts with their options, configurations; the rest is named in `ONLY_READ`."""
    assert _faults(_check_other, OTHERS) == []
    configs = [
        words[words.index("--config_file") + 1]
        for words in (c.words for c in COMMANDS)
        if "--config_file" in words
    ]
    assert len(configs) >= 4
    assert [name for name in configs if not (ROOT / name).is_file()] == []


def test_commands_of_the_workflow_that_publishes() -> None:
    workflow = yaml.safe_load((ROOT / "docs/leaderboard-pages.yml").read_text())
    runs = [step["run"] for step in workflow["jobs"]["build"]["steps"] if "run" in step]
    assert len(runs) >= 3
    for words, variables in documented.commands("\n".join(runs).replace(".venv/bin/", "")):
        one = Documented("leaderboard-pages.yml", words, variables, language="bash")
        check = _check_mimic if documented.mimic_arguments(one) is not None else _check_other
        assert _faults(check, [one]) == []


def test_only_commands_that_a_page_has_are_left_unread() -> None:
    assert sorted(ONLY_READ - {shlex.join(command.words) for command in COMMANDS}) == []


@pytest.mark.parametrize(("name", "read"), [("studies.md", parse_study), ("sweeps.md", parse_sweep)])
def test_an_example_file_is_read(name: str, read: Any) -> None:
    (text,) = [text for language, text in documented.fences(ROOT / "docs" / name) if language == "yaml"]
    read(yaml.safe_load(text))


def test_python_examples_compile() -> None:
    texts = [text for page in PAGES for language, text in documented.fences(page) if language == "python"]
    assert len(texts) >= 4
    for text in texts:
        compile(text, "page", "exec")


TABLES = [
    ("tasks.md", "build", 20),
    ("studies.md", "reproduce", 10),
    ("training.md", "export-training", 10),
    ("training.md", "finetune", 10),
]


@pytest.mark.parametrize(("page", "name", "least"), TABLES)
def test_a_table_of_options_has_options_of_the_command(page: str, name: str, least: int) -> None:
    known = {
        option
        for param in documented.mimic_parser().commands[name].params
        for option in (*param.opts, *param.secondary_opts)
    }
    tables = re.findall(r"(?:^\|.*\n)+", (ROOT / "docs" / page).read_text(), re.MULTILINE)
    rows = [
        re.findall(r"`(--[\w-]+)", " ".join(line.split("|")[1] for line in table.splitlines()))
        for table in tables
    ]
    best = max(rows, key=lambda options: len(known & set(options)))
    assert len(best) >= least
    assert sorted(set(best) - known) == []


def test_files_that_the_pages_name_exist() -> None:
    """Paths in code, such as `benchmarks/reference.py` or `docs/launch/`, are those of this repository."""
    folders = "benchmarks|docs|finetune|leaderboard|mimic_eval|mimic_tasks|model_adapters|stats|tests"
    missing = []
    for page in PAGES:
        for path in re.findall(rf"`((?:{folders})/[\w./-]*)(?:::\w+)?`", page.read_text()):
            if not (ROOT / path).exists() and not re.search("DATE|NAME", path):
                missing.append(f"{page.name}: {path}")
    assert missing == []


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("mimic build --dcos 5", "No such option"),
        ("mimic bild --docs 5", "no command bild"),
        ("mimic compare --margni ...", "no such option: --margni"),
        ("mimic tune sofa --model-args maks=none --data a --out b", "maks"),
        ("lmms_eval --tasks mimic_count --model llava_ov_mask", "no task mimic_count"),
        ("lmms_eval --tasks mimic --model llava_ov_mask --model_args mask=ar,prefix=true", "prefix"),
        ("make nothing", ""),
        ("python benchmarks/attention.py --nothing", "has no --nothing"),
        ("conda install mimic-eval", "neither read nor run"),
    ],
)
def test_a_wrong_command_is_a_fault(line: str, fault: str) -> None:
    (words,) = [words for words, _ in documented.commands(line)]
    command = Documented("page", words, {}, language="bash")
    check = _check_other
    if documented.mimic_arguments(command) is not None:
        check = _check_mimic
    if documented.lmms_arguments(command) is not None:
        check = _check_lmms
    (said,) = _faults(check, [command])
    assert fault in said
