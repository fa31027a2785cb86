"""`pave up`, `pave run` and `pave down`: a server of its own, real and on this machine."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from pave_process import ROOT, invoke
from prefect_server import kill_all_with

from pipelines.errors import PipelineError, ServerError
from pipelines.flow_run_command import run_settings
from pipelines.flow_server import MARK, LocalServer
from tasks import sidecue


def pave(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipelines.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_up_run_and_down(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    sidecue.make(tmp_path / "world", sidecue.SideCueConfig(splits={"test": 2}), workers=1)
    try:
        up = pave("up", "--port", port, "--home", home)
        assert up.returncode == 0, up.stderr
        assert f"http://127.0.0.1:{port}" in up.stdout
        again = pave("up", "--port", port, "--home", home)
        assert "the server runs already" in again.stderr
        assert "the deployments are those of prefect.yaml already" in again.stderr
        assert "the worker runs already" in again.stderr
        assert pave("status", "--home", home).returncode == 0

        settings = (f"videos={tmp_path}/world/test", f"out={tmp_path}/manifest")
        done = pave(
            "run", "prepare", "--home", home, "--watch", *(x for s in settings for x in ("--param", s))
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "state: Completed" in done.stdout
        assert (tmp_path / "manifest" / "manifest.parquet").exists()
        broken = pave("run", "prepare", "--home", home, "--watch", "--param", f"videos={tmp_path}/none")
        assert broken.returncode == 1
        assert f"there is no file or folder {tmp_path}/none" in broken.stdout
        wrong = pave("run", "prepare", "--home", home, "--param", "video=x")
        assert wrong.returncode == 1
        assert "video: Extra inputs are not permitted" in wrong.stderr

        down = pave("down", "--home", home)
        assert down.returncode == 0, down.stderr
        assert LocalServer(home)._marked() == []
        assert pave("status", "--home", home).returncode == 1
    finally:
        kill_all_with(f"{MARK}={home}")


def test_settings_go_into_those_of_the_deployment() -> None:
    defaults = {"videos": "data/videos", "store": "data/store"}
    changes = ("store=/s", "encoder.weights=random:3")
    assert run_settings("extract-audio", defaults, changes) == {
        "videos": "data/videos",
        "store": "/s",
        "encoder": {"weights": "random:3"},
    }
    assert run_settings("extract-audio", defaults, ("manifest=/m",)) == {
        "store": "data/store",
        "manifest": "/m",
    }
    with pytest.raises(PipelineError, match=r"pave run extract-audio: .*weight.*not permitted"):
        run_settings("extract-audio", defaults, ("encoder.weight=x",))
    with pytest.raises(ServerError, match="no flow 'extract-smell'; flows are demo, evaluate, extract-all"):
        run_settings("extract-smell", {}, ())


def test_what_is_not_there_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    none = invoke("run", "prepare", "--home", tmp_path)
    assert none.exit_code == 1
    assert "no Prefect server runs; start one with `pave up`" in none.stderr
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        full = invoke("up", "--port", taken.getsockname()[1], "--home", tmp_path / "home")
    assert full.exit_code == 1
    assert "is taken by another program" in full.stderr
    assert invoke("down", "--home", tmp_path).stdout == "nothing was running\n"


def test_the_server_of_prefects_profile_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/api"
    subprocess.run([sys.executable, "-m", "prefect", "config", "set", f"PREFECT_API_URL={url}"], check=True)
    none = pave("run", "prepare", "--home", tmp_path / "home")
    assert none.returncode == 1
    assert f"no Prefect server answers at {url}" in none.stderr
