"""Work that another thread does while the model runs, in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ahead(
    thread: Executor, call: Callable[[T], R], items: Iterable[T], *, most: Callable[[], int]
) -> Iterator[tuple[T, "Future[R]"]]:
    """Each item with its call, begun while the caller was still busy with earlier ones.

    Where `items` fails, those that came before are handed out first.

    Args:
        thread: runs the calls.
        call: of an item.
        items: read no further than needed.
        most: how many calls may wait for the caller, at least 1; read each time.
    """
    begun: deque[tuple[T, Future[R]]] = deque()
    source = iter(items)
    while True:
        try:
            item = next(source)
        except StopIteration:
            yield from begun
            return
        except Exception:
            yield from begun
            raise
        begun.append((item, thread.submit(call, item)))
        while len(begun) > most():
            yield begun.popleft()


def grouped(
    items: Iterable[T], *, size: Callable[[], int], weight: Callable[[T], int] = lambda item: 1
) -> Iterator[list[T]]:
    """Items in lists of a total weight of at most `size`, or of one item.

    Args:
        items: in order.
        size: read again for each item.
        weight: of an item.
    """
    group: list[T] = []
    total = 0
    for item in items:
        limit, added = size(), weight(item)
        if group and total + added > limit:
            yield group
            group, total = [], 0
        group.append(item)
        total += added
        if total >= limit:
            yield group
            group, total = [], 0
    if group:
        yield group
