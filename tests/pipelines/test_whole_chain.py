"""From media to a promoted patch by `prefect deployment run` alone, on SideCue, with a real server and worker."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from prefect_server import Server, running
from tiny_base import write_tiny_base

from store import FeatureStore
from tasks import sidecue

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_prepare_extract_train_evaluate_and_promote(server: Server, tmp_path: Path) -> None:
    sidecue.make(tmp_path / "world", sidecue.SideCueConfig(splits={"train": 12, "test": 6}), workers=1)
    base = str(write_tiny_base(tmp_path / "base"))
    store, manifest = str(tmp_path / "store"), str(tmp_path / "manifest")
    data = {"store": store, "instructions": f"{manifest}/instructions.parquet", "split": "train"}
    source = {"task": "sidecue", "root": str(tmp_path / "world"), "out": manifest}
    audio = {
        "weights": "random:0",
        "embed_dim": 64,
        "num_blocks": 2,
        "num_heads": 4,
        "out_dim": 64,
        "stream": 0,
    }
    encoders = {"audio": audio, "frames": {"base": base, "num_frames": 4}}
    training: dict[str, Any] = {
        "base": base,
        "out": str(tmp_path / "run"),
        "data": data,
        "channels": {"audio": {"embed_dim": 16, "hidden_dim": 16}},
        "lora": {"r": 2, "alpha": 4, "dropout": 0.0},
        "max_steps": 2,
    }
    steps: dict[str, dict[str, Any]] = {
        "prepare": source,
        "extract-all": {
            "extractions": [
                {"manifest": f"{manifest}/manifest.parquet", "store": store, "channels": encoders}
            ]
        },
        "train": training,
        "evaluate": {
            "run": str(tmp_path / "run"),
            "data": {**data, "split": "test"},
            "out": str(tmp_path / "scores"),
            "max_new_tokens": 2,
        },
        "retrain": {
            "source": source,
            "registry": str(tmp_path / "patches"),
            "runs": str(tmp_path / "runs"),
            "train": {**training, "features": encoders},
            "judge": {"split": "test"},
        },
        "maintain": {"store": store},
    }
    server.prefect("work-pool", "create", "pave", "--type", "process", "--overwrite")
    server.prefect("deploy", "--all")
    log = tmp_path / "worker.log"
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "pave", "--name", "chain"]
    with running(command, server.environment, log):
        for flow, config in steps.items():
            try:
                printed = server.prefect(
                    *("deployment", "run", f"{flow}/default", "--watch", "--watch-timeout", "140"),
                    *("--param", f"config={json.dumps(config)}"),
                )
            except AssertionError as error:
                raise AssertionError(f"{flow}: {error}\nworker:\n{log.read_text()[-8000:]}") from error
            assert "Flow run finished successfully" in printed, flow

    snapshot = FeatureStore.open(store, create=False).snapshot()
    for channel in ("audio", "frames"):
        assert len(snapshot.feature_set("sidecue", channel).sample_ids) == 18
    scores = json.loads((tmp_path / "scores" / "scores.json").read_text())
    assert scores["run"] == str(tmp_path / "run")
    assert scores["patch"].keys() == {"patch.safetensors", "adapter_model.safetensors"}
    listed = server.run("-m", "pipelines.cli", "patches", "ls", "--registry", str(tmp_path / "patches"))
    assert "* sidecue-" in listed or "sidecue-" in listed.split("*")[1]
