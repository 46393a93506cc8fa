"""Work on many items in several processes, where that pays."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import TypeVar

_MOST = 8

Item = TypeVar("Item")
Result = TypeVar("Result")
Pipes = Sequence[tuple[Connection, Connection]]


def in_processes(work: Callable[[Item], Result], items: Sequence[Item], *, least: int) -> Iterator[Result]:
    """The results of some items, in their order.

    Each process takes every n-th item. It is a fork of this one, so `work` may use what is in memory here;
    what it changes is lost. On other systems than Linux, with one core, or with few items, all is done here.

    Args:
        work: a function that only computes.
        items: what it takes.
        least: items from which on processes are worth their start.

    Raises:
        Exception: what `work` raised, at the item's turn.
        RuntimeError: a process was killed.
    """
    count = min(len(os.sched_getaffinity(0)), _MOST) if sys.platform == "linux" else 1
    if count < 2 or len(items) < least:
        yield from map(work, items)
        return
    context = multiprocessing.get_context("fork")
    pipes = [context.Pipe(duplex=False) for _ in range(count)]
    processes = [
        context.Process(target=_serve, args=(work, items[i::count], i, pipes), daemon=True)
        for i in range(count)
    ]
    try:
        for process in processes:
            process.start()
        for _, sending in pipes:
            sending.close()
        for i in range(len(items)):
            try:
                done, result = pipes[i % count][0].recv()
            except EOFError:
                raise RuntimeError("a process of the build was killed: too little memory?") from None
            if not done:
                raise result
            yield result
    finally:
        for process in processes:
            if process.pid is not None:
                process.terminate()
                process.join()
        for receiving, sending in pipes:
            receiving.close()
            sending.close()


def _serve(work: Callable[[Item], Result], items: Sequence[Item], number: int, pipes: Pipes) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its processes
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    out = pipes[number][1]
    for receiving, sending in pipes:  # so that a write fails once the parent is gone
        receiving.close()
        if sending is not out:
            sending.close()
    try:
        for item in items:
            out.send((True, work(item)))
    except BrokenPipeError:
        pass
    except Exception as error:  # noqa: BLE001 - the parent raises it
        out.send((False, error))
