"""Runs console scripts in forks of a process that has imported what they import.

A run of `lmms_eval` spends most of its CPU seconds on imports. `CommandServer` starts this file as a
process that imports them once; each call forks it, and the child runs the console script itself, as
``__main__``, with the call's arguments, environment, working folder and output files, and ends as a Python
process ends: traceback, threads, atexit functions, exit status or signal.

A child differs from a new process in this: it has modules in ``sys.modules`` that the command had not
imported yet, and it shares its parent's hash seed and what libraries read from the environment when they were
imported. So a call whose environment differs from the server's in more than our own variables, which are read
when they are needed, and `ROOT` to import from, is for a new process (`serves`), and so are the tests that
are about a process (`fresh_command`). `tests/mimic_eval/test_command_server.py` compares the two.
"""

import atexit
import contextlib
import gc
import importlib
import inspect
import json
import os
import pkgutil
import random
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

IMPORTED = (
    "lmms_eval.__main__",
    "lmms_eval.cli.dispatch",
    "transformers.modeling_utils",
    "transformers.models.auto.modeling_auto",
    "transformers.models.llava_onevision.modeling_llava_onevision",
    "transformers.models.qwen2_vl.modeling_qwen2_vl",
    "transformers.models.internvl.modeling_internvl",
)
"""What commands import late."""
OUR_VARIABLES = ("MIMIC_", "PYTEST_")
"""Beginnings of names of variables that no library reads when imported."""

ROOT = str(Path(__file__).parents[1])
"""Where `tests` is, for a call with this as PYTHONPATH; its packages are those that are imported already."""

HEAD_BYTES = 8
"""Of a request: its length, with which the files are sent."""


def request(
    connection: socket.socket,
    command: Sequence[str],
    environment: Mapping[str, str],
    cwd: str,
    files: Sequence[int],
) -> None:
    """Send a call: its words, variables and folder, and the files for its standard streams."""
    call = {"argv": list(command), "environment": dict(environment), "cwd": cwd}
    payload = json.dumps(call).encode()
    socket.send_fds(connection, [len(payload).to_bytes(HEAD_BYTES, "big")], list(files))
    connection.sendall(payload)


