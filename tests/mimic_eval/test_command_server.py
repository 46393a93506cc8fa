"""A command run in a fork of the command server does what it does in a new process."""

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.command_server import ROOT, CommandServer
from tests.conftest import Command, Commands

pytestmark = pytest.mark.slow
RUN = ("lmms_eval", "--tasks", "mimic_counting", "--limit", 3, "--log_samples", "--output_path", "out")
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def fresh_commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """A server of this file; the other one serves no call after a library has set a variable."""
    made = Commands(tmp_path_factory.mktemp("hf_datasets"))
    yield made
    made.server.close()


@pytest.fixture
def script(fresh_commands: Commands, tmp_path: Path) -> Run:
    """Run a Python text as a console script, in the server."""

    def run(
        text: str, *arguments: str, timeout: float = 60, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        file = tmp_path / "script.py"
        file.write_text(text)
        given = {**os.environ, **variables}
        return fresh_commands.server.run([str(file), *arguments], given, tmp_path, timeout)

    return run


def lines(text: str, folder: Path) -> list[str]:
    """Without progress bars and colours; times and the folder replaced."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text.replace(str(folder), "FOLDER"))
    kept = [line for line in text.splitlines() if not re.search(r"\d+%\||\d examples|it/s\]|doc/s\]", line)]
    times = r"\d{4}-?\d\d-?\d\d[ T_]\d\d[:-]?\d\d[:-]?\d\d(\.\d+)?|\d+\.\d+s"
    kept = [re.sub(r"\.run_\w+\.unfinished", "RUN", line) for line in kept]
    return [re.sub(times, "TIME", line) for line in kept if line.strip()]


def files(folder: Path) -> dict[str, Any]:
    """{name without its date: content} of the files of a run."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            name = re.sub(r"\d{8}_\d{6}", "DATE", str(path.relative_to(folder)))
            found[name] = path.read_text()
    return found


def contents(name: str, text: str, folder: Path) -> Any:
    """A file's values but for its times and the addresses of functions."""

    def same(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: same(v) for k, v in value.items() if not re.search("time|date", k)}
        return [same(item) for item in value] if isinstance(value, list) else value

    text = re.sub(r" at 0x[0-9a-f]+>", ">", text.replace(str(folder), "FOLDER"))
    lines = [text] if name.endswith("_results.json") else text.splitlines()
    return [same(json.loads(line)) for line in lines]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((*RUN, "--model", "llava_ov_mask"), 0),
        (("mimic", "compare", "a"), 2),
        (("mimic", "tasks", "list"), 0),
    ],
    ids=["run", "refusal", "list"],
)
def test_a_fork_writes_what_a_new_process_writes(
    arguments: tuple[object, ...], code: int, fresh_commands: Commands, tmp_path: Path
) -> None:
    want, got = tmp_path / "new", tmp_path / "fork"
    fresh_commands.server.start()
    calls = fresh_commands.server.calls
    outcomes = []
    for way, folder in ((fresh_commands.fresh, want), (fresh_commands.forked, got)):
        folder.mkdir()
        outcomes.append(way(*arguments, cwd=folder, MIMIC_CACHE=str(folder / "cache")))
    new, fork = outcomes
    assert fresh_commands.server.calls == calls + 1
    assert (new.returncode, fork.returncode) == (code, code), new.stderr + fork.stderr
    assert fork.args == new.args
    assert lines(fork.stdout, got) == lines(new.stdout, want)
    assert lines(fork.stderr, got) == lines(new.stderr, want)
    ours, theirs = files(got / "out"), files(want / "out")
    assert ours.keys() == theirs.keys()
    assert len(ours) == (2 if "out" in arguments else 0)
    for name, text in ours.items():
        assert contents(name, text, got) == contents(name, theirs[name], want)


def test_arguments_environment_folder_and_input_are_the_calls(script: Run, tmp_path: Path) -> None:
    text = (
        "import os, sys; print(sys.argv[1:], os.environ['MIMIC_X'], os.getcwd(), __name__, sys.stdin.read())"
    )
    done = script(text, "a b", "é", MIMIC_X="y")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"['a b', 'é'] y {tmp_path} __main__ \n"
    assert "MIMIC_X" not in script("import os; print(*os.environ)").stdout


def test_a_call_may_import_the_tests(script: Run) -> None:
    text = "import sys, tests; print(sys.path[1])"
    assert script(text, PYTHONPATH=ROOT).stdout == f"{ROOT}\n"
    server = CommandServer(Path("/"), {"A": "1"})
    assert server.serves({"A": "1", "PYTHONPATH": ROOT})
    assert not server.serves({"A": "1", "PYTHONPATH": f"{ROOT}/tests"})


