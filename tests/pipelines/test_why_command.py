"""`pave why`: the chain behind a score made of real media, what breaks it, and what changed between two."""

import json
import os
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from in_this_process import run_here
from pave_process import invoke
from retrain_world import configured, show, write_learnable_base

from pipelines.retrain import retrain
from store import FeatureStore


@pytest.fixture(scope="module")
def scores(world: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The scores.json of a patch, and of the one after two new clips and one with another answer."""
    root = tmp_path_factory.mktemp("why")
    base = write_learnable_base(root / "base")
    files = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.ray_extract.run", run_here)
        for shown, answers, seed in (
            ({"train": 4, "test": 3}, {}, 1),
            ({"train": 6, "test": 4}, {"train-000001": "mauve"}, 2),
        ):
            show(world, root / "media", shown, answers)
            run = retrain(configured(root, base, seed=seed)).challenger
            assert run is not None
            (file,) = run.glob("judged-*/challenger/scores.json")
            files.append(file)
    return files[0], files[1]


@pytest.fixture
def restored(scores: tuple[Path, Path], tmp_path: Path) -> Iterator[None]:
    """Afterwards all is as it was."""
    root = scores[0].parents[4]
    shutil.copytree(root, tmp_path / "saved")
    yield
    shutil.rmtree(root)
    shutil.copytree(tmp_path / "saved", root)


def test_the_chain_names_every_link_and_all_hold(scores: tuple[Path, Path]) -> None:
    result = invoke("why", scores[1], "--check-media", "--samples")
    assert result.exit_code == 0, result.stdout + result.stderr
    written = json.loads(scores[1].read_text())
    run = json.loads(Path(written["run"], "run.json").read_text())
    for what, value in {
        "the patch's hash": written["patch"]["patch.safetensors"],
        "the run": written["run"],
        "its seed": "config.seed: 2",
        "code": f"git_revision {run['code']['git_revision']}",
        "base": written["base_fingerprint"],
        "store": run["config"]["data"]["store"],
        "tag": f"tags: patch-{Path(written['run']).name}",
        "feature set": written["feature_sets"]["audio"]["name"],
        "weights": "encoder.weights: random:1",
        "media evaluated": f"audio: 4 samples, digest {written['media']['audio']['media'][:16]}",
        "media trained on": f"audio: 6 samples, digest {run['media']['audio']['media'][:16]}",
    }.items():
        assert value in result.stdout, what
    assert result.stdout.splitlines()[-1] == "every link holds"
    manifest = FeatureStore.open(run["config"]["data"]["store"]).query(
        "SELECT sample_id, source_hash FROM samples"
    )
    hashes = dict(zip(*(manifest[name].to_pylist() for name in manifest.column_names), strict=True))
    content = json.loads(invoke("why", scores[1], "--samples", "--json").stdout)
    assert len(content["samples"]) == 4
    assert content["samples"].items() <= hashes.items()
    assert content["broken"] == []


@pytest.mark.usefixtures("restored")
def test_what_no_longer_holds_is_named(scores: tuple[Path, Path]) -> None:
    written = json.loads(scores[0].read_text())
    run, store = Path(written["run"]), FeatureStore.open(written["config"]["data"]["store"])
    media = Path(written["config"]["data"]["instructions"]).parents[1] / "media"
    shutil.copy(run / "patch" / "adapter_model.safetensors", run / "patch" / "patch.safetensors")
    predictions = scores[0].with_name("predictions.jsonl")
    predictions.write_text(predictions.read_text().replace('"prediction":"', '"prediction":"not '))
    clip = media / "test" / "000001.mp4"
    os.unlink(clip)  # it is linked to the clip of other tests
    clip.write_bytes(b"another film")
    result = invoke("why", scores[0], "--check-media")
    assert result.exit_code == 1
    problems = [line for line in result.stdout.splitlines() if "NO LONGER HOLDS" in line]
    assert len(problems) == 3, result.stdout
    assert "predictions.jsonl has other content than when it was scored" in problems[0]
    assert "patch has other content than when it was evaluated" in problems[1]
    assert "has other content, or is gone" in problems[2]

    (tag,) = (name for name in store.tags() if name.endswith(run.name))
    store.untag(tag)
    store.vacuum(timedelta(0), dry_run=False)
    run.rename(run.with_name("moved"))
    file = run.with_name("moved") / scores[0].relative_to(run)
    result = invoke("why", file)
    assert result.exit_code == 1
    assert f"catalog version {written['snapshot']} of {store.url} was vacuumed" in result.stdout
    assert "patch is gone" in result.stdout
    assert "the run folder is gone or has no readable run.json" in result.stdout


def test_two_scores_differ_by_what_was_changed_and_by_nothing_else(scores: tuple[Path, Path]) -> None:
    content = json.loads(invoke("why", "--diff", *scores, "--json").stdout)
    assert any(line.startswith("seed: 1 -> 2") for line in content["training settings"])
    assert not any("learning_rate" in line for line in content["training settings"])
    assert [line.split()[:3] for line in content["items"]] == [["1", "only", "in"]]
    trained = {line.partition(":")[0] for line in content["instructions of the training"]}
    assert trained == {"2 only in B", "1 changed"}
    assert sum("3 added" in line for line in content["snapshot"]) == 2, "of audio and of frames"
    assert any(line.startswith("patch.safetensors: ") for line in content["patch"])
    assert any(line.startswith("audio.samples: 3 -> 4") for line in content["media"])
    assert not {"base", "feature sets", "code", "code of the training"} & content.keys()
    assert invoke("why", "--diff", scores[0], scores[0]).stdout.splitlines()[-1] == "nothing differs"


def test_what_is_no_score_is_one_line(scores: tuple[Path, Path], tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text("{}")
    for arguments, words in (
        ((scores[0], scores[1]), "or two with --diff"),
        ((other,), "is no score file, it lacks base"),
        ((tmp_path / "none.json",), "cannot be read"),
        (("--diff", scores[0], other), "is no score file"),
    ):
        result = invoke("why", *arguments)
        assert result.exit_code == 1
        (line,) = result.stderr.splitlines()
        assert words in line
