"""Reading the next batches while the current one is trained on, in a thread of the same process.

Reading is copying, which holds no lock of Python, so a thread keeps up with training; unlike worker processes it
starts at once, sends nothing through pipes or new shared memory, and cannot be hurt by what is forked or spawned.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def read_ahead(items: Iterator[Item], number: int) -> Generator[Item]:
    """The same items; up to `number` of them are taken early by a thread, 0: none and no thread.

    An error of `items` is raised where its item would have come. `close()` ends the thread.
    """
    if number == 0:
        yield from items
        return
    end = object()
    thread = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
    try:
        ahead = deque(thread.submit(next, items, end) for _ in range(number))
        while (item := ahead.popleft().result()) is not end:
            ahead.append(thread.submit(next, items, end))
            yield item  # type: ignore[misc]  # not the end
    finally:
        thread.shutdown(cancel_futures=True)
