"""Retraining on a growing SideCue: only what is new is extracted, and only what is better is promoted."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from in_this_process import run_here
from pave_process import environment, invoke
from retrain_world import configured, settings, show, write_learnable_base
from tiny_features import write_features

import pipelines.evaluate
import pipelines.retrain
from pipelines.config import checked
from pipelines.errors import PipelineError, RegistryError, RunError
from pipelines.lineage import patch_hashes
from pipelines.patch_registry import PatchRegistry
from pipelines.retrain import retrain
from pipelines.retrain_config import RetrainConfig
from pipelines.retrain_report import RetrainReport
from store import FeatureStore, catalog
from tasks import sidecue

HERE = Path(__file__).parent
BOTH = ("audio", "frames")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_learnable_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Tensors this small only wait for their threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def extractions(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Extraction without Ray; the samples that each one was given."""
    asked: list[list[str]] = []

    def run(job: Any, items: Any, execution: Any) -> Any:
        asked.append([item.sample_id for item in items])
        return run_here(job, items, execution)

    monkeypatch.setattr("pipelines.ray_extract.run", run)
    return asked


def kinds(root: Path) -> list[str]:
    return [event.kind for event in PatchRegistry(root / "patches").events()]


def committed(root: Path) -> list[tuple[str, str]]:
    """(channel, sample_id) of every row that was ever committed."""
    store = FeatureStore.open(root / "store", create=False)
    where = {"dataset": "sidecue"}
    rows = catalog.read(store.location, "catalog", columns=["channel", "sample_id"], where=where).to_pylist()
    return sorted((row["channel"], row["sample_id"]) for row in rows)


def test_first_it_promotes_then_it_does_nothing_then_it_learns_only_what_is_new(
    world: Path, base: Path, tmp_path: Path, extractions: list[list[str]]
) -> None:
    show(world, tmp_path / "media", {"train": 6, "test": 4})
    config = configured(tmp_path, base)
    first = retrain(config)
    assert first.decision == "promoted"
    assert first.extracted == dict.fromkeys(BOTH, 10)
    assert (first.news.new_instructions, first.news.new_samples) == (6, 6)
    assert first.champion == first.challenger
    assert first.champion is not None
    assert first.score is not None
    run = json.loads((first.champion / "run.json").read_text())
    assert run["snapshot"] == run["config"]["data"]["snapshot"] == first.snapshot
    assert run["patch"] == patch_hashes(first.champion / "patch")
    assert kinds(tmp_path) == ["register", "promote"]

    before = committed(tmp_path)
    second = retrain(config)
    assert second.decision == "nothing new"
    assert "learned all of this already" in second.summary()
    assert second.extracted == dict.fromkeys(BOTH, 0)
    assert second.snapshot == first.snapshot
    assert second.champion == first.champion
    assert len(extractions) == 1
    assert kinds(tmp_path) == ["register", "promote"]

    show(world, tmp_path / "media", {"train": 9, "test": 4})
    third = retrain(config)
    assert third.extracted == dict.fromkeys(BOTH, 3)
    assert [len(asked) for asked in extractions] == [10, 3]
    added = [row for row in committed(tmp_path) if row not in before]
    assert added == sorted((channel, sample) for channel in BOTH for sample in extractions[1])
    assert len(committed(tmp_path)) == len(before) + 6
    assert (third.news.new_instructions, third.news.new_samples, third.news.removed_instructions) == (3, 3, 0)
    assert third.verdict is not None
    assert (third.verdict.n, third.verdict.not_shared) == (4, 0)
    assert (third.decision == "promoted") == (third.verdict.low > 0)
    assert third.challenger is not None
    judged = {
        name: json.loads(path.read_text())
        for name in ("challenger", "champion")
        for path in third.challenger.glob(f"judged-*/{name}/scores.json")
    }
    assert judged["challenger"]["snapshot"] == judged["champion"]["snapshot"] == third.snapshot
    assert judged["challenger"]["items"] == judged["champion"]["items"]
    assert judged["champion"]["run"] == str(first.champion)
    kept = {tag.version for tag in FeatureStore.open(tmp_path / "store").tags().values()}
    assert kept == {first.snapshot, third.snapshot}
    assert (first.champion / "patch" / "patch.safetensors").is_file()

    events = kinds(tmp_path)
    assert retrain(config).decision == "nothing new"
    assert kinds(tmp_path) == events


