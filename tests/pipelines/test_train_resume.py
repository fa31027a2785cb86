"""A training that is killed goes on from its last complete checkpoint, and ends as if nothing had happened."""

import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from pave_process import start_pave
from safetensors.torch import load_file
from tiny_features import write_features
from training_world import metrics, training, write_world

from pipelines import train as train_module
from pipelines.errors import RunError
from pipelines.progress import Silent
from pipelines.run_folder import locked_part_folder, part_folder
from pipelines.train import train

STEPS_AN_EPOCH = 12
SETTINGS = {
    "max_steps": 40,
    "save_every": 5,
    "batch_size": 1,
    "lora": {"r": 2, "alpha": 4, "dropout": 0.1},
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"))


def assert_same_run(ours: Path, theirs: Path) -> None:
    """Bit for bit."""
    for name in ("patch.safetensors", "adapter_model.safetensors"):
        found, wanted = (load_file(run / "patch" / name) for run in (ours, theirs))
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[key], wanted[key]) for key in wanted)
    assert metrics(ours) == metrics(theirs)


def test_a_killed_training_ends_as_an_undisturbed_one(world: Path, tmp_path: Path) -> None:
    """Killed in mid-epoch and past its checkpoint; dropout, so random numbers must go on too."""
    undisturbed = train(training(world, tmp_path / "undisturbed", **SETTINGS))
    config = training(world, tmp_path / "killed", **SETTINGS)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(config.model_dump_json())
    part = part_folder(config.out)

    first = start_pave(tmp_path, "train", recipe)
    log, end = part / "metrics.jsonl", time.monotonic() + 90
    while not (log.exists() and log.read_text().count("\n") >= 7) and first.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.01)
    first.send_signal(signal.SIGSTOP)  # the second command needs its time
    with pytest.raises(RunError, match="another process is training into"):
        train(config)
    first.kill()
    assert first.communicate(timeout=60)[0] == ""
    assert first.returncode == -signal.SIGKILL
    (checkpoint,) = (part / "trainer").glob("*/complete.json")
    step = int(checkpoint.parent.name.removeprefix("checkpoint-"))
    assert 5 <= step < 40
    assert step % STEPS_AN_EPOCH != 0, "in mid-epoch"
    # one more that was cut off when only the mark of completeness was missing, and a store that has grown
    shutil.copytree(checkpoint.parent, part / "trainer" / "checkpoint-38")
    (part / "trainer" / "checkpoint-38" / "complete.json").unlink()
    write_features(world / "store", "other", "frames", [("clip", 2)])

    with pytest.raises(RunError, match=r"differs in learning_rate \(was 0.01, is 0.02\); choose another"):
        train(config.model_copy(update={"learning_rate": 0.02}))
    resumed = train(config.model_copy(update={"prefetch": 0}))  # changes no number, so it may differ
    assert resumed.snapshot == undisturbed.snapshot
    assert resumed.losses == undisturbed.losses
    assert_same_run(config.out, tmp_path / "undisturbed")
    assert sorted(path.name for path in config.out.iterdir()) == sorted(
        path.name for path in (tmp_path / "undisturbed").iterdir()
    )
    assert not part.exists()
    with pytest.raises(RunError, match="exists already"):
        train(config)


class Interrupt(Silent):
    """The user's Ctrl-C after step 13."""

    def update(self, done: int, total: int, failed: int = 0, note: str = "") -> None:
        if done == STEPS_AN_EPOCH + 1:
            raise KeyboardInterrupt


def test_it_goes_on_between_two_epochs(world: Path, tmp_path: Path) -> None:
    settings = SETTINGS | {"max_steps": 15, "save_every": STEPS_AN_EPOCH}
    train(training(world, tmp_path / "undisturbed", **settings))
    config = training(world, tmp_path / "run", **settings)
    with pytest.raises(KeyboardInterrupt):
        train(config, Interrupt)
    train(config)
    assert_same_run(config.out, tmp_path / "undisturbed")


@pytest.mark.slow
def test_several_processes_go_on_too(world: Path, tmp_path: Path) -> None:
    settings = SETTINGS | {"processes": 2}
    train(training(world, tmp_path / "undisturbed", **settings))
    config = training(world, tmp_path / "run", **settings)

    class InterruptLater(Silent):
        def update(self, done: int, total: int, failed: int = 0, note: str = "") -> None:
            if done >= 8:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, InterruptLater)
    with pytest.raises(RunError, match=r"differs in num_processes \(was 2, is 1\)"):
        train(config.model_copy(update={"processes": 1}))
    train(config)
    assert_same_run(config.out, tmp_path / "undisturbed")


def test_a_training_that_ended_but_was_not_written_takes_no_further_step(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = training(world, tmp_path / "undisturbed", **SETTINGS | {"max_steps": 4})
    train(undisturbed)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    config = undisturbed.model_copy(update={"out": tmp_path / "run"})
    with monkeypatch.context() as patch:
        patch.setattr(train_module, "code_versions", killed)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    assert train(config).steps == 4
    assert_same_run(config.out, undisturbed.out)


def test_what_is_logged_counts_where_it_decides_when_a_training_ends(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    config = training(world, tmp_path / "run", **SETTINGS | {"max_steps": 4, "enough_loss": 1e-9})
    with monkeypatch.context() as patch:
        patch.setattr(train_module, "code_versions", killed)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    with pytest.raises(RunError, match=rf"differs in log_every \(was {config.log_every}, is 7\)"):
        train(config.model_copy(update={"log_every": 7}))
    assert train(config).steps == 4


def test_without_checkpoints_a_training_starts_again(world: Path, tmp_path: Path) -> None:
    config = training(world, tmp_path / "run", max_steps=1, save_every=None)
    with locked_part_folder(config.out) as part:
        (part / "training.json").write_text("{}")
    with pytest.raises(RunError, match=r"training.json cannot be read; remove the folder"):
        train(config)
    (part / "training.json").unlink()
    (part / "metrics.jsonl").write_text('{"step": 7, "loss": 1.0}\n')
    assert [step for step, _ in train(config).losses] == [1]


def test_a_refused_training_leaves_nothing_behind(world: Path, tmp_path: Path) -> None:
    config = training(world, tmp_path / "run", base=str(tmp_path / "nothing"), channels={"exo": {}})
    with pytest.raises(Exception, match="exo"):  # missing features, before the missing base
        train(config)
    assert list(tmp_path.iterdir()) == []
