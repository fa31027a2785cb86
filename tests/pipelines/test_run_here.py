"""`pave run --here`: a flow in the command's own process, with a temporary server."""

import os
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from pave_process import start_pave

from pipelines.flow_server import LocalServer
from tasks import sidecue


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        monkeypatch.delenv(name)


def run_here(folder: Path, *arguments: object) -> "subprocess.Popen[str]":
    return start_pave(folder, "run", "prepare", "--here", "--home", folder / "home", *arguments)


def processes_of(home: Path) -> list[psutil.Process]:
    return [process for process, _ in LocalServer(home)._marked()]


@pytest.mark.timeout(180)
def test_a_flow_runs_here_and_its_server_ends_with_it(tmp_path: Path) -> None:
    sidecue.make(tmp_path / "world", sidecue.SideCueConfig(splits={"test": 2}), workers=1)
    settings = (f"videos={tmp_path}/world/test", f"out={tmp_path}/manifest")
    process = run_here(tmp_path, *(x for setting in settings for x in ("--param", setting)))
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, output + errors
    assert "state: Completed" in output
    assert (tmp_path / "manifest" / "manifest.parquet").exists()
    assert processes_of(tmp_path / "home") == []
    with sqlite3.connect(tmp_path / "home" / "prefect" / "prefect.db") as database:
        runs = database.execute("select name, state_type from flow_run").fetchall()
    assert [state for _, state in runs] == ["COMPLETED"]


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_failed_flow_is_told_and_a_killed_one_leaves_no_server(tmp_path: Path) -> None:
    failed = run_here(tmp_path, "--param", f"videos={tmp_path}/none")
    output, errors = failed.communicate(timeout=120)
    assert failed.returncode == 1, output + errors
    assert f"state: Failed: there is no file or folder {tmp_path}/none" in output

    killed = run_here(tmp_path, "--param", f"videos={tmp_path}")
    until = time.monotonic() + 60
    while not processes_of(tmp_path / "home") and time.monotonic() < until:
        time.sleep(0.1)
    servers = processes_of(tmp_path / "home")
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    _, alive = psutil.wait_procs(servers, timeout=60)
    assert servers
    assert not alive
