"""Training with several processes: the losses of one, and what becomes of them when one is killed."""

import os
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path

import pytest
from pave_process import start_pave
from pydantic import ValidationError
from safetensors.torch import load_file
from training_world import metrics, training, write_world

from pipelines.config import TrainConfig
from pipelines.errors import TrainingProcessError
from pipelines.masked_repeats import FilledOrder
from pipelines.progress import Silent
from pipelines.run_folder import read_run
from pipelines.train import train
from pipelines.training_order import TrainingOrder
from store import FeatureStore


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"))


def workers_of(folder: Path) -> list[int]:
    """Ids of the processes that train into `folder`, launcher included, by their command lines or environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                command = (entry / "cmdline").read_bytes()
                environment = (entry / "environ").read_bytes()
                if b"pipelines.train_" in command and f"PAVE_TEST={folder}".encode() in environment:
                    found.append(int(entry.name))
    return sorted(found)


def wait_for(condition, seconds: float = 60.0) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_two_processes_have_the_losses_of_one(world: Path, tmp_path: Path) -> None:
    """Over two epochs, whose last steps have fewer examples; answers differ in length."""
    one = train(training(world, tmp_path / "one", epochs=2))
    seen: list[tuple[int, int]] = []

    class Seen(Silent):
        def update(self, done: int, total: int, failed: int = 0, note: str = "") -> None:
            seen.append((done, total))

    two = train(training(world, tmp_path / "two", epochs=2, processes=2), Seen)
    assert [step for step, _ in two.losses] == [1, 2, 3, 4, 5, 6]
    for (_, ours), (_, theirs) in zip(two.losses, one.losses, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)
    for ours, theirs in zip(metrics(tmp_path / "two"), metrics(tmp_path / "one"), strict=True):
        assert ours["learning_rate"] == theirs["learning_rate"]
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-3)
    assert seen[-1] == (6, 6)
    assert (two.coverage, two.num_trainable) == (one.coverage, one.num_trainable)
    patches = [load_file(tmp_path / run / "patch" / "patch.safetensors") for run in ("one", "two")]
    assert all(patches[0][name].allclose(patches[1][name], atol=1e-3) for name in patches[0])
    assert not (tmp_path / ".two.part").exists()


def test_an_error_of_a_process_is_the_error_of_the_training(world: Path, tmp_path: Path) -> None:
    short = training(world, tmp_path / "run", processes=2, data={"max_length": 30})
    with pytest.raises(TrainingProcessError, match=r"^sample 'clip \d+' has \d+ tokens.* max_length is 30;"):
        train(short)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_killed_processes_are_told_and_none_outlives_its_parent(world: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    config = training(world, tmp_path / "run", processes=2, max_steps=100000, save_every=5)
    recipe.write_text(config.model_dump_json())
    checkpoints = tmp_path / ".run.part" / "trainer"

    def complete() -> bool:
        return any(checkpoints.glob("*/complete.json"))

    first = start_pave(tmp_path, "train", recipe, PAVE_TEST=str(tmp_path))
    wait_for(lambda: complete() or first.poll() is not None)
    assert len(workers_of(tmp_path)) == 3, "the launcher and two processes"
    os.kill(workers_of(tmp_path)[-1], signal.SIGKILL)
    _, errors = first.communicate(timeout=60)
    assert first.returncode == 1
    assert "of 2 ended with exit code -9; the same command goes on from the last checkpoint" in errors
    assert workers_of(tmp_path) == []

    second = start_pave(tmp_path, "train", recipe, PAVE_TEST=str(tmp_path))
    wait_for(lambda: len(workers_of(tmp_path)) == 3 or second.poll() is not None)
    second.kill()
    second.communicate(timeout=60)
    wait_for(lambda: workers_of(tmp_path) == [], seconds=10)


def test_the_global_batch_is_divided_among_the_processes(world: Path, tmp_path: Path) -> None:
    def share(batch_size: int, accumulation: int, processes: int) -> tuple[int, int]:
        sizes = {"batch_size": batch_size, "accumulation": accumulation, "processes": processes}
        return training(world, tmp_path / "run", **sizes).share

    assert share(4, 4, 1) == (4, 4)
    assert share(4, 4, 2) == (4, 2)
    assert share(4, 4, 8) == (2, 1)
    assert share(4, 3, 2) == (3, 2)
    with pytest.raises(ValidationError, match=r"4 x 4, cannot be divided among 3 processes"):
        share(4, 4, 3)
    values = training(world, tmp_path / "run").model_dump() | {"nodes": 2}
    with pytest.raises(ValidationError, match="several nodes need rendezvous"):
        TrainConfig.model_validate(values)


def test_an_epoch_is_filled_up_with_repeats() -> None:
    order = TrainingOrder(5, 2, seed=1)
    positions = list(order)
    assert list(FilledOrder(order, 4)) == [*positions, *(-1 - at for at in positions[:3])]
    assert list(FilledOrder(order, 5)) == positions


@pytest.mark.slow
def test_two_nodes_train_as_one_process_does(world: Path, tmp_path: Path) -> None:
    """Both on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pinned = {"data": {"snapshot": FeatureStore.open(world / "store").snapshot().version}, "max_steps": 4}
    one = train(training(world, tmp_path / "one", **pinned))
    nodes = []
    for rank in range(2):
        recipe = tmp_path / f"node{rank}.yaml"
        settings = {"nodes": 2, "node_rank": rank, "rendezvous": f"127.0.0.1:{port}"}
        recipe.write_text(training(world, tmp_path / "two", **pinned, **settings).model_dump_json())
        nodes.append(start_pave(tmp_path, "train", recipe))
    printed = [node.communicate(timeout=120) for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], printed
    assert all("for 4 steps" in output for output, _ in printed)
    losses = read_run(tmp_path / "two")["report"]["losses"]
    assert [loss for _, loss in losses] == pytest.approx([loss for _, loss in one.losses], abs=1e-5)
