"""What a training logs, how it waits for data, and that neither order nor reading ahead change what they must not."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_base import TOKENS, write_tiny_base
from tiny_features import write_features
from torch import Tensor, nn
from transformers import TrainerControl, TrainerState, TrainingArguments

from pave_model.config import LoraSettings
from pipelines.config import DataConfig, FusionSizes, TrainConfig
from pipelines.errors import RunError
from pipelines.metered_trainer import MeteredTrainer
from pipelines.progress import Silent
from pipelines.step_meter import StepMeter
from pipelines.train import TrainReport, is_last, train
from pipelines.training_log import EventFiles, TrainingLog, read_log
from pipelines.training_order import TrainingOrder

NUM_SAMPLES, NUM_FRAMES = 12, 4


class Notes(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def update(self, done: int, total: int, failed: int = 0, note: str = "") -> None:
        self.notes.append(note)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with base/, store/ and instructions.parquet; the sound of the samples differs in length."""
    root = tmp_path_factory.mktemp("world")
    write_tiny_base(root / "base")
    names = [f"clip {number}" for number in range(NUM_SAMPLES)]
    write_features(root / "store", "toy", "frames", [(name, NUM_FRAMES) for name in names])
    write_features(
        root / "store", "toy", "audio", [(name, 2 + 20 * (number % 3)) for number, name in enumerate(names)]
    )
    rows = [
        {
            "instruction_id": f"{number}/colour",
            "sample_id": f"clip {number}",
            "dataset": "toy",
            "split": "train",
            "question_type": "colour",
            "question": "Which colour is on screen at the end?",
            "answer": ("red", "green")[number % 2],
            "chance": 0.5,
        }
        for number in range(NUM_SAMPLES)
    ]
    pq.write_table(pa.Table.from_pylist(rows), root / "instructions.parquet")
    return root


def run(world: Path, out: Path, notes: Notes | None = None, **more: Any) -> TrainReport:
    settings = {
        "base": str(world / "base"),
        "out": out,
        "data": DataConfig(
            store=str(world / "store"), instructions=world / "instructions.parquet", split="train"
        ),
        "channels": {"audio": FusionSizes(embed_dim=16, hidden_dim=16)},
        "lora": LoraSettings(r=2, alpha=4, dropout=0.5),  # random numbers must not depend on the reading
        "max_steps": 4,
        "batch_size": 4,
        "accumulation": 1,
        "learning_rate": 1e-2,
        "warmup_fraction": 0.0,
        "log_every": 1,
        "trackers": (),
        **more,
    }
    return train(TrainConfig(**settings), lambda label: notes or Silent(label))


@pytest.fixture(scope="module")
def notes() -> Notes:
    return Notes()


@pytest.fixture(scope="module")
def logged(world: Path, notes: Notes) -> Path:
    """The run folder of a training that logged everything."""
    rates = {"patch_learning_rate": 0.02, "lora_learning_rate": 0.005}
    run(world, world / "logged", notes, trackers=("tensorboard",), **rates)
    return world / "logged"


def test_every_logging_step_says_what_it_cost(logged: Path, notes: Notes) -> None:
    entries = read_log(logged / "metrics.jsonl")
    assert [entry["step"] for entry in entries] == [1, 2, 3, 4]
    for entry in entries:
        assert 0 < entry["data_wait_share"] < 1
        assert 50 < entry["memory_mib"] < 50_000
        # a frame's tokens, with a newline for each of their rows, and some words
        assert NUM_FRAMES * TOKENS < entry["tokens_per_s"] / entry["examples_per_s"] < 200
        assert entry["examples_per_s"] > 4 / 60
        assert "cuda_memory_mib" in entry or not torch.cuda.is_available()
        assert entry["patch_learning_rate"] == pytest.approx(4 * entry["lora_learning_rate"])
    assert entries[0]["patch_learning_rate"] == 0.02, "the rate of the step itself, and not of the next"
    assert entries[-1]["patch_learning_rate"] < entries[0]["patch_learning_rate"]
    last = entries[-1]
    assert notes.notes[-1] == (
        f"loss {last['loss']:.3f}, {last['examples_per_s']:.3g} examples/s, "
        f"{last['data_wait_share']:.1%} waiting for data"
    )


