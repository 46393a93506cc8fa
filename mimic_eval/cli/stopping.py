"""Ctrl-C and termination: two lines on stderr, what is stored and how to go on, and the signal's exit code.

Imports next to nothing: the line must also come while a command is still importing.
"""

import os
import signal
import sys

TYPE_CHECKING = False  # as `typing` has it, which takes long to import
if TYPE_CHECKING:
    from typing import NoReturn

WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}
_NOTHING = "nothing was written; run the same command to start again"  # a line on each side of "; "

_received: list[int] = []
_main: list[int] = []


class Stopped(KeyboardInterrupt):
    """A signal asked the command to end: raised where it is, so that no half-written file remains."""


def run_until_stopped(module: str) -> None:
    """Call the `run` of a module of the commands; two lines name a signal that ended it, and what is stored.

    Raises:
        SystemExit: 128 and the signal's number, after a signal; 2 if a package of ours is hidden by another;
            else what the command raises.
    """
    _received.clear()
    _main[:] = [os.getpid()]
    for number in WORDS:
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup sets it
            signal.signal(number, _stop)
    try:
        from importlib import import_module

        _check_packages()
        try:
            import_module(f"mimic_eval.cli.{module}").run()
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        _leave()
    except BrokenPipeError:  # as in `mimic report runs | head`
        for stream in (sys.stdout, sys.stderr):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        raise SystemExit(128 + signal.SIGPIPE) from None
    except (Exception, SystemExit):
        if not _received:
            raise
        _leave()  # typer made exit code 130 of it, or a library another exception


def _check_packages() -> None:
    from mimic_eval.records.errors import UserError
    from mimic_eval.records.packages import check_packages

    try:
        check_packages()
    except UserError as error:
        _print(f"error: {error}")
        raise SystemExit(2) from None


def _stop(number: int, _: object) -> None:
    if os.getpid() not in _main:  # a worker that this process has forked: Ctrl-C reaches it too
        if number == signal.SIGINT:
            return  # the command ends it
        os._exit(128 + number)
    _received.append(number)
    if len(_received) > 1:  # the first one did not end it
        _say()
        os._exit(128 + _received[0])
    raise Stopped


def _leave() -> "NoReturn":
    _say()
    raise SystemExit(128 + (_received or [signal.SIGINT])[0]) from None


def _print(line: str) -> None:
    if os.environ.get("MIMIC_RANK", os.environ.get("RANK", "0")) == "0":  # one of several processes prints it
        print(line, file=sys.stderr, flush=True)


def _say() -> None:
    from mimic_eval.records.run import announced_cached

    word = WORDS[signal.Signals((_received or [signal.SIGINT])[0])]
    if (bars := sys.modules.get("tqdm")) is not None:
        for bar in list(getattr(bars.tqdm, "_instances", ())):
            bar.close()  # ends its line
    for line in f"{word}: {announced_cached() or _NOTHING}".split("; "):
        _print(line)
