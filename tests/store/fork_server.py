"""Child processes that start in milliseconds: forked from a server process that has no threads of ours.

The server imports what children need before they are forked; it uses none of it, so that no thread of delta-rs
or zarr is lost in a fork.
"""

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

fork_server = multiprocessing.get_context("forkserver")
# Set when tests are collected, before anything starts the server. pyarrow imports pandas where it is installed.
fork_server.set_forkserver_preload(["store.feature_store", "pytest", "pandas", "torch.utils.data"])


@contextmanager
def child(target: Callable[..., None], *arguments: object) -> Iterator[tuple[BaseProcess, Connection]]:
    """A process that runs `target(*arguments, sender)`, and the end of the pipe that it sends to."""
    receiver, sender = fork_server.Pipe(duplex=False)
    process = fork_server.Process(target=target, args=(*arguments, sender))
    process.start()
    sender.close()
    try:
        with receiver:
            yield process, receiver
    finally:
        kill(process)


def kill(process: BaseProcess) -> None:
    """SIGKILL."""
    process.kill()
    process.join()


def receive(receiver: Connection, timeout: float = 60) -> Any:
    """The next message; fails when there is none in time, or the process is gone."""
    assert receiver.poll(timeout), "the process sends nothing"
    return receiver.recv()


def rest_of(receiver: Connection) -> list[Any]:
    """What a killed process had still sent."""
    messages = []
    try:
        while True:
            messages.append(receiver.recv())
    except (EOFError, OSError):  # OSError: killed in the middle of a message
        return messages
