"""Reading the results of a Ray job, and noticing that Ray itself is gone.

Ray's native code ends a driver whose Ray has died: after ten seconds to a minute, without a word to Python, so that
nothing is committed and no state is set. So a thread reads the results, and meanwhile the ports of Ray's head and of
this machine's node are tried.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Any, TypeAlias

import ray

from pipelines.errors import RayEndedError

_CHECK_SECONDS = 1.0
_GONE_SECONDS = 3.0  # a port refuses for so long
_CONNECT_SECONDS = 5.0

_Address: TypeAlias = tuple[str, int]


@dataclass(frozen=True)
class _End:
    error: Exception | None


def results(batches: Callable[[], Iterator[Any]]) -> Generator[Any, None, None]:
    """What `batches()` yields, read by a thread of its own.

    Raises what the iterator raises, and RayEndedError when Ray's head or this machine's node stopped listening.
    """
    addresses = _addresses()
    news: SimpleQueue[Any] = SimpleQueue()
    stop = Event()
    Thread(target=_read, args=(batches, news, stop), name="results", daemon=True).start()
    well_at = time.monotonic()
    try:
        while True:
            try:
                item = news.get(timeout=_CHECK_SECONDS)
            except Empty:
                silent = [f"{host}:{port}" for host, port in addresses if not _listens((host, port))]
                if not silent:
                    well_at = time.monotonic()
                elif time.monotonic() - well_at > _GONE_SECONDS:
                    raise ray_ended(f"nothing listens at {', '.join(silent)} any more") from None
                continue
            well_at = time.monotonic()
            if not isinstance(item, _End):
                yield item
            elif item.error is not None:
                raise item.error
            else:
                return
    finally:
        stop.set()


def ray_ended(why: str) -> RayEndedError:
    """The error of a job whose Ray is gone."""
    return RayEndedError(
        f"Ray ended before the extraction did ({why}); finished samples are kept: run the same again, "
        "and it does the rest"
    )


def _read(batches: Callable[[], Iterator[Any]], news: SimpleQueue[Any], stop: Event) -> None:
    try:
        for item in batches():
            news.put(item)
            if stop.is_set():
                return
    except Exception as error:  # raised again by the reader of the queue
        news.put(_End(error))
    else:
        news.put(_End(None))


def _addresses() -> list[_Address]:
    """Of Ray's head, and of the node that this process belongs to."""
    context = ray.get_runtime_context()
    host, _, port = context.gcs_address.rpartition(":")
    mine = [node for node in ray.nodes() if node["NodeID"] == context.get_node_id()]
    nodes = [(node["NodeManagerAddress"], int(node["NodeManagerPort"])) for node in mine]
    return [(host, int(port)), *nodes]


def _listens(address: _Address) -> bool:
    """False only when there is certainly nobody: a machine that is slow to answer may be busy."""
    try:
        socket.create_connection(address, _CONNECT_SECONDS).close()
    except ConnectionRefusedError:
        return False
    except OSError:
        return True
    return True
