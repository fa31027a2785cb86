"""Each published dataset from its official layout to scores, by the commands that its users give."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml
from click.testing import Result
from in_this_process import run_here
from miniatures import MINIATURES, mvbench
from miniatures.egoexo4d import take_uid
from pave_process import invoke
from tiny_base import write_tiny_base

from pipelines import ray_extract
from store import FeatureStore
from tasks import task_module

SMALL_ENCODERS = {
    "audio": {"embed_dim": 32, "num_blocks": 1, "out_dim": 16},
    "dense": {},
    "depth3d": {"num_views": 2},
    "exo": {"num_frames": 2},
    "frames": {"num_frames": 4},
}


@dataclass(frozen=True)
class World:
    """A folder in which everything is made; all datasets share its store. `base` may be elsewhere."""

    folder: Path
    base: Path

    def __truediv__(self, name: str) -> Path:
        return self.folder / name


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, base: Path) -> World:
    return World(tmp_path_factory.mktemp("here"), base)


@pytest.fixture(scope="module")
def world_by_ray(tmp_path_factory: pytest.TempPathFactory, base: Path, running_ray: str) -> World:
    return World(tmp_path_factory.mktemp("ray"), base)


def pave(*arguments: object) -> Result:
    """A command that must succeed."""
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    return result


def settings(values: dict[str, object]) -> list[str]:
    """The values as options of a command."""
    return [argument for name, value in values.items() for argument in ("--set", f"{name}={value}")]


def prepare_and_extract(world: World, name: str) -> None:
    """From the official files to features, all channels of the dataset and its key frames at once."""
    miniature = MINIATURES[name]
    miniature.write(world / name / "root")
    result = pave("prepare", "--task", name, "--root", world / name / "root", "--out", world / name)
    told = [line for line in result.stdout.splitlines() if line.startswith("  unusable: ")]
    assert len(told) == len(miniature.unusable)
    for split, known in (("train", miniature.train), (task_module(name).EVALUATED_SPLIT, miniature.test)):
        assert known is None or f"  {split}: {known[0]} instructions on " in result.stdout
    for (sample_id, role), reason in miniature.unusable.items():
        (line,) = (line for line in told if line.startswith(f"  unusable: {sample_id} ({role}): "))
        assert reason in line

    channels = (*miniature.channels, "frames")
    sizes = {
        f"channels.{name}.{key}": value for name in channels for key, value in SMALL_ENCODERS[name].items()
    }
    options = ("--manifest", world / name, "--store", world / "store", "--base", world.base)
    tolerant = ("--max-failure-fraction", 1)
    result = pave("extract", ",".join(channels), *options, *tolerant, *settings(sizes))
    assert result.stdout.count(" samples, 0 were done, ") == len(channels)


def train(world: World, name: str, run: Path) -> None:
    """Four steps of a small patch on what can be used."""
    instructions = world / name / "instructions.parquet"
    data = {"store": str(world / "store"), "instructions": str(instructions), "split": "train"}
    recipe = {
        "base": str(world.base),
        "out": str(run),
        "data": {**data, "max_missing_fraction": 0.5},
        "channels": {channel: {"embed_dim": 16, "hidden_dim": 16} for channel in MINIATURES[name].channels},
        "lora": {"r": 2, "alpha": 4, "dropout": 0.0},
        "max_steps": 4,
        "batch_size": 2,
        "accumulation": 1,
        "learning_rate": 0.01,
        "log_every": 1,
    }
    (world / name / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    result = pave("train", world / name / "recipe.yaml")
    known = MINIATURES[name].train
    assert known is not None
    assert f"{known[1]} of {known[0]} instructions" in result.stdout
    report = json.loads((run / "run.json").read_text())["report"]
    assert [step for step, _ in report["losses"]] == [1, 2, 3, 4]
    assert report["coverage"]["missing"].keys() == {"frames", *MINIATURES[name].channels}


def evaluate(world: World, name: str, run: Path) -> None:
    """The published metrics over what was answered; what was not is counted and named."""
    miniature, out = MINIATURES[name], world / name / "scores"
    assert miniature.test is not None
    asked, answered = miniature.test
    changed = {
        "data.instructions": world
        / name
        / "instructions.parquet",  # of another dataset than the run's, perhaps
        "data.snapshot": "null",
        "data.max_missing_fraction": 0.7,
        "max_new_tokens": 4,
    }
    options = ("--run", run, "--split", task_module(name).EVALUATED_SPLIT, "--out", out)
    result = pave("evaluate", *options, *settings(changed))
    assert f"{answered} of {asked} instructions" in result.stdout
    report = json.loads((out / "scores.json").read_text())["report"]
    assert (report["dataset"], report["task"]) == (name, name)
    coverage = report["coverage"]
    assert (coverage["instructions"], coverage["with_features"]) == miniature.test
    assert len(report["not_answered"]) == asked - answered
    over_all = {score["metric"]: score for score in report["scores"] if score["group"] is None}
    for metric in miniature.metrics:
        assert re.search(rf"^{metric}\b", result.stdout, re.MULTILINE), result.stdout
        assert over_all[metric]["official"]
        assert over_all[metric]["n"] == answered
        assert over_all[metric]["value"] is not None
    lines = (out / "predictions.jsonl").read_text().splitlines()
    assert len(lines) == answered


def from_official_files_to_scores(world: World, name: str) -> None:
    """Trains on the dataset itself, or for a benchmark that has no training split on LLaVA-Video-178K."""
    miniature = MINIATURES[name]
    trained_on = name if miniature.train is not None else "llava_video_178k"
    run = world / trained_on / "run"
    for needed in dict.fromkeys((trained_on, name)):
        if not (world / needed).exists():
            prepare_and_extract(world, needed)
    if not run.exists():
        train(world, trained_on, run)
    if miniature.test is not None:
        evaluate(world, name, run)


def released(root: Path, path: str, *shape: int, dtype: torch.dtype = torch.bfloat16) -> None:
    """A feature file as the release has them."""
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    torch.save(torch.zeros(shape, dtype=dtype), root / path)


@pytest.mark.parametrize(
    ("name", "kind", "files", "samples"),
    [
        (
            "egoexo4d",
            "exo",
            {
                f"takes/xyz_violin_03/frame_aligned_videos/downscaled/448/cam0{n}.pt": (32, 196, 1152)
                for n in (1, 2)
            },
            {take_uid("xyz_violin_03"): 64},
        ),
        (
            "music_avqa",
            "audio",
            {"MUCIS-AVQA-videos-Synthetic_audio_imagebind_feat/va00000077.pt": (3, 1024)},
            {"va00000077": 3},
        ),
        ("mvbench", "dense", {"star/Charades_segment/ZS9XR_0.pt": (8, 5, 1024)}, {mvbench.CLIP: 8}),
    ],
)
def test_released_features_find_their_samples(
    name: str, kind: str, files: dict[str, tuple[int, ...]], samples: dict[str, int], tmp_path: Path
) -> None:
    MINIATURES[name].write(tmp_path / "root")
    for path, shape in files.items():
        dtype = torch.float16 if kind == "dense" else torch.bfloat16
        released(tmp_path / "release", path, *shape, dtype=dtype)
    released(tmp_path / "release", "others/unknown.pt", 3, 1024)
    source = (
        "store",
        "import",
        "release",
        tmp_path / "release",
        "--kind",
        kind,
        "--store",
        tmp_path / "store",
    )
    result = pave(*source, "--task", name, "--root", tmp_path / "root")
    assert "skipped: others/unknown.pt: does not match the names of" in result.stdout
    found = FeatureStore.open(tmp_path / "store").snapshot().feature_set(name, kind)
    assert {sample_id: len(found[sample_id].values) for sample_id in found.sample_ids} == samples


def test_released_features_that_cannot_be_matched_are_refused(tmp_path: Path) -> None:
    command = ("store", "import", "release", tmp_path, "--kind", "dense", "--store", tmp_path / "store")
    result = invoke(*command, "--task", "llava_video_178k", "--root", tmp_path)
    assert "error: the release has no file names for llava_video_178k; give --dataset" in result.stderr
    for given in (("--task", "avsd"), ("--task", "avsd", "--root", tmp_path, "--id-pattern", "(?P<id>.*)")):
        result = invoke(*command, *given)
        assert result.exit_code == 1
        assert "error: give --task together with --root and without --id-pattern" in result.stderr


def test_a_take_with_some_cameras_has_a_part_of_its_media(tmp_path: Path) -> None:
    MINIATURES["egoexo4d"].write(tmp_path / "root")
    result = pave("prepare", "--task", "egoexo4d", "--root", tmp_path / "root", "--out", tmp_path)
    assert "  train: 2 instructions on 2 samples, 2 with all media\n" in result.stdout
    assert "  val: 4 instructions on 4 samples, 0 with all media, 3 with a part\n" in result.stdout


@pytest.mark.parametrize("name", MINIATURES)
def test_datasets(name: str, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_extract, "run", run_here)
    from_official_files_to_scores(world, name)


@pytest.mark.slow  # Ray takes most of the time and does the same for all
@pytest.mark.parametrize("name", MINIATURES)
def test_datasets_by_ray(name: str, world_by_ray: World) -> None:
    from_official_files_to_scores(world_by_ray, name)