@pytest.mark.parametrize(
    ("text", "code", "stderr"),
    [
        ("raise SystemExit(7)", 7, ""),
        ("import sys; sys.exit('no')", 1, "no\n"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -9, ""),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -15, ""),
        ("import os; os._exit(3)", 3, ""),
        ("import atexit, sys; atexit.register(lambda: print('end', file=sys.stderr))", 0, "end\n"),
    ],
)
def test_a_child_ends_as_a_process_ends(text: str, code: int, stderr: str, script: Run) -> None:
    done = script(text)
    assert (done.returncode, done.stderr) == (code, stderr)
    assert script("print(1)").stdout == "1\n"  # and the server still answers


def test_an_error_has_its_traceback(script: Run) -> None:
    done = script("def f():\n    raise ValueError('bad')\nf()")
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    assert done.stderr.endswith("ValueError: bad\n")


def test_much_output_on_both_streams_comes_whole(script: Run) -> None:
    done = script(
        "import sys\nfor _ in range(200):\n    print('o' * 50000); print('e' * 50000, file=sys.stderr)"
    )
    assert done.stdout == ("o" * 50000 + "\n") * 200
    assert done.stderr == ("e" * 50000 + "\n") * 200


def test_a_command_past_its_time_is_killed_and_the_server_still_answers(script: Run) -> None:
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        script("import os, time; print(os.getpid(), flush=True); time.sleep(600)", timeout=1)
    output = caught.value.output
    with pytest.raises(ProcessLookupError):
        os.kill(int(output), 0)
    assert script("print(1)").stdout == "1\n"


def test_a_shell_script_is_served_by_stand_ins(fresh_commands: Commands, tmp_path: Path) -> None:
    fresh_commands.server.stand_ins(tmp_path, ["mimic"])
    text = "mimic tasks path | cat && echo '' | MIMIC_DATA=/no mimic tasks path || echo $?; mimic tasks list"
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, env=environment)
    assert done.returncode == 0
    assert done.stderr.startswith("error: MIMIC_DATA=/no: no such folder")
    lines = done.stdout.splitlines()
    assert (lines[0][-8:], lines[1]) == ("embedded", "2")
    assert "mimic_counting" in done.stdout


def test_children_share_no_state(script: Run) -> None:
    text = "import random, numpy, tempfile, lmms_eval as m; print(hasattr(m, 'x')); m.x = 1; "
    text += "print(random.random(), numpy.random.random(), tempfile.mktemp())"
    first, second = script(text).stdout.split(), script(text).stdout.split()
    assert first[0] == second[0] == "False"
    assert not set(first[1:]) & set(second[1:])


def test_a_variable_that_imports_read_is_for_a_new_process(fresh_commands: Commands) -> None:
    server = CommandServer(Path("/"), {"A": "1", "MIMIC_CACHE": "x"})
    assert server.serves({"A": "1", "MIMIC_DATA": "y", "PYTEST_CURRENT_TEST": "z"})
    for other in ({"A": "2"}, {}, {"A": "1", "PYTHONHASHSEED": "0"}, {"A": "1", "HF_HUB_OFFLINE": "1"}):
        assert not server.serves(other)
    fresh_commands.server.start()
    calls = fresh_commands.server.calls
    assert fresh_commands.forked("mimic", "tasks", "path", TZ="Asia/Seoul").returncode == 0
    assert fresh_commands.server.calls == calls


def test_a_library_s_variable_does_not_reach_a_command_and_a_test_s_does(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library may set a variable in this process when it is imported, as `accelerate` does."""
    os.environ["LIBRARY_X"] = "1"
    try:
        assert "LIBRARY_X" not in commands.environment()
        assert commands.server.serves(commands.environment())
        monkeypatch.setenv("LIBRARY_Y", "2")
        monkeypatch.delenv("HOME")
        monkeypatch.setenv("MIMIC_Z", "3")
        environment = commands.environment()
        assert (environment["LIBRARY_Y"], environment["MIMIC_Z"], "HOME" in environment) == ("2", "3", False)
        assert not commands.server.serves(environment)
    finally:
        del os.environ["LIBRARY_X"]


def test_the_server_of_an_ended_session_ends(fresh_command: Command, tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, time; sys.path.insert(0, sys.argv[1]); import command_server as c\n"
        "from pathlib import Path\n"
        "server = c.CommandServer(Path('/'), dict(os.environ), imports=False)\n"
        "server.start()\n"
        "print(server._process.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = fresh_command("python", "-c", code, Path(__file__).parents[1])
    status = Path(f"/proc/{int(done.stdout)}/stat")
    for _ in range(600):
        if not status.exists() or status.read_text().split(") ")[1][0] == "Z":
            return
        time.sleep(0.1)
    pytest.fail("the server still runs")
