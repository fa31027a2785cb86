"""Each published dataset from its official layout to scores, by the commands that its users give."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from miniatures import MINIATURES
from pave_process import invoke
from tiny_base import write_tiny_base

from pipelines.manifest import read_manifest
from store import FeatureStore

FAST = ("avsd", "scanqa", "egoexo4d")
NUM_FRAMES = 4
SMALL = {
    "audio": {"embed_dim": 32, "num_blocks": 1, "out_dim": 16},
    "dense": {},
    "depth3d": {"num_views": 2},
    "exo": {"num_frames": 2},
    "frames": {"num_frames": NUM_FRAMES},
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, running_ray: str) -> Path:
    """A folder with base/, in which everything else is made; all datasets share store/."""
    root = tmp_path_factory.mktemp("published")
    write_tiny_base(root / "base")
    return root


def pave(*arguments: object) -> Result:
    """A command that must succeed."""
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    return result


def extracted(world: Path, name: str) -> None:
    """Prepare a miniature, if it is not yet, and extract its channels and key frames."""
    if (world / name).exists():
        return
    miniature = MINIATURES[name]
    miniature.write(world / name / "root")
    result = pave("prepare", "--task", name, "--root", world / name / "root", "--out", world / name)
    for (sample_id, role), reason in miniature.unusable.items():
        assert f"  unusable: {sample_id} ({role}): " in result.stdout
        assert reason in result.stdout
    channels = (*miniature.channels, "frames")
    sets = [f"channels.{channel}.{key}={value}" for channel in channels for key, value in SMALL[channel].items()]
    pave(
        *("extract", ",".join(channels), "--manifest", world / name, "--store", world / "store"),
        *("--base", world / "base", "--max-failure-fraction", 1),
        *(argument for item in sets for argument in ("--set", item)),
    )


def trained(world: Path, name: str, channels: Sequence[str]) -> dict[str, Any]:
    """Four steps of a small patch; what run.json says."""
    recipe = world / name / f"{'-'.join(channels)}.yaml"
    data = {"store": world / "store", "instructions": world / name / "instructions.parquet", "split": "train"}
    settings = {
        "base": str(world / "base"),
        "out": str(recipe.with_suffix("")),
        "data": {key: str(value) for key, value in data.items()} | {"max_missing_fraction": 0.5},
        "channels": {channel: {"embed_dim": 16, "hidden_dim": 16} for channel in channels},
        "lora": {"r": 2, "alpha": 4, "dropout": 0.0},
        "max_steps": 4,
        "batch_size": 2,
        "accumulation": 1,
        "learning_rate": 0.01,
        "log_every": 1,
    }
    recipe.write_text(yaml.safe_dump(settings))
    pave("train", recipe)
    run: dict[str, Any] = json.loads((recipe.with_suffix("") / "run.json").read_text())
    return run


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in MINIATURES]
)
def test_from_official_files_to_scores(name: str, world: Path) -> None:
    miniature = MINIATURES[name]
    extracted(world, name)
    run_of = name if miniature.train is not None else "llava_video_178k"
    extracted(world, run_of)
    run_folder = world / run_of / "-".join(miniature.channels)
    if not run_folder.exists():
        report = trained(world, run_of, miniature.channels)["report"]
        assert [step for step, _ in report["losses"]] == [1, 2, 3, 4]
        coverage = report["coverage"]
        assert (coverage["instructions"], coverage["with_features"]) == MINIATURES[run_of].train
    if miniature.test is None:
        return
    scores = world / name / "scores"
    result = pave(
        *("evaluate", "--run", run_folder, "--split", miniature.test_split, "--out", scores),
        *("--set", f"data.instructions={world / name / 'instructions.parquet'}"),
        *("--set", "data.snapshot=null", "--set", "data.max_missing_fraction=0.9"),
        *("--set", "max_new_tokens=4"),
    )
    coverage = json.loads((scores / "scores.json").read_text())["report"]["coverage"]
    assert (coverage["instructions"], coverage["with_features"]) == miniature.test
    assert f"{miniature.test[1]} of {miniature.test[0]} instructions" in result.stdout
