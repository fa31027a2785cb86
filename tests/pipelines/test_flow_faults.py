"""What dies under a running flow: nothing is lost or doubled, and the run's state says what to do."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fault_flows import config_of
from pave_process import NOT_NICE, ROOT
from prefect_server import Server, kill_all_with, processes_with, running
from small_disk import run_on_a_small_disk, way_in

from store import FeatureStore
from store.errors import StoreNotFoundError
from tasks import sidecue

HERE = Path(__file__).parent
CLIPS = 12
SECONDS = 180  # until something has happened on a busy machine

pytestmark = pytest.mark.slow  # minutes each


@dataclass
class Faults:
    """A server, a worker and a deployment of `extract-slowly`, all of which can be killed."""

    server: Server
    deployment: str
    worker: subprocess.Popen[bytes]
    worker_log: Path
    restart_server: Callable[[], None]

    def start(self, media: Path, folder: Path, **parameters: Any) -> str:
        """The id of a new run on the clips of `media` into `folder`/store."""
        config = config_of(media, folder / "store").model_dump(mode="json")
        return self.server.start_run(self.deployment, config=config, notes=str(folder), **parameters)

    def wait(self, run: str, *states: str) -> str:
        """The message of the run, once it is in one of the states."""
        self.until(lambda: self.server.state(run)["name"] in states)
        return str(self.server.state(run)["message"])

    def until(self, true: Callable[[], bool]) -> None:
        """Poll; fails with the worker's output."""
        end = time.monotonic() + SECONDS
        while not true():
            assert time.monotonic() < end, self.worker_log.read_text()[-10000:]
            time.sleep(0.2)

    def until_done(self, folder: Path, count: int, run: str) -> None:
        """Wait for features of so many samples, of a run that does not end before."""

        def enough() -> bool:
            state = self.server.state(run)
            assert state["type"] in ("SCHEDULED", "PENDING", "RUNNING"), state["message"]
            return done(folder) >= count

        self.until(enough)

    def log_of(self, run: str) -> list[str]:
        """The run's log lines so far."""
        logs = self.server.ask("/logs/filter", logs={"flow_run_id": {"any_": [run]}})
        return [record["message"] for record in logs]


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory, running_ray: str) -> Iterator[Faults]:
    assert running_ray  # has set what it takes to connect to it in this environment
    home = tmp_path_factory.mktemp("prefect")
    server = Server(home)
    server.environment |= {"PYTHONPATH": f"{HERE}:{ROOT}", NOT_NICE[0]: NOT_NICE[1]}
    log = home / "worker.log"
    command = [sys.executable, "-m", "prefect", "worker", "start", "--type", "process", "--pool", "faults"]
    with ExitStack() as stack:
        stack.callback(kill_all_with, f"PREFECT_HOME={home}")
        serving = stack.enter_context(ExitStack())
        process = serving.enter_context(server.serving())

        def restart() -> None:
            process.kill()
            serving.close()
            serving.enter_context(server.serving())

        server.ask("/work_pools/", name="faults", type="process")
        deployment = server.deploy("extract-slowly", Path("fault_flows.py:extract_slowly"), "faults", HERE)
        worker = stack.enter_context(running(command, server.environment, log))
        yield Faults(server, deployment, worker, log, restart)


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("media")
    sidecue.make(root, sidecue.SideCueConfig(splits={"test": CLIPS}), workers=1)
    return root / "test"


def done(folder: Path) -> int:
    """Samples with features so far."""
    try:
        store = FeatureStore.open(folder / "store", create=False)
    except StoreNotFoundError:  # not yet
        return 0
    (count,) = store.query("SELECT count(*) AS n FROM features").to_pylist()
    return int(count["n"])


def check(folder: Path, least: int, most: int = CLIPS) -> int:
    """Samples with features, each once, in a sound store."""
    store = FeatureStore.open(folder / "store", create=False)
    assert store.verify().ok
    found = [row["sample_id"] for row in store.query("SELECT sample_id FROM features").to_pylist()]
    assert len(found) == len(set(found))
    assert least <= len(found) <= most
    return len(found)


def of_run(run: str, words: bytes = b"") -> list[int]:
    """The processes of a run with these words in their command line."""
    found = []
    for process in processes_with(f"PREFECT__FLOW_RUN_ID={run}"):
        with suppress(OSError):
            if words in Path(f"/proc/{process}/cmdline").read_bytes():
                found.append(process)
    return found


def kill(run: str, words: bytes) -> None:
    """SIGKILL for the one process of the run that has these words in its command line."""
    (process,) = of_run(run, words)
    os.kill(process, signal.SIGKILL)