def received(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """A call as it was sent, and its files."""
    head, files, _, _ = socket.recv_fds(connection, HEAD_BYTES, 3)
    length, payload = int.from_bytes(head, "big"), b""
    while len(payload) < length:
        payload += connection.recv(length - len(payload))
    return json.loads(payload), list(files)


def _of_import(environment: Mapping[str, str]) -> dict[str, str]:
    found = {name: value for name, value in environment.items() if not name.startswith(OUR_VARIABLES)}
    if found.get("PYTHONPATH") == ROOT:
        del found["PYTHONPATH"]
    return found


class Running:
    """A command that the server runs, in a process `pid`."""

    def __init__(
        self, command: Sequence[str], connection: socket.socket, stdout: IO[bytes], stderr: IO[bytes]
    ) -> None:
        self._command, self._connection, self._written = command, connection, (stdout, stderr)
        self._answers = connection.makefile("r")
        self.pid = int(self._answers.readline())

    def ended(self, timeout: float = 0) -> bool:
        """Whether it ends, within as many seconds."""
        return bool(select.select([self._connection], [], [], timeout)[0])

    def end(self, number: int = signal.SIGKILL, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Its outcome after a signal, which comes too late if it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)
        return self.wait(timeout)

    def wait(self, timeout: float) -> subprocess.CompletedProcess[str]:
        """Its outcome.

        Raises:
            subprocess.TimeoutExpired: the command was killed after `timeout` seconds; with its output.
        """
        expired = not self.ended(timeout)
        if expired:
            os.kill(self.pid, signal.SIGKILL)
        code = int(self._answers.readline())
        written = [_text(file) for file in self._written]
        if expired:
            raise subprocess.TimeoutExpired(list(self._command), timeout, *written)
        return subprocess.CompletedProcess(list(self._command), code, *written)


class CommandServer:
    """Console scripts of one folder, run in forks of one process, which this one's end ends.

    Args:
        scripts: the folder with the console scripts.
        environment: the variables under which the server imports.
        imports: whether it imports anything.
    """

    def __init__(self, scripts: Path, environment: Mapping[str, str], *, imports: bool = True) -> None:
        self._scripts = scripts
        self._environment = dict(environment)
        self._imports = imports
        self._process: subprocess.Popen[bytes] | None = None
        self.calls = 0

    def serves(self, environment: Mapping[str, str]) -> bool:
        """Whether a fork under these variables behaves as a new process under them does."""
        return _of_import(environment) == _of_import(self._environment)

    @property
    def runs(self) -> bool:
        """Whether it is started."""
        return self._process is not None

    def run(
        self, arguments: Sequence[str], environment: Mapping[str, str], cwd: Path | None, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """As `subprocess.run` with captured text output; the script may be any Python file.

        Raises:
            subprocess.TimeoutExpired: the command was killed after `timeout` seconds; with its output.
        """
        with self.running(arguments, environment, cwd) as call:
            return call.wait(timeout)

    @contextlib.contextmanager
    def running(
        self, arguments: Sequence[str], environment: Mapping[str, str], cwd: Path | None
    ) -> Iterator["Running"]:
        """A command that has been started, as by `subprocess.Popen`."""
        script, *rest = arguments
        command = [str(self._scripts / script), *rest]
        self.start()
        self.calls += 1
        with (
            socket.socket(socket.AF_UNIX) as connection,
            open(os.devnull, "rb") as stdin,
            tempfile.TemporaryFile() as stdout,
            tempfile.TemporaryFile() as stderr,
        ):
            connection.connect(str(self._folder / "socket"))
            files = [file.fileno() for file in (stdin, stdout, stderr)]
            request(connection, command, environment, str(cwd or Path.cwd()), files)
            yield Running(command, connection, stdout, stderr)

    def stand_ins(self, folder: Path, names: Sequence[str]) -> None:
        """Write console scripts that have the server run those of the same names, for shell scripts."""
        self.start()
        for name in names:
            text = f"""#!{sys.executable} -IS
from __future__ import annotations
import json, os, socket, sys
HEAD_BYTES = {HEAD_BYTES}
{inspect.getsource(request)}
connection = socket.socket(socket.AF_UNIX)
connection.connect({str(self._folder / "socket")!r})
command = [{str(self._scripts / name)!r}, *sys.argv[1:]]
request(connection, command, dict(os.environ), os.getcwd(), [0, 1, 2])
pid, code = connection.makefile("r")
sys.exit(int(code) if int(code) >= 0 else 128 - int(code))
"""
            file = folder / name
            file.write_text(text)
            file.chmod(0o755)

    def start(self) -> None:
        """Start the server, unless it runs."""
        if self._process is not None:
            return
        self._folder = Path(tempfile.mkdtemp(prefix="commands"))
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self._folder / "socket"))
        listener.listen()
        self._alive, theirs = socket.socketpair()
        with listener, theirs:
            numbers = [listener.fileno(), theirs.fileno()]
            self._process = subprocess.Popen(
                [sys.executable, __file__, *map(str, numbers), *(["imports"] if self._imports else [])],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=numbers,
                start_new_session=True,
            )

    def close(self) -> None:
        """End the server, and the commands that it runs."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._alive.close()
            shutil.rmtree(self._folder)
            self._process = None


def _text(file: Any) -> str:
    file.seek(0)
    return str(file.read().decode().replace("\r\n", "\n").replace("\r", "\n"))  # as text=True does


def _next_call(listener: socket.socket, alive: socket.socket) -> dict[str, Any]:
    """Accept calls until `alive` ends; returns, with a call's request, in the child that is to run it."""
    while True:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if alive in select.select([listener, alive], [], [])[0]:
            os._exit(0)
        connection, _ = listener.accept()
        if os.fork() == 0:
            break
        connection.close()
    listener.close()
    alive.close()
    call, files = received(connection)
    pid = os.fork()
    if pid == 0:
        connection.close()
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        return call
    for file in (0, 1, 2, *files):
        os.close(file)
    with contextlib.suppress(BrokenPipeError):  # the caller may have been killed
        connection.sendall(f"{pid}\n".encode())
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        connection.sendall(f"{code}\n".encode())
    os._exit(0)


def _prepare() -> None:
    """Import what the commands import, and start no thread that a fork would lose."""
    from mimic_eval.cli.lmms import run as lmms

    lmms.load_when_used("evaluate")
    for package in ("mimic_eval", "mimic_tasks", "model_adapters", "stats", "leaderboard", "finetune"):
        path = importlib.import_module(package).__path__
        for module in pkgutil.walk_packages(path, f"{package}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    for name in IMPORTED:
        importlib.import_module(name)
    assert threading.active_count() == 1, threading.enumerate()
    gc.freeze()  # a child's collections need not look through all of this


def _become(call: dict[str, Any]) -> None:
    """Set in a child what a new process would start with."""
    import numpy

    os.environ.clear()
    os.environ.update(call["environment"])
    time.tzset()
    os.chdir(call["cwd"])
    sys.argv[:] = call["argv"]
    added = [ROOT] if os.environ.get("PYTHONPATH") == ROOT else []
    sys.path[:1] = [str(Path(call["argv"][0]).parent), *added]
    random.seed()
    numpy.random.seed()


def _run(script: str) -> NoReturn:
    """Run a script to a process's end, but for the destruction of all that was imported (3 CPU seconds)."""
    code: Any = 0
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        code = end.code if end.code is not None else 0
        if not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    except BaseException as error:  # noqa: BLE001  # the interpreter's own last handler
        sys.excepthook(type(error), error, error.__traceback__)
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as an interpreter does first
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code & 0xFF)


if __name__ == "__main__":
    sys.path[0] = str(Path(sys.executable).parent)  # instead of this folder
    if "imports" in sys.argv:
        _prepare()
    own = _next_call(*(socket.socket(fileno=int(number)) for number in sys.argv[1:3]))
    _become(own)
    _run(own["argv"][0])
