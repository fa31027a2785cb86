"""A Prefect server, its worker and the deployments of `prefect.yaml` on this machine, as one thing with a home folder.

    HOME/prefect/       Prefect's own home: database, settings
    HOME/server.log, HOME/worker.log
    HOME/port           of the server
    HOME/deployed       hash of the prefect.yaml that was deployed last, and of which checkout

The processes are told apart from all others by a variable in their environment, which runs of the worker inherit; no
file with process ids can be stale.
"""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.errors import ServerError

if TYPE_CHECKING:
    import psutil

CHECKOUT = Path(__file__).resolve().parents[1]
MARK = "PAVE_SERVER_HOME"
POOL = "pave"
HEARTBEAT_SECONDS = 30  # of a run; the least that Prefect takes
_SILENT_BEATS = (
    10  # that a run misses before it counts as crashed; a server that is away for less ends no live run
)
_START_SECONDS = 120.0
_END_SECONDS = 15.0  # for processes to end by themselves


class LocalServer:
    """The server of a home folder, whether it runs or not."""

    def __init__(self, home: Path) -> None:
        self.home = home.resolve()

    @property
    def url(self) -> str | None:
        """That of its API when it was started last; None where it never was."""
        try:
            return f"http://127.0.0.1:{int((self.home / 'port').read_text())}/api"
        except (OSError, ValueError):
            return None

    def answers(self) -> bool:
        """Whether it runs and is well."""
        if self.url is None or not self._processes("server", "start"):
            return False
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def has_worker(self) -> bool:
        """Whether its worker runs."""
        return bool(self._processes("worker", "start"))

    def num_runs(self) -> int:
        """Flow runs that its worker has running."""
        return len(self._processes("prefect.engine")) + len(self._processes("prefect.flow_engine"))

    def up(self, port: int, say: Callable[[str], None]) -> None:
        """Start what does not run yet. Raises ServerError where the port is taken or something does not start."""
        if self.answers():
            say(f"the server runs already: {self.url}")
        else:
            self._start_server(port, say)
        self._deploy(say)
        self._crash_silent_runs()
        if self.has_worker():
            say("the worker runs already")
        else:
            self._start("worker", ["worker", "start", "--pool", POOL])
            say("the worker is started")

    def down(self, say: Callable[[str], None]) -> int:
        """End worker, runs and server, in this order; the number of processes that were ended."""
        count = 0
        for words in (("worker", "start"), (), ("server", "start")):
            processes = self._processes(*words) if words else self._others()
            count += len(processes)
            _end(processes)
        say(f"ended {count} processes" if count else "nothing was running")
        return count

    def environment(self) -> dict[str, str]:
        """That of commands which talk to it, and of its processes."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        return clean | {
            MARK: str(self.home),
            "PREFECT_HOME": str(self.home / "prefect"),
            "PREFECT_API_URL": str(self.url),
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
            # in memory, its default, they are gone when the server is restarted, and every run is then ended
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
        }

    def _start_server(self, port: int, say: Callable[[str], None]) -> None:
        _end(self._processes("server", "start"))  # one that does not answer
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                raise ServerError(
                    f"port {port} of 127.0.0.1 is taken by another program; give --port with a free one"
                ) from error
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / "port").write_text(f"{port}\n")
        say(f"starting the server on 127.0.0.1:{port} ...")
        process = self._start("server", ["server", "start", "--host", "127.0.0.1", "--port", str(port)])
        end = time.monotonic() + _START_SECONDS
        while not self.answers():
            if process.poll() is not None or time.monotonic() > end:
                raise ServerError(f"the Prefect server did not start; see {self.home / 'server.log'}")
            time.sleep(0.3)

    def _deploy(self, say: Callable[[str], None]) -> None:
        """Deploy a new prefect.yaml; an unchanged one would only pause the schedules that were turned on."""
        declared = hashlib.sha256((CHECKOUT / "prefect.yaml").read_bytes()).hexdigest()
        wanted, note = f"{declared} {CHECKOUT}\n", self.home / "deployed"
        if note.exists() and note.read_text() == wanted:
            say("the deployments are those of prefect.yaml already")
            return
        say("deployments of prefect.yaml ...")
        self._prefect("work-pool", "create", POOL, "--type", "process", "--overwrite")
        self._prefect("deploy", "--all")
        note.write_text(wanted)

    def _start(self, name: str, arguments: list[str]) -> subprocess.Popen[bytes]:
        with (self.home / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "prefect", *arguments],
                cwd=CHECKOUT,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # it outlives the terminal
            )

    def _prefect(self, *arguments: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", *arguments],
            cwd=CHECKOUT,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
            raise ServerError(f"prefect {' '.join(arguments)} failed: {lines[-1] if lines else 'no output'}")

    def _crash_silent_runs(self) -> None:
        """Have the server mark runs as crashed that give no sign of life, so that their slots are free again.

        The worker tells of a run's process that ends; this is for a worker that was killed with its runs.
        """
        os.environ.update(self.environment())  # read when prefect is imported
        from prefect.automations import Automation
        from prefect.client.schemas.objects import StateType
        from prefect.events.actions import ChangeFlowRunState
        from prefect.events.schemas.automations import EventTrigger, Posture
        from prefect.events.schemas.events import ResourceSpecification

        name = "runs without a sign of life are crashed"
        with suppress(ValueError):
            Automation.read(name=name)  # type: ignore[unused-coroutine]  # none outside an event loop
            return
        beat = "prefect.flow-run.heartbeat"
        ends = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed")}
        Automation(
            name=name,
            trigger=EventTrigger(
                after={beat},
                expect={beat, *ends},
                match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
                for_each={"prefect.resource.id"},
                posture=Posture.Proactive,
                threshold=1,
                within=timedelta(seconds=_SILENT_BEATS * HEARTBEAT_SECONDS),
            ),
            actions=[
                ChangeFlowRunState(
                    state=StateType.CRASHED,
                    name="Crashed",
                    force=False,
                    message="the run gives no sign of life, its machine or worker may have died; start it again, "
                    "what was finished is kept",
                )
            ],
        ).create()

    def _processes(self, *words: str) -> list[psutil.Process]:
        """Those of this home whose command has all `words`."""
        return [process for process, command in self._marked() if all(word in command for word in words)]

    def _others(self) -> list[psutil.Process]:
        """Runs, and what they started."""
        return [process for process, command in self._marked() if "server" not in command]

    def _marked(self) -> list[tuple[psutil.Process, list[str]]]:
        import psutil

        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):  # ended meanwhile, or another user's
                if process.pid != os.getpid() and process.environ().get(MARK) == str(self.home):
                    found.append((process, process.cmdline()))
        return found


def _end(processes: list[psutil.Process]) -> None:
    """SIGTERM, and SIGKILL for what stays."""
    import psutil

    for process in processes:
        with suppress(psutil.Error):
            process.terminate()
    _, stay = psutil.wait_procs(processes, timeout=_END_SECONDS)
    for process in stay:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(stay, timeout=_END_SECONDS)
