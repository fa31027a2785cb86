"""Work on a file from outside in a process of its own, with limits of time and memory."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from extractors.errors import MediaError
from pipelines.memory_limit import memory_limit

MOST_SECONDS = 60.0
MOST_BYTES = 2 * 2**30
Result = TypeVar("Result")


def run_apart(who: str, work: Callable[..., Result], *arguments: Any) -> Result:
    """`work(*arguments)` in a fresh process, so that no file can end or block this one; both must pickle.

    Raises MediaError about `who` where the work does, takes too long or too much memory, fails otherwise, or its
    process dies.
    """
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(sending, work, arguments), daemon=True)
    process.start()
    sending.close()  # the child has its own end: when it dies, ours sees the end of the file
    try:
        if not receiving.poll(MOST_SECONDS):
            raise MediaError(who, f"reading it takes over {MOST_SECONDS:g} s", "give a shorter clip")
        result = receiving.recv()
    except EOFError:
        raise MediaError(who, "the decoder died of it", "check the file, or give another") from None
    finally:
        process.kill()
        process.join()
        receiving.close()
    if isinstance(result, MediaError):
        raise MediaError(who, result.reason, result.hint)
    if isinstance(result, MemoryError):
        raise MediaError(who, "reading it takes too much memory", "give a smaller or a shorter clip")
    if isinstance(result, Exception):
        raise MediaError(who, f"it cannot be read ({type(result).__name__})", "give another")
    done: Result = result
    return done


def _work(results: Connection, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    with memory_limit(MOST_BYTES):
        try:
            result = work(*arguments)
        except Exception as error:
            result = error
        results.send(result)