def test_curves_go_into_a_picture_and_into_event_files(logged: Path) -> None:
    assert (logged / "curves.png").read_bytes().startswith(b"\x89PNG")
    events = EventAccumulator(str(logged / "tensorboard")).Reload()
    entries = read_log(logged / "metrics.jsonl")
    assert set(events.Tags()["scalars"]) == {f"train/{name}" for name in entries[0] if name != "step"}
    for name in ("loss", "data_wait_share"):
        scalars = events.Scalars(f"train/{name}")
        assert [scalar.step for scalar in scalars] == [1, 2, 3, 4]
        assert [scalar.value for scalar in scalars] == pytest.approx([entry[name] for entry in entries])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nosuch", r"^there is no tracker 'nosuch'; give some of .*mlflow.*wandb"),
        ("wandb", r"'wandb' .*instal"),
    ],
)
def test_a_tracker_that_cannot_be_used_stops_a_run_before_it_begins(
    world: Path, tmp_path: Path, name: str, message: str
) -> None:
    with pytest.raises(RunError, match=message) as caught:
        run(world, tmp_path / "run", base="nowhere", trackers=("tensorboard", name))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_training_ends_when_its_loss_is_low_enough(world: Path, tmp_path: Path) -> None:
    whole = run(world, tmp_path / "whole", max_steps=6)
    losses = [loss for _, loss in whole.losses]
    end = next(number for number, loss in enumerate(losses) if loss < losses[0])
    assert end < len(losses) - 1
    enough = losses[end] * 1.0001
    stopped = run(world, tmp_path / "stopped", max_steps=6, enough_loss=enough)
    assert stopped.losses == whole.losses[: end + 1]
    assert stopped.steps == end + 1
    unreached = run(world, tmp_path / "unreached", max_steps=6, enough_loss=min(losses))
    assert unreached.losses == whole.losses, "only a loss below it ends the training"


def test_a_killed_training_that_had_learned_does_not_go_on(tmp_path: Path) -> None:
    history = [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25}]
    state = {"global_step": 2, "max_steps": 6, "log_history": history}
    (tmp_path / "trainer_state.json").write_text(json.dumps(state))
    assert is_last(tmp_path, enough_loss=0.3)
    assert not is_last(tmp_path, enough_loss=0.25)
    assert not is_last(tmp_path, enough_loss=None)


def test_how_batches_are_read_changes_no_loss_but_their_order_does(world: Path, tmp_path: Path) -> None:
    usual = run(world, tmp_path / "usual")
    at_once = run(world, tmp_path / "at once", prefetch=0)
    by_worker = run(world, tmp_path / "by worker", loader_workers=1)
    as_they_fall = run(world, tmp_path / "as they fall", group_by_length=False)
    assert usual.losses == at_once.losses == by_worker.losses
    assert usual.losses != as_they_fall.losses
    assert not (tmp_path / "usual" / "tensorboard").exists()


