"""A small training on a tiny real store: clips of different lengths, answers of one to three tokens."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tiny_base import write_tiny_base
from tiny_features import write_features

from pipelines.config import DataConfig, FusionSizes, TrainConfig

NUM_SAMPLES, NUM_FRAMES = 23, 4  # no multiple of a batch: epochs end with a smaller step
ANSWERS = ("red", "green", "red green blue", "in the middle")


def write_world(root: Path) -> Path:
    """base/, store/ and instructions.parquet in a folder."""
    write_tiny_base(root / "base")
    names = [f"clip {number}" for number in range(NUM_SAMPLES)]
    write_features(root / "store", "toy", "frames", [(name, NUM_FRAMES) for name in names])
    write_features(
        root / "store", "toy", "audio", [(name, 2 + number % 3) for number, name in enumerate(names)]
    )
    rows = [
        {
            "instruction_id": f"{number}/colour",
            "sample_id": name,
            "dataset": "toy",
            "split": "train",
            "question_type": "colour",
            "question": "Which colour is on screen" + " at the end" * (number % 3) + "?",
            "answer": ANSWERS[number % 4],
            "chance": 0.5,
        }
        for number, name in enumerate(names)
    ]
    pq.write_table(pa.Table.from_pylist(rows), root / "instructions.parquet")
    return root


def training(world: Path, out: Path, **more: Any) -> TrainConfig:
    """Batches of 2 x 4, 3 steps an epoch, no dropout."""
    data = DataConfig(
        store=str(world / "store"), instructions=world / "instructions.parquet", split="train"
    ).model_dump()
    return TrainConfig.model_validate(
        {
            "base": str(world / "base"),
            "out": out,
            "data": {**data, **more.pop("data", {})},
            "channels": {"audio": FusionSizes(embed_dim=16, hidden_dim=16)},
            "lora": {"r": 2, "alpha": 4, "dropout": 0.0},
            "batch_size": 4,
            "accumulation": 2,
            "learning_rate": 1e-2,
            "log_every": 1,
            "trackers": (),
            **more,
        }
    )


def metrics(run: Path) -> list[dict[str, float]]:
    """The entries of the log, without those of speed and memory."""
    kept = ("step", "epoch", "loss", "grad_norm", "learning_rate")
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [{name: json.loads(line)[name] for name in kept} for line in lines]
