"""A real Prefect server with a home of its own, and the processes around it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pave_process import ROOT


class Server:
    """A Prefect server on a port of 127.0.0.1 that is its own, with a home and an SQLite file of its own.

    Attributes:
        api: the URL of its API.
        environment: that of commands which talk to it.
    """

    def __init__(self, home: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.api = f"http://127.0.0.1:{self._port}/api"
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("PREFECT_") and name != "RAY_ADDRESS"
        }
        self.environment = clean | {
            "PREFECT_HOME": str(home),
            "PREFECT_API_URL": self.api,
            "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{home}/prefect.db",
            # in memory, its default, they are gone when the server is restarted, and every run is then ended
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
            "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "2",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_UI_ENABLED": "false",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_CLI_COLORS": "false",
            "DO_NOT_TRACK": "1",
            "NO_COLOR": "1",
            "COLUMNS": "200",
        }
        self._log = home / "server.log"

    @contextmanager
    def serving(self) -> Iterator[subprocess.Popen[bytes]]:
        """The server's process, which answers; it has ended afterwards."""
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1"]
        with running([*command, "--port", str(self._port)], self.environment, self._log) as process:
            wait_until(lambda: answers(f"{self.api}/health"), process, self._log, seconds=90)
            yield process

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
        text = _body(request)
        return json.loads(text) if text else None

    def get(self, path: str) -> Any:
        """GET from the API."""
        return json.loads(_body(urllib.request.Request(f"{self.api}{path}")))

    def deploy(self, flow: str, entrypoint: Path, pool: str, folder: Path) -> str:
        """The id of a deployment of a flow of a file, `FILE.py:FUNCTION`, of which one run may run at a time."""
        made: dict[str, str] = self.ask(
            "/deployments/",
            name="default",
            flow_id=self.ask("/flows/", name=flow)["id"],
            entrypoint=str(entrypoint),
            work_pool_name=pool,
            concurrency_limit=1,
            pull_steps=[{"prefect.deployments.steps.set_working_directory": {"directory": str(folder)}}],
        )
        return made["id"]

    def start_run(self, deployment: str, **parameters: Any) -> str:
        """The id of a new run, for a worker to take up."""
        state = {"type": "SCHEDULED"}
        made: dict[str, str] = self.ask(
            f"/deployments/{deployment}/create_flow_run", parameters=parameters, state=state
        )
        return made["id"]

    def state(self, run: str) -> dict[str, Any]:
        """The state of a run."""
        found: dict[str, Any] = self.get(f"/flow_runs/{run}")["state"]
        return found


def _body(request: urllib.request.Request) -> bytes:
    """What the server answers; it is asked again when its database is busy, as Prefect's own client does."""
    for _ in range(10):
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            if error.code != 503:
                raise
        time.sleep(1)
    raise AssertionError(f"{request.full_url} stays unavailable")


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


def processes_with(variable: str) -> Iterator[int]:
    """Every process that has `variable`, as NAME=value, in its environment."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with suppress(OSError):  # ended meanwhile, or another user's
                if variable.encode() in (folder / "environ").read_bytes().split(b"\0"):
                    yield int(folder.name)


def kill_all_with(variable: str) -> None:
    """End every process that has `variable` in its environment: those of one test alone."""
    for process in processes_with(variable):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


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
