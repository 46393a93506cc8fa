"""A signal ends a command with two lines, what is on the disk and how to go on, and its own exit code."""

import signal
import subprocess
import sys

import pytest

CODE = """
import os, sys, types
from mimic_eval.cli import stoppable
module = types.ModuleType("mimic_eval.cli.made")
def run():
    from mimic_eval.records import announce_cached
    if {kept!r}:
        announce_cached(lambda: {kept!r})
    try:
        os.kill(os.getpid(), {number})
    except BaseException:
        if {other}:
            raise RuntimeError("made of it by a library") from None
        raise
module.run = run
sys.modules["mimic_eval.cli.made"] = module
stoppable("made")
"""
NOTHING = "nothing was written; run the same command to start again"
"""A line on each side of the semicolon."""


@pytest.mark.parametrize("other", [False, True])
@pytest.mark.parametrize("kept", ["", "3 answers are in the journal X; run it again"])
@pytest.mark.parametrize(("number", "word"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")])
def test_a_signal_is_two_lines_and_its_exit_code(
    number: signal.Signals, word: str, kept: str, other: bool
) -> None:
    """Ctrl-C was a traceback in `lmms_eval`, SIGTERM silence."""
    code = CODE.format(kept=kept, number=int(number), other=other)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        128 + number,
        f"{word}: {kept or NOTHING}\n".replace("; ", "\n"),
    )


def test_a_signal_that_the_shell_ignores_stays_ignored() -> None:
    """As nohup sets SIGHUP, and a shell SIGINT of what it starts in the background."""
    start = f"import signal; signal.signal({int(signal.SIGHUP)}, signal.SIG_IGN)"
    code = start + CODE.format(kept="", number=int(signal.SIGHUP), other=False)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("end", ["", "raise SystemExit(0)"])
def test_reader_that_goes_away_is_no_fault(end: str) -> None:
    """`mimic report runs | head`: `error: a file: Broken pipe`, or a traceback at exit."""
    code = (
        "from mimic_eval.cli import commands, stoppable\n"
        "def show(*_, **__):\n    print('line\\n' * 50_000)\n    "
        f"{end or 'pass'}\ncommands.app = show; stoppable('commands')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "line\n"
    process.stdout.close()
    assert (process.wait(60), process.stderr.read()) == (128 + signal.SIGPIPE, "")


def test_nothing_is_imported_before_a_command_can_be_stopped() -> None:
    """Typer's import took half a second, in which Ctrl-C was a traceback."""
    code = (
        "import sys; before = set(sys.modules); import mimic_eval.cli.lmms, mimic_eval.cli.stopping; "
        "print(*sorted(name for name in set(sys.modules) - before if '.' not in name))"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, env={
        "PYTHONPATH": "."
    })  # fmt: skip
    names = set(done.stdout.split())
    assert "mimic_eval" in names, done.stderr
    assert not names & {"typer", "typing", "lmms_eval", "torch", "argparse", "yaml", "json"}
