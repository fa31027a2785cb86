"""A training whose fusion modules start from those of trained patches."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from training_world import training, write_world

from pave_model.errors import CheckpointError
from pipelines.config import EvaluateConfig
from pipelines.evaluate import evaluate
from pipelines.lineage_chain import lineage_chain
from pipelines.train import train

STANDING = {"max_steps": 1, "learning_rate": 1e-30}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def first(world: Path) -> Path:
    return train(training(world, world / "first", max_steps=2)).run


def test_it_starts_with_the_weights_of_the_other(world: Path, first: Path, tmp_path: Path) -> None:
    begun = train(training(world, tmp_path / "begun", start_from={"audio": first}, **STANDING)).run
    expected, found = (load_file(run / "patch" / "patch.safetensors") for run in (first, begun))
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor)
    fresh = train(training(world, tmp_path / "fresh", **STANDING)).run
    assert any(
        not torch.equal(tensor, expected[name])
        for name, tensor in load_file(fresh / "patch" / "patch.safetensors").items()
    )


def test_a_run_tells_what_it_started_from(world: Path, first: Path, tmp_path: Path) -> None:
    start = shutil.copytree(first, tmp_path / "start")
    config = training(world, tmp_path / "begun", start_from={"audio": start}, **STANDING)
    run = json.loads((train(config).run / "run.json").read_text())
    assert run["started_from"] == {"audio": json.loads((first / "run.json").read_text())["patch"]}

    evaluate(EvaluateConfig(run=config.out, data=config.data, out=tmp_path / "scores"))
    scores = tmp_path / "scores" / "scores.json"
    assert lineage_chain(scores).broken == []
    shutil.rmtree(start)
    (broken,) = lineage_chain(scores).broken
    assert f"run: {start / 'patch'} is gone or has other content than when audio was started" in broken


def test_what_does_not_fit_is_named(world: Path, first: Path, tmp_path: Path) -> None:
    start = {"start_from": {"audio": first}}
    sizes = {"channels": {"audio": {"embed_dim": 8, "hidden_dim": 8}}}
    with pytest.raises(
        CheckpointError, match=f"{first}.* no fusion module of channel 'audio' with the sizes"
    ):
        train(training(world, tmp_path / "smaller", **start, **sizes))
    with pytest.raises(CheckpointError, match=str(tmp_path / "none")):
        train(training(world, tmp_path / "lost", start_from={"audio": tmp_path / "none"}))
    with pytest.raises(ValidationError, match="start_from names dense, which channels does not have"):
        training(world, tmp_path / "unknown", start_from={"dense": first})
