"""Runs console scripts in forks of a process that has imported what they import.

A run of `lmms_eval` spends most of its CPU seconds on imports. `CommandServer` starts this file as a
process that imports them once; each call forks it, and the child runs the console script itself, as
``__main__``, with the call's arguments, environment, working folder and output files, and ends as a Python
process ends: traceback, threads, atexit functions, exit status or signal.

A child differs from a new process in this: it has modules in ``sys.modules`` that the command had not
imported yet, and it shares its parent's hash seed and what libraries read from the environment when they were
imported. So a call whose environment differs from the server's in more than our own variables, which are read
when they are needed, is for a new process (`serves`), and so are the tests that are about a process
(`fresh_command`). `tests/test_command_server.py` compares the two.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import random
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

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
"""Beginnings of the names of variables that no library reads when it is imported."""


def _of_import(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not name.startswith(OUR_VARIABLES)}


class CommandServer:
    """Console scripts of one folder, run in forks; one at a time.

    Args:
        scripts: the folder with the console scripts.
        environment: the variables under which the server imports.
        imports: whether it imports anything.
    """

    def __init__(self, scripts: Path, environment: Mapping[str, str], *, imports: bool = True) -> None:
        self._imports = imports
        self._scripts = scripts
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self.calls = 0

    def serves(self, environment: Mapping[str, str]) -> bool:
        """Whether a fork under these variables behaves as a new process under them does."""
        return _of_import(environment) == _of_import(self._environment)

    def run(
        self, arguments: Sequence[str], environment: Mapping[str, str], cwd: Path | None, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """As `subprocess.run` with captured text output.

        Raises:
            subprocess.TimeoutExpired: the command was killed after `timeout` seconds; with its output.
        """
        script, *rest = arguments
        command = [str(self._scripts / script), *rest]
        request = {"argv": command, "environment": dict(environment), "cwd": str(cwd or Path.cwd())}
        if self._process is None:
            self._start()
        self.calls += 1
        with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
            payload = json.dumps(request).encode()
            socket.send_fds(
                self._socket, [len(payload).to_bytes(8, "big")], [stdout.fileno(), stderr.fileno()]
            )
            self._socket.sendall(payload)
            pid = self._answer()["pid"]
            self._socket.settimeout(timeout)
            expired = False
            try:
                code = self._answer()["returncode"]
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                expired = True
                self._socket.settimeout(None)
                self._answer()
            finally:
                self._socket.settimeout(None)
            written = [_text(stdout), _text(stderr)]
        if expired:
            raise subprocess.TimeoutExpired(command, timeout, *written)
        return subprocess.CompletedProcess(command, code, *written)

    def close(self) -> None:
        """End the server, and the command that it may be running."""
        if self._process is not None:
            self._socket.close()
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno()), *(["imports"] if self._imports else [])],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._socket = ours

    def _answer(self) -> dict[str, Any]:
        line = b""
        while not line.endswith(b"\n"):  # a timeout comes before an answer's first byte: they are one packet
            part = self._socket.recv(1 << 16)
            if not part:
                raise RuntimeError("the command server ended")
            line += part
        answer: dict[str, Any] = json.loads(line)
        return answer


def _text(file: Any) -> str:
    file.seek(0)
    return str(file.read().decode().replace("\r\n", "\n").replace("\r", "\n"))  # as text=True does


def _receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    head, files, _, _ = socket.recv_fds(connection, 8, 2)
    if not head:
        return None
    length, payload = int.from_bytes(head, "big"), b""
    while len(payload) < length:
        payload += connection.recv(length - len(payload))
    return json.loads(payload), list(files)


def _next_call(connection: socket.socket) -> dict[str, Any]:
    """Answer calls for ever; returns, with a call's request, in the child that is to run it."""
    while True:
        received = _receive(connection)
        if received is None:
            os._exit(0)
        request, files = received
        pid = os.fork()
        if pid == 0:
            connection.close()
            for number, file in enumerate(files, start=1):
                os.dup2(file, number)
                os.close(file)
            return request
        for file in files:
            os.close(file)
        connection.sendall(json.dumps({"pid": pid}).encode() + b"\n")
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        with contextlib.suppress(BrokenPipeError):
            connection.sendall(json.dumps({"returncode": code}).encode() + b"\n")


def _prepare() -> None:
    """Import what the commands import, and start no thread that a fork would lose."""
    from mimic_eval.cli import lmms

    lmms._load_when_used("evaluate")
    for package in ("mimic_eval", "mimic_tasks", "model_adapters", "stats", "leaderboard", "finetune"):
        path = importlib.import_module(package).__path__
        for module in pkgutil.walk_packages(path, f"{package}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    for name in IMPORTED:
        importlib.import_module(name)
    assert threading.active_count() == 1, threading.enumerate()
    gc.freeze()  # a child's collections need not look through all of this


def _become(request: dict[str, Any]) -> None:
    """Set in a child what a new process would start with."""
    import numpy

    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    os.chdir(request["cwd"])
    sys.argv[:] = request["argv"]
    sys.path[0] = str(Path(request["argv"][0]).parent)
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
    if "imports" in sys.argv:
        _prepare()
    call = _next_call(socket.socket(fileno=int(sys.argv[1])))
    _become(call)
    _run(call["argv"][0])
