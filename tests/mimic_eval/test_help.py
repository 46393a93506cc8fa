"""`mimic --help` shows every command under a heading, with an example that the command takes."""

import shlex
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main

from mimic_eval.cli.commands import app, run
from mimic_eval.cli.overview import EXAMPLES, GROUPS


def _commands(group: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        yield " ".join((*words, name)), command
        if hasattr(command, "commands"):
            yield from _commands(command, (*words, name))


COMMANDS = dict(_commands(typer.main.get_command(app)))


def test_each_command_is_under_one_heading() -> None:
    listed = [name for names in GROUPS.values() for name in names]
    assert sorted(listed) == sorted(name for name in COMMANDS if " " not in name)


def test_each_command_that_does_something_has_an_example() -> None:
    assert {
        name for name, command in COMMANDS.items() if name == "diagnose" or not hasattr(command, "commands")
    } == set(EXAMPLES)


@pytest.mark.parametrize("name", sorted(EXAMPLES.keys() - {"tasks path"}))  # of `lmms-eval`
def test_an_example_has_options_that_exist(name: str) -> None:
    words = shlex.split(EXAMPLES[name])
    assert words[0] == "mimic"
    given = words[1 + len(name.split()) :]
    assert words[1 : 1 + len(name.split())] == name.split()
    command = COMMANDS[name]
    context = command.make_context(name, given, resilient_parsing=True)
    assert context.args == []
    absent = [
        param.name
        for param in command.params
        if param.required and context.params.get(param.name) in (None, (), [])
    ]
    assert absent == []


def _run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> Any:
    monkeypatch.setattr(sys, "argv", ["mimic", *words])
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as ended:
        run()
    out = capsys.readouterr()
    return ended.value.code, out.out, out.err


def test_the_help_fits_and_cuts_no_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = _run(capsys, monkeypatch, "-h")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 100
    assert "..." not in out.replace("[ARGS]...", "")
    assert [line for line in out.splitlines() if line in ("Data:", "Results:", "Models:")] == [
        *("Data:", "Results:", "Models:")
    ]
    code, out, _ = _run(capsys, monkeypatch, "score", "-h")
    assert code == 0
    assert out.endswith("  Example:\n    mimic score counting answers.jsonl\n")


def test_the_version(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from mimic_eval import __version__

    assert _run(capsys, monkeypatch, "--version") == (0, f"mimic-eval {__version__}\n", "")


def test_what_is_missing_is_said_at_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = _run(capsys, monkeypatch, "review", "score")
    assert (code, out) == (2, "")
    assert err == "error: missing: {answers}, --data, --out (`mimic review score --help` explains them)\n"
    code, _, err = _run(capsys, monkeypatch, "tune", "sofa")
    assert (code, err) == (2, "error: Missing option '--out'.\n")
