"""A real Prefect server with a home of its own, and the processes around it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pave_process import ROOT


@dataclass(frozen=True)
class Server:
    """A running server: its API, and the environment of commands that talk to it."""

    api: str
    environment: dict[str, str]

    def run(self, *arguments: str, check: bool = True) -> str:
        """Run Python with `arguments` in the checkout; returns all that it printed."""
        finished = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=150,
            check=False,
        )
        assert (finished.returncode == 0) == check, finished.stdout
        return finished.stdout

    def prefect(self, *arguments: str, check: bool = True) -> str:
        """Run the `prefect` command."""
        return self.run("-m", "prefect", "--no-prompt", *arguments, check=check)

    def ask(self, path: str, **body: Any) -> Any:
        """POST to the API."""
        request = urllib.request.Request(
            f"{self.api}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


@contextmanager
def running(command: list[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process in the log's folder; afterwards it and its process group have ended."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=log.parent,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=15)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=15)


def kill_all_with(variable: str) -> None:
    """End every process that has `variable`, as NAME=value, in its environment: those of one test alone."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with suppress(OSError):  # ended meanwhile, or another user's
                if variable.encode() in (folder / "environ").read_bytes().split(b"\0"):
                    os.kill(int(folder.name), signal.SIGKILL)


def wait_until(true: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, seconds: float) -> None:
    """Poll; fails with the process's output when it ends or the time is up."""
    end = time.monotonic() + seconds
    while not true():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.2)


def answers(url: str) -> bool:
    """Whether there is a server at `url` that says it is well."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@contextmanager
def started_server(home: Path) -> Iterator[Server]:
    """A real server on a free port of 127.0.0.1, with a home and an SQLite file of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    api = f"http://127.0.0.1:{port}/api"
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "RAY_"))}
    environment = clean | {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": api,
        "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{home}/prefect.db",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_ENABLED": "false",
        "PREFECT_CLI_COLORS": "false",
        "DO_NOT_TRACK": "1",
        "NO_COLOR": "1",
        "COLUMNS": "200",
    }
    log = home / "server.log"
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    try:
        with running(command, environment, log) as process:
            wait_until(lambda: answers(f"{api}/health"), process, log, seconds=90)
            yield Server(api, environment)
    finally:
        kill_all_with(f"PREFECT_HOME={home}")  # runs of a worker have process groups of their own
