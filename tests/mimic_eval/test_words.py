"""Options under other spellings, home folders, empty paths, and the rule for outputs that exist."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from mimic_eval.cli import main
from mimic_eval.cli.commands import app
from mimic_eval.cli.words import OLD_NAMES, options_of, renamed
from mimic_eval.records.folders import differences
from tests.makers.runs import binary, permuted, write_run

Run = Callable[..., tuple[int, str]]


def commands(command: Any = None, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each command that can be run, and its words."""
    command = typer.main.get_command(app) if command is None else command
    parts = getattr(command, "commands", {})
    if words and (not parts or command.invoke_without_command):
        yield words, command
    for name, part in parts.items():
        yield from commands(part, (*words, name))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run `mimic` in an empty folder; its exit code and its last line on stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["mimic", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        return int(str(end.value.code)), (capsys.readouterr().err.splitlines() or [""])[-1]

    return run


@pytest.mark.parametrize(
    ("words", "options", "declared"),
    [
        ("--limit 3 --task=a", "--docs --tasks", "--docs 3 --tasks=a"),
        ("--limit 3", "--limit --docs", "--limit 3"),
        ("--model_args a_b=--limit", "--model-args", "--model-args a_b=--limit"),
        ("--model-args x", "--model_args", "--model_args x"),
        ("--force -- --force", "--overwrite", "--overwrite -- --force"),
        ("--nothing_like=it", "--docs", "--nothing_like=it"),
        ("--output_path x", "--out", "--out x"),
    ],
)
def test_published_names_and_other_spellings_are_the_declared_ones(
    words: str, options: str, declared: str
) -> None:
    assert " ".join(renamed(words.split(), options.split())) == declared


def test_no_help_has_two_names_for_one_thing() -> None:
    listed = {" ".join(words): options_of(command) for words, command in commands()}
    assert len(listed) > 30
    for name, options in listed.items():
        assert not [option for option in options if option in OLD_NAMES], name
        assert not [option for option in options if "_" in option], name


def test_each_option_and_argument_is_described_in_a_line() -> None:
    for words, command in commands():
        for param in command.params:
            text = getattr(param, "help", None)
            assert text, (words, param.name)
            assert "\n" not in text.strip(), (words, param.name)


@pytest.mark.parametrize(
    ("words", "missing"),
    [
        (("build",), "--annotations, --images, --out"),
        (("build", "--plan-only"), "--annotations, --images"),
        (("sweep", "counting_n"), "--annotations, --images, --out"),
        (("export-training", "--images", "x"), "--annotations, --out"),
        (("finetune", "--add", "x.json"), "--pretrained, --out"),
    ],
)
def test_what_is_missing_is_named_together(words: tuple[str, ...], missing: str, run: Run) -> None:
    assert run(*words) == (2, f"error: missing: {missing} (`mimic {words[0]} --help` explains them)")


def test_empty_path_is_refused_and_nothing_is_written(run: Run, tmp_path: Path) -> None:
    """`mimic report ""` read the current folder, and `mimic compare a b --out ""` wrote into it."""
    tried = 0
    for words, command in commands():
        paths = [p for p in command.params if "Path" in str(p.type_descriptor.annotation)]
        for param in paths:
            if param.param_type_name == "option":
                assert run(*words, param.opts[0], "") == (
                    2, f"error: {param.opts[0]} is empty: leave it out, or give a value"
                )  # fmt: skip
                assert run(*words, f"{param.opts[0]}=")[0] == 2
            else:
                code, line = run(*words, "")
                assert (code, line.endswith(" is empty: leave it out, or give a value")) == (2, True), words
            tried += 1
    assert tried > 40
    assert list(tmp_path.iterdir()) == []


def test_tilde_is_the_home_folder_where_the_shell_leaves_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "a home é"))
    assert run("scenes", "--n", 1, "--size", 64, "--out=~/two words")[0] == 0
    assert (tmp_path / "a home é" / "two words" / "images").is_dir()
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize("name", ["compare", "report", "robustness"])
def test_tables_are_written_again_and_a_file_is_no_folder(name: str, run: Run, tmp_path: Path) -> None:
    if name == "robustness":
        rows = [row for i in range(3) for row in permuted(i, [[0, 1], [1, 0]], [True, i > 1])]
        metrics = ("exact_match_over_orders",)
        task = {"mimic_counting_permuted": rows}
        runs = [write_run(tmp_path / "a", task, {"mask": "none"}, metrics=metrics)]
    else:
        samples = {"mimic_common": [binary(i, i % 3 > 0) for i in range(6)]}
        runs = [
            write_run(tmp_path / m, samples, {"mask": m}, metrics=("exact_match",)) for m in ("none", "block")
        ]
    out, file = tmp_path / "out", tmp_path / "file"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    file.write_text("mine")
    for _ in range(2):
        assert run(name, *runs, "--out", out)[0] == 0
    assert len(list(out.iterdir())) > 2
    assert run(name, *runs, "--out", file) == (2, f"error: --out {file} is a file: choose a folder")
    assert (out / "mine.txt").read_text() == file.read_text() == "mine"


def test_difference_within_a_list_of_records_is_named() -> None:
    """All arguments of a sweep were printed twice."""
    before = {"sweeps": [{"name": "a", "seed": 0, "cells": [1, 2]}], "label": None}
    now = {"sweeps": [{"name": "a", "seed": 3, "cells": [1, 2]}], "label": None}
    assert differences(before, now) == "--seed (0, now 3)"
    assert differences(before, {**now, "sweeps": []}).startswith("--sweeps ({'name': 'a', 'seed': 0")
