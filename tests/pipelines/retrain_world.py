"""A SideCue that can grow, a tiny base, and retraining on them without Ray."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from flaky_extractor import TINY
from tiny_base import write_tiny_base

from pipelines.base_model import load_base_model
from pipelines.retrain_config import RetrainConfig

QUESTION = "end_colour"


def write_learnable_base(path: Path) -> Path:
    """The tiny base with larger embeddings: its random ones give all tokens the same chance, whatever LoRA does."""
    write_tiny_base(path)
    base = load_base_model(str(path))
    with torch.no_grad():
        base.get_output_embeddings().weight.mul_(60)
    base.save_pretrained(path)
    return path


def show(world: Path, root: Path, shown: Mapping[str, int], answers: Mapping[str, str] | None = None) -> None:
    """Make `root` hold so many clips of each split of a whole SideCue, with one question each.

    Args: answers: by sample id, instead of the right ones.
    """
    for split, count in shown.items():
        entries = json.loads((world / "annotations" / f"{split}.json").read_text())[:count]
        for entry in entries:
            place = root / entry["media"]["video"]
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.exists():
                os.link(world / entry["media"]["video"], place)
            entry["questions"] = [item for item in entry["questions"] if item["type"] == QUESTION]
            for item in entry["questions"]:
                item["answer"] = (answers or {}).get(entry["sample_id"], item["answer"])
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"{split}.json").write_text(json.dumps(entries))
    shutil.copy(world / "sidecue.json", root)


def settings(root: Path, base: Path, **changes: Any) -> dict[str, Any]:
    """The settings of a retraining in `root`; changes are those of its training."""
    data = {"store": str(root / "store"), "split": "train", "max_missing_fraction": 0.5}
    training = {
        "base": str(base),
        "data": data,
        "features": {"audio": TINY.model_dump(mode="json"), "frames": {"num_frames": 4}},
        "channels": {"audio": {"embed_dim": 16, "hidden_dim": 16, "time_radius": 1.0}},
        "lora": {"r": 16, "alpha": 32, "dropout": 0.0},
        "max_steps": 1,
        "batch_size": 4,
        "accumulation": 1,
        "learning_rate": 1e-2,
        "warmup_fraction": 0.0,
        "max_grad_norm": 5.0,
        "log_every": 1,
        **changes,
    }
    return {
        "source": {"task": "sidecue", "root": str(root / "media"), "out": str(root / "prepared")},
        "train": training,
        "judge": {"max_new_tokens": 4, "max_missing_fraction": 0.5},
        "runs": str(root / "runs"),
        "registry": str(root / "patches"),
        "max_failure_fraction": 0.5,
    }


def configured(root: Path, base: Path, **changes: Any) -> RetrainConfig:
    """The same as a configuration."""
    return RetrainConfig.model_validate(settings(root, base, **changes))