def test_the_better_patch_is_promoted_and_the_worse_one_is_not(
    world: Path, base: Path, tmp_path: Path
) -> None:
    answers = {f"{split}-{number:06d}": "red" for split in ("train", "test") for number in range(32)}
    show(world, tmp_path / "media", {"train": 8, "test": 6}, answers)
    unlearned = configured(tmp_path, base, learning_rate=1e-9, max_steps=1)
    learned = configured(tmp_path, base, max_steps=80)
    assert retrain(unlearned).score == 0
    better = retrain(learned)
    assert better.decision == "promoted"
    assert better.news.settings == ("learning_rate", "max_steps")
    assert better.verdict is not None
    assert (better.verdict.challenger, better.verdict.champion, better.verdict.low) == (1.0, 0.0, 1.0)

    keeping = configured(tmp_path, base, learning_rate=2e-9).model_copy(update={"keep_snapshots": "promoted"})
    worse = retrain(keeping)
    assert worse.decision == "not promoted"
    assert worse.champion == better.champion
    assert worse.verdict is not None
    assert worse.verdict.high == -1.0
    assert "not better beyond chance" in worse.summary()
    assert worse.challenger is not None
    tags = FeatureStore.open(tmp_path / "store").tags()
    assert {f"patch-{run.name}" for run in (better.before, better.champion) if run} == tags.keys()
    assert (worse.challenger / "patch" / "patch.safetensors").is_file()
    again = retrain(keeping)
    assert (again.decision, again.champion) == ("nothing new", better.champion)
    assert "was no better" in again.reason
    assert kinds(tmp_path) == ["register", "promote", "register", "promote", "register", "reject"]

    listed = invoke("patches", "ls", "--registry", tmp_path / "patches").stdout.splitlines()
    assert better.champion is not None
    (starred,) = (line for line in listed if line.startswith("*"))
    assert better.champion.name in starred
    assert "+1.0000 (+1.0000 to +1.0000)" in starred
    back = invoke("patches", "rollback", "--registry", tmp_path / "patches", "--reason", "too red")
    assert back.exit_code == 0, back.stderr
    assert better.before is not None
    assert f"champion: {better.before}" in back.stdout
    kept = retrain(learned)
    assert (kept.decision, kept.champion) == ("nothing new", better.before)
    assert "too red" in kept.reason, "what was rolled back by hand does not come back by itself"
    by_hand = ("patches", "promote", better.champion, "--registry", tmp_path / "patches", "--reason", "sorry")
    assert invoke(*by_hand).exit_code == 0
    assert PatchRegistry(tmp_path / "patches").states().named(better.champion).state == "champion"

    (better.before / "patch" / "patch.safetensors").write_bytes(b"other")
    refused = invoke("patches", "rollback", "--registry", tmp_path / "patches")
    assert refused.exit_code == 1
    assert "its patch has other content" in refused.stderr


def test_failures_are_not_new_for_ever_and_new_answers_are(
    world: Path, base: Path, tmp_path: Path, extractions: list[list[str]]
) -> None:
    show(world, tmp_path / "media", {"train": 4, "test": 2})
    broken = tmp_path / "media" / "train" / "000001.mp4"
    os.unlink(broken)
    broken.write_text("no video")
    config = configured(tmp_path, base)
    first = retrain(config)
    assert first.failed == dict.fromkeys(BOTH, 1)
    assert first.news.new_samples == 3
    second = retrain(config)
    assert (second.decision, second.known_failures) == ("nothing new", dict.fromkeys(BOTH, 1))
    assert len(extractions) == 1

    show(world, tmp_path / "media", {"train": 4, "test": 2}, {"train-000002": "mauve"})
    third = retrain(config)
    assert (third.news.changed_instructions, third.news.new_instructions) == (1, 0)
    assert third.extracted == dict.fromkeys(BOTH, 0)
    assert third.decision != "nothing new"
    assert third.champion is not None

    show(world, tmp_path / "media", {"train": 4, "test": 3}, {"train-000002": "mauve"})
    fourth = retrain(config)
    assert fourth.extracted == dict.fromkeys(BOTH, 1)
    assert fourth.decision == "nothing new", "a new clip of the test split teaches nothing"


class Killed(BaseException):
    """Stands for a SIGKILL between two stages."""


def killed_after(name: str, config: RetrainConfig) -> None:
    """Retrain until what is named so has been called."""

    def call(*arguments: Any, **more: Any) -> None:
        function(*arguments, **more)
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        owners: dict[str, Any] = {
            "register": PatchRegistry,
            "promote": PatchRegistry,
            "write_predictions": pipelines.evaluate,
        }
        owner = owners.get(name, pipelines.retrain)
        function = getattr(owner, name)
        patch.setattr(owner, name, call)
        with pytest.raises(Killed):
            retrain(config)


KILLED_IN_TRAINING = """
import json, os, signal, sys
from contextlib import contextmanager
from in_this_process import run_here
import pipelines.ray_extract
from pipelines.retrain import retrain
from pipelines.retrain_config import RetrainConfig

pipelines.ray_extract.run = run_here

class Stage:
    def __init__(self, label): self.label = label
    def update(self, done, total, failed=0, note=""):
        if self.label.startswith('train') and done: os.kill(os.getpid(), signal.SIGKILL)

@contextmanager
def progress(label):
    yield Stage(label)

retrain(RetrainConfig.model_validate(json.loads(sys.argv[1])), progress)
"""


