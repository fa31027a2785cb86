"""The flows and their deployments, with a real Prefect server, worker and command line."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from pave_process import ROOT
from prefect_server import Server, running, wait_until

from pipelines.flow_progress import artifact_key, progress_line
from pipelines.flow_stage import shortened
from store import FeatureStore
from tasks import sidecue

FLOWS = (
    "prepare",
    "extract-audio",
    "extract-dense",
    "extract-depth3d",
    "extract-exo",
    "extract-frames",
    "extract-all",
    "train",
    "evaluate",
    "retrain",
    "maintain",
    "demo",
)


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
        assert not any(schedule["active"] for schedule in deployment.get("schedules", ()))
        assert ("schedules" in deployment) == (flow.name in ("extract-all", "retrain", "maintain"))
        assert (deployment.get("concurrency_limit") == 1) == (flow.name not in ("prepare", "evaluate"))
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


@pytest.mark.timeout(280)
@pytest.mark.slow
@pytest.mark.parametrize("end", ["finishes", "is killed"])
def test_two_deployments_do_not_write_one_channel_at_once(server: Server, tmp_path: Path, end: str) -> None:
    """A run waits while another holds the writer's slot; that of a killed one is free when its lease has ended."""
    sidecue.make(tmp_path / "world", sidecue.SideCueConfig(splits={"test": 1}), workers=1)
    store = tmp_path / "store"
    holder = f"""
import pathlib, time
from prefect import flow
from pipelines import flow_slots
flow_slots.LEASE_SECONDS = 60.0  # the shortest that Prefect has
@flow
def other_writer():
    with flow_slots.holding(flow_slots.writer_slots({str(store)!r}, ["audio"])):
        print("holds", flush=True)
        while not pathlib.Path({str(tmp_path / "go")!r}).exists():
            time.sleep(0.1)
other_writer()
"""
    extraction = f"""
from pipelines.config import ExtractAudioConfig
from pipelines.flows import extract_audio
extract_audio(ExtractAudioConfig(videos="{tmp_path}/world/test", store={str(store)!r}))
print("extracted", flush=True)
"""
    logs = tmp_path / "holder.log", tmp_path / "extraction.log"
    with running([sys.executable, "-c", holder], in_checkout(server), logs[0]) as other:
        wait_until(lambda: "holds" in logs[0].read_text(), other, logs[0], seconds=60)
        with running([sys.executable, "-c", extraction], in_checkout(server), logs[1]) as waiting:
            wait_until(lambda: "waits for 1 of 1" in logs[1].read_text(), waiting, logs[1], seconds=60)
            time.sleep(5)
            assert not store.exists()
            if end == "finishes":
                (tmp_path / "go").touch()
            else:
                other.kill()
            wait_until(lambda: "extracted" in logs[1].read_text(), waiting, logs[1], seconds=150)
    assert len(FeatureStore.open(store, create=False).snapshot().feature_set("test", "audio")) == 1


def in_checkout(server: Server) -> dict[str, str]:
    """The server's environment, for processes that import this checkout from another folder."""
    return server.environment | {"PYTHONPATH": str(ROOT)}