def test_what_a_resumed_training_does_again_is_logged_once(tmp_path: Path) -> None:
    arguments = TrainingArguments(output_dir=str(tmp_path), report_to=[], use_cpu=True)
    path = tmp_path / "metrics.jsonl"

    def go_on(first: int, last: int) -> TrainingLog:
        """As a training does that begins after step `first`."""
        log, files = TrainingLog(path, Silent()), EventFiles(tmp_path / "tensorboard")
        state, control = TrainerState(global_step=first, max_steps=5), TrainerControl()
        for callback in (log, files):
            callback.on_train_begin(arguments, state, control)
        for step in range(first + 1, last + 1):
            state.global_step = step
            logs = {"loss": 10.0 * last + step, "examples_per_s": 1.0, "data_wait_share": 0.0}
            for callback in (log, files):
                callback.on_log(arguments, state, control, logs=logs)
                callback.on_log(arguments, state, control, logs={"train_runtime": 1.0})
        return log

    go_on(0, 4)
    with path.open("a") as file:
        file.write('{"step": 5, "lo')  # killed while it wrote
    time.sleep(1.1)  # the names of event files tell seconds, and TensorBoard reads them in that order
    log = go_on(2, 5)
    expected = [(1, 41.0), (2, 42.0), (3, 53.0), (4, 54.0), (5, 55.0)]
    assert log.losses == expected
    assert [(entry["step"], entry["loss"]) for entry in read_log(path)] == expected
    scalars = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("train/loss")
    assert [(scalar.step, scalar.value) for scalar in scalars] == expected
    assert go_on(0, 1).losses == [(1, 11.0)], "a fresh training begins a fresh log"


def batches(seconds: float) -> Iterator[dict[str, Tensor]]:
    while True:
        time.sleep(seconds)
        mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
        yield {"input_ids": torch.zeros(2, 4), "attention_mask": mask}


def test_the_meter_tells_waiting_from_working() -> None:
    def measure(reading: float, working: float) -> dict[str, float]:
        meter = StepMeter()
        watched = meter.watch(batches(reading))
        for _ in range(5):
            next(watched)
            time.sleep(working)
        return meter.read(lambda counts: counts, torch.device("cpu"))

    slow_data, slow_steps = measure(0.02, 0), measure(0, 0.02)
    assert slow_data["data_wait_share"] > 0.9
    assert slow_steps["data_wait_share"] < 0.1
    assert slow_data["examples_per_s"] < 2 / 0.02
    assert slow_data["tokens_per_s"] == pytest.approx(3.5 * slow_data["examples_per_s"])


def test_numbers_of_several_processes_are_of_all_of_them() -> None:
    def read(processes: int) -> dict[str, float]:
        meter = StepMeter()
        next(meter.watch(batches(0.05)))
        return meter.read(lambda counts: counts * processes, torch.device("cpu"))

    one, two = read(1), read(2)
    assert two["examples_per_s"] == pytest.approx(2 * one["examples_per_s"], rel=0.3)
    assert two["data_wait_share"] == pytest.approx(one["data_wait_share"], rel=0.3)


LENGTHS = [number % 3 for number in range(12)]


class Remembers(nn.Module):
    """A model that keeps the first id of each example it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.seen: list[list[int]] = []

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> dict[str, Tensor]:
        self.seen.append(input_ids[:, 0].tolist())
        return {"loss": self.weight.sum()}


def collate(numbers: list[int]) -> dict[str, Tensor]:
    ids = torch.tensor(numbers)[:, None].expand(-1, 2).contiguous()
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}


def test_a_resumed_training_sees_the_rest_of_its_epoch(tmp_path: Path) -> None:
    def trained(name: str, resume_from: Path | None = None) -> list[list[int]]:
        model = Remembers()
        arguments = TrainingArguments(
            output_dir=str(tmp_path / name),
            use_cpu=True,
            max_steps=8,  # of 3 an epoch
            per_device_train_batch_size=4,
            save_steps=5,
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,
        )
        trainer = MeteredTrainer(
            model=model,
            args=arguments,
            train_dataset=list(range(12)),
            data_collator=collate,
            lengths=LENGTHS,
            prefetch=2,
        )
        trainer.train(resume_from_checkpoint=None if resume_from is None else str(resume_from))
        return model.seen

    whole = trained("whole")
    first, second = ([number for batch in whole[at : at + 3] for number in batch] for at in (0, 3))
    assert first == list(TrainingOrder(12, 4, 42, LENGTHS))
    assert sorted(second) == list(range(12))
    assert first != second
    assert trained("rest", tmp_path / "whole" / "checkpoint-5") == whole[5:]
    assert json.loads((tmp_path / "whole/checkpoint-8/trainer_state.json").read_text())["global_step"] == 8