def test_a_killed_retraining_goes_on_and_ends_as_an_undisturbed_one(
    world: Path, base: Path, tmp_path: Path, extractions: list[list[str]]
) -> None:
    undisturbed, root = tmp_path / "undisturbed", tmp_path / "killed"
    for place in (undisturbed, root):
        show(world, place / "media", {"train": 4, "test": 2})
    expected = retrain(configured(undisturbed, base, max_steps=2))
    config = configured(root, base, max_steps=2)

    killed_after("extract_together", config)
    environ = environment()
    environ["PYTHONPATH"] += f"{os.pathsep}{HERE}"
    values = json.dumps(settings(root, base, max_steps=2))
    finished = subprocess.run([sys.executable, "-c", KILLED_IN_TRAINING, values], env=environ, timeout=120)
    assert finished.returncode == -signal.SIGKILL
    assert not list((root / "runs").glob("[!.]*"))
    write_features(root / "store", "other", "audio", [("clip", 2)])  # the store moves on meanwhile
    killed_after("train", config)
    (run,) = (root / "runs").iterdir()
    trained = (run / "run.json").stat().st_mtime_ns
    killed_after("register", config)
    killed_after("write_predictions", config)
    assert not list(run.glob("judged-*/*/scores.json"))
    killed_after("judge", config)
    killed_after("promote", config)
    assert len(extractions) == 2, "once here, once undisturbed"

    report = retrain(config)
    assert report.decision == "nothing new"
    assert report.champion == run
    assert run.name == expected.champion.name  # type: ignore[union-attr]
    assert (run / "run.json").stat().st_mtime_ns == trained, "trained once"
    assert patch_hashes(run / "patch") == patch_hashes(undisturbed / "runs" / run.name / "patch")
    assert kinds(root) == kinds(undisturbed) == ["register", "promote"]
    assert committed(root) == committed(undisturbed)
    (tag,) = FeatureStore.open(root / "store").tags().values()
    assert tag.version == expected.snapshot, "pinned before the training was killed"
    assert len(list(run.glob("judged-*/challenger/scores.json"))) == 1


def test_what_is_wrong_is_said_before_any_work(world: Path, base: Path, tmp_path: Path) -> None:
    values = settings(tmp_path, base)
    values["train"]["features"].pop("audio")
    with pytest.raises(PipelineError, match=r"train.features has no encoder of audio"):
        checked(RetrainConfig, values, "retrain.yaml")
    values = settings(tmp_path, base)
    values["train"]["data"]["snapshot"] = 3
    with pytest.raises(PipelineError, match="snapshot is pinned by each retraining"):
        checked(RetrainConfig, values, "retrain.yaml")

    show(world, tmp_path / "media", {"train": 3, "test": 2})
    config = configured(tmp_path, base)
    with (
        PatchRegistry(config.registry).only_retraining(),
        pytest.raises(RegistryError, match="another retraining is at work"),
    ):
        retrain(config)
    report: RetrainReport = retrain(config)
    assert report.champion is not None
    (report.champion / "patch" / "patch.safetensors").write_bytes(b"other")
    with pytest.raises(
        RunError, match=r"the patch of champion .* is not the one that was promoted; restore it"
    ):
        retrain(config)
    report.champion.rename(tmp_path / "elsewhere")
    with pytest.raises(RunError, match=r"the run folder of champion .* is gone or damaged; restore it"):
        retrain(config)


def test_the_command_takes_a_recipe_of_the_training(world: Path, base: Path, tmp_path: Path) -> None:
    show(world, tmp_path / "media", {"train": 3, "test": 2})
    values = settings(tmp_path, base)
    (tmp_path / "recipe.yaml").write_text(json.dumps({**values["train"], "out": "unused"}))
    (tmp_path / "retrain.yaml").write_text(json.dumps({**values, "train": str(tmp_path / "recipe.yaml")}))
    result = invoke("retrain", tmp_path / "retrain.yaml", "--set", "train.seed=7")
    assert result.exit_code == 0, result.stderr
    assert "promoted: the first patch" in result.stdout
    (run,) = (tmp_path / "runs").iterdir()
    assert json.loads((run / "run.json").read_text())["config"]["seed"] == 7


@pytest.mark.slow
def test_of_fifty_new_clips_ray_extracts_those_fifty(
    base: Path, tmp_path: Path, running_ray: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # with Ray, after all
    sidecue.make(tmp_path / "world", sidecue.SideCueConfig(splits={"train": 70, "test": 10}, seed=5))
    decisions = []
    for train_clips in (20, 20, 70):
        show(tmp_path / "world", tmp_path / "media", {"train": train_clips, "test": 10})
        report = retrain(configured(tmp_path, base))
        decisions.append((report.decision == "nothing new", report.extracted))
    assert decisions == [
        (False, dict.fromkeys(BOTH, 30)),
        (True, dict.fromkeys(BOTH, 0)),
        (False, dict.fromkeys(BOTH, 50)),
    ]
    assert len(committed(tmp_path)) == 2 * 80
