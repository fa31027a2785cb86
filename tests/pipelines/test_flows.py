"""The flows and their deployments, with a real Prefect server, worker and command line."""

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

import numpy as np
import pytest
import yaml

from pipelines.flows import artifact_key, progress_line, shortened
from store import FeatureStore
from tasks import sidecue

ROOT = Path(__file__).parent.parent.parent
FLOWS = (
    "prepare",
    "extract-audio",
    "extract-dense",
    "extract-depth3d",
    "extract-exo",
    "extract-frames",
    "train",
    "evaluate",
    "demo",
)


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


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real server on a free port of 127.0.0.1, with a home and an SQLite file of its own."""
    home = tmp_path_factory.mktemp("prefect")
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


@pytest.mark.timeout(300)
def test_a_deployed_extraction_fills_the_store(server: Server, tmp_path: Path) -> None:
    """Server, pool, deployments, worker, run: as docs/operations.md tells a person to do it."""
    sidecue.make(tmp_path / "world", sidecue.SideCueConfig(splits={"test": 2}), workers=1)
    server.prefect("work-pool", "create", "pave", "--type", "process")
    server.prefect("deploy", "--all")
    listed = server.ask("/deployments/filter")
    assert {deployment["name"] for deployment in listed} == {"default"}
    assert len(listed) == len(FLOWS)

    config = {
        "videos": str(tmp_path / "world" / "test"),
        "store": str(tmp_path / "store"),
        "dataset": "clips",
    }
    log = tmp_path / "worker.log"
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "pave", "--name", "test"]
    # not started in the checkout: the deployment remembers where that is
    with running(command, server.environment, log):
        try:
            printed = server.prefect(
                *("deployment", "run", "extract-audio/default", "--watch", "--watch-timeout", "140"),
                *("--param", f"config={json.dumps(config)}"),
            )
        except AssertionError as error:
            raise AssertionError(f"{error}\nworker:\n{log.read_text()}") from error
    assert "Flow run finished successfully" in printed

    store = FeatureStore.open(tmp_path / "store", create=False)
    features = store.snapshot().feature_set("clips", "audio")
    assert features.sample_ids == ["000000.mp4", "000001.mp4"]
    for sample_id in features.sample_ids:
        found = features[sample_id]
        assert found.values.shape == (len(found.timestamps), 1, 64)
        assert np.isfinite(found.values.astype(np.float32)).all()
    assert store.verify().ok

    artifacts = {artifact["key"]: artifact for artifact in server.ask("/artifacts/filter")}
    assert features.record.fingerprint in artifacts["extract-audio-report"]["data"]
    progress = [artifact for artifact in artifacts.values() if artifact["type"] == "progress"]
    assert progress
    assert all(float(artifact["data"]) == 100.0 for artifact in progress)
    tasks = server.ask("/task_runs/filter")
    assert [task["name"].rpartition("-")[0] for task in tasks] == ["extract-audio"]


@pytest.mark.timeout(120)
def test_an_expected_error_is_the_message_of_the_failed_run(server: Server, tmp_path: Path) -> None:
    """Also: nothing of the error is pickled into Prefect's result storage."""
    code = f"""
from pipelines.config import ExtractAudioConfig
from pipelines.flows import extract_audio
extract_audio(ExtractAudioConfig(videos="{tmp_path}/nothing", store="{tmp_path}/store"))
"""
    printed = server.run("-c", code, check=False)
    (run,) = server.ask("/flow_runs/filter", flow_runs={"state": {"type": {"any_": ["FAILED"]}}})
    message = run["state"]["message"]
    assert message == f"there is no file or folder {tmp_path}/nothing; check the path"
    assert message in printed
    assert not (Path(server.environment["PREFECT_HOME"]) / "storage").exists()


def test_every_flow_has_a_deployment_with_valid_parameters() -> None:
    """Loaded as Prefect loads them; the parameters of `prefect.yaml` fit the models of the flows."""
    from prefect.flows import load_flow_from_entrypoint

    declared = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    flows = {}
    for deployment in declared:
        file, _, name = deployment["entrypoint"].partition(":")
        flow = load_flow_from_entrypoint(f"{ROOT / file}:{name}")
        config = flow.validate_parameters(deployment["parameters"])["config"]
        assert type(config).__name__.endswith("Config")
        assert config.model_config["extra"] == "forbid"
        assert deployment["name"] == "default"
        assert deployment["work_pool"] == {"name": "pave"}
        assert "schedule" not in deployment
        assert (deployment.get("concurrency_limit") == 1) == flow.name.startswith(("extract-", "demo"))
        flows[flow.name] = flow
    assert tuple(flows) == FLOWS
    for flow in flows.values():
        assert flow.persist_result is False


def test_news_is_one_line_of_counts_rate_and_time_left() -> None:
    assert progress_line("decode", 30, 120, 0, "", 60.0) == "decode: 30/120, 0.500/s, 180 s left"
    assert progress_line("decode", 120, 120, 2, "v7", 60.0) == "decode: 120/120, 2.0/s, 2 failed, v7"
    assert progress_line("decode", 0, 0, 0, "", 0.0) == "decode: 0/0, 0.000/s"
    assert artifact_key("Extract audio (1/2)") == "extract-audio-1-2-progress"


def test_a_report_of_many_failures_stays_readable() -> None:
    lines = [f"failed: clip {number}" for number in range(1000)]
    short = shortened("\n".join(lines)).splitlines()
    assert short[:200] == lines[:200]
    assert short[200:] == ["... and 800 more lines; the store has them all"]
    assert shortened("all well") == "all well"