@pytest.mark.timeout(600)
def test_a_killed_flow_frees_its_slot_and_a_killed_ray_ends_the_next_run(
    faults: Faults, media: Path, tmp_path: Path
) -> None:
    """Of two runs started at once the second waits; each does only what is missing."""
    (tmp_path / "000001.mp4").touch()  # no worker dies here
    first = faults.start(media, tmp_path, seconds=3)
    faults.until_done(tmp_path, 1, first)
    second = faults.start(media, tmp_path, seconds=8)
    faults.until(lambda: faults.server.state(second)["name"] == "AwaitingConcurrencySlot")
    kill(first, b"prefect.engine")
    assert "SIGKILL" in faults.wait(first, "Crashed")
    faults.until(lambda: not of_run(first))  # Ray is gone, too
    kept = check(tmp_path, 1, CLIPS - 1)

    faults.until_done(tmp_path, kept + 1, second)
    kill(second, b"gcs_server")
    message = faults.wait(second, "Failed")
    assert message.startswith("Ray ended before the extraction did")
    assert message.endswith("finished samples are kept: run the same again, and it does the rest")
    faults.until(lambda: not of_run(second))
    kept = check(tmp_path, kept + 1, CLIPS - 1)

    third = faults.start(media, tmp_path, seconds=0)
    faults.wait(third, "Completed")
    check(tmp_path, CLIPS)
    said = f"{CLIPS} samples, {kept} were done, {CLIPS - kept} done now"
    faults.until(lambda: any(said in line for line in faults.log_of(third)))


@pytest.mark.timeout(400)
def test_a_cancelled_flow_ends_ray_and_keeps_what_is_finished(
    faults: Faults, media: Path, tmp_path: Path
) -> None:
    (tmp_path / "000001.mp4").touch()
    run = faults.start(media, tmp_path, seconds=1)
    faults.until_done(tmp_path, 1, run)
    faults.server.ask(f"/flow_runs/{run}/set_state", state={"type": "CANCELLING"})
    faults.until(lambda: not of_run(run, b"prefect.engine"))
    faults.until(lambda: not of_run(run))
    assert faults.wait(run, "Cancelled", "Crashed", "Failed") == "Flow run was cancelled successfully."
    assert faults.server.state(run)["name"] == "Cancelled"
    check(tmp_path, 1, CLIPS - 1)


@pytest.mark.timeout(400)
def test_a_run_outlives_its_workers_and_a_restart_of_the_server(
    faults: Faults, media: Path, tmp_path: Path, running_ray: str
) -> None:
    """Also: what workers log, the table and the links are there in the end."""
    run = faults.start(media, tmp_path, seconds=2, ray=running_ray)
    faults.until_done(tmp_path, 1, run)
    lease = faults.server.state(run)["state_details"]["deployment_concurrency_lease_id"]
    faults.restart_server()
    assert done(tmp_path) < CLIPS
    # the engine ends a run whose lease cannot be renewed
    faults.server.ask(f"/v2/concurrency_limits/leases/{lease}/renew", lease_duration=300)
    faults.wait(run, "Completed")
    assert (tmp_path / "000001.mp4").exists()  # a worker died
    check(tmp_path, CLIPS)

    said = {
        f"extractors.slow: worker: {text}" for text in ("000002.mp4 has an odd header", "the tower is hot")
    }
    faults.until(lambda: said <= set(faults.log_of(run)))
    artifacts = {
        artifact["key"]: artifact["data"]
        for artifact in faults.server.ask("/artifacts/filter", artifacts={"flow_run_id": {"any_": [run]}})
    }
    table = {row["what"]: row["value"] for row in json.loads(artifacts["extract-slowly-table"])}
    assert table["total"] == table["done"] == CLIPS
    assert f"file://{tmp_path}/store" in artifacts["extract-slowly-store"]


@pytest.mark.timeout(400)
def test_ctrl_c_cancels_the_run(faults: Faults, media: Path, tmp_path: Path, running_ray: str) -> None:
    (tmp_path / "000001.mp4").touch()
    code = f"""
from pathlib import Path
from fault_flows import config_of, extract_slowly
folder = Path("{tmp_path}")
extract_slowly(config_of(Path("{media}"), folder / "store"), folder, seconds=1, ray="{running_ray}")
"""
    log = tmp_path / "log"
    with running([sys.executable, "-c", code], faults.server.environment, log) as process:
        faults.until(lambda: done(tmp_path) > 0)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=SECONDS)
    kept = check(tmp_path, 1, CLIPS - 1)
    (run,) = faults.server.ask(
        "/flow_runs/filter",
        flow_runs={"state": {"type": {"any_": ["CANCELLED"]}}},
        limit=1,
        sort="START_TIME_DESC",
    )
    assert (
        run["state"]["message"] == "interrupted; what was finished is kept, the same run goes on from there"
    )
    time.sleep(2)
    assert check(tmp_path, kept, kept)  # nothing works on behind it


@pytest.mark.timeout(400)
def test_a_full_disk_fails_the_run_and_loses_nothing(faults: Faults, media: Path, tmp_path: Path) -> None:
    found = way_in()
    if isinstance(found, str):
        pytest.skip(f"no private file system can be mounted: {found}")
    disk = tmp_path / "disk"
    disk.mkdir()
    script = str(HERE / "full_disk_flow.py")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in faults.server.environment.items():
            patch.setenv(name, value)
        ran = run_on_a_small_disk(found, disk, sys.executable, script, str(disk), str(media))
    assert ran.returncode == 0, ran.stderr[-4000:]
    full, again = json.loads(ran.stdout.splitlines()[-1])
    assert full["state"] == "Failed"
    assert "No space left on device" in full["message"]
    assert "free space" in full["message"].partition(";")[2]  # what to do, wherever the disk got full
    assert "\n" not in full["message"]
    assert again["state"] == "Completed"
    assert set(full["ids"]) < set(again["ids"])
    assert len(again["ids"]) == len(set(again["ids"])) == CLIPS
    assert full["ok"]
    assert again["ok"]
