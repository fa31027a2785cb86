"""Checkpoints of a training that is going on: which are complete, and whether this training may go on from them.

    .NAME.part/
      training.json            what is trained, on what, with which packages: `TrainingIdentity`
      trainer/checkpoint-N/    the Trainer's files after step N
        complete.json          written when those of all processes are on the disk

transformers itself takes the newest folder for a checkpoint, also one whose writing was cut off.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipelines.config import WITHOUT_EFFECT, Settings, TrainConfig
from pipelines.errors import RunError
from pipelines.setting_differences import differences
from tasks.instruction import Instruction

TRAINING_FILE = "training.json"
TRAINER_FOLDER = "trainer"
COMPLETE_FILE = "complete.json"
_PREFIX = "checkpoint-"
# Packages that make the numbers of a training.
_PACKAGES = ("pave-video", "torch", "transformers", "peft", "accelerate")


class TrainingIdentity(Settings):
    """What must be the same for a training to go on from a checkpoint bit for bit."""

    config: dict[str, Any]
    num_processes: int  # of all nodes: each has random numbers of its own
    snapshot: int
    feature_sets: dict[str, str]  # channel -> name with fingerprint
    instructions: str  # digest of those that are trained on, in their order
    packages: dict[str, str]


def identity_of(
    config: TrainConfig,
    snapshot: int,
    feature_sets: Mapping[str, str],
    instructions: Iterable[Instruction],
) -> TrainingIdentity:
    """The identity of a training that begins now."""
    digest = hashlib.sha256()
    for item in instructions:
        digest.update(repr(item).encode())
    without_effect = WITHOUT_EFFECT
    if config.enough_loss is not None:  # which losses are logged then decides when the training ends
        without_effect -= {"log_every", "save_every"}
    values = {
        name: value for name, value in config.model_dump(mode="json").items() if name not in without_effect
    }
    del values["data"]["snapshot"]  # the version that it was, or is now, stands beside
    return TrainingIdentity(
        config=values,
        num_processes=config.num_processes,
        snapshot=snapshot,
        feature_sets=dict(feature_sets),
        instructions=digest.hexdigest(),
        packages={name: importlib.metadata.version(name) for name in _PACKAGES},
    )


def read_identity(folder: Path) -> TrainingIdentity | None:
    """That of the training in a part folder; None where none has begun. Raises RunError for a damaged file."""
    try:
        return TrainingIdentity.model_validate_json((folder / TRAINING_FILE).read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise RunError(
            f"{folder / TRAINING_FILE} cannot be read; remove the folder {folder} to train from the start"
        ) from error


def begin_or_go_on(folder: Path, identity: TrainingIdentity) -> None:
    """Keep the identity in the part folder, and remove half-written checkpoints.

    Raises RunError when the folder has checkpoints of a training that differs.
    """
    before = read_identity(folder)
    if before is not None and before != identity and last_checkpoint(folder) is not None:
        differing = ", ".join(
            f"{name.removeprefix('config.')} (was {was!r}, is {now!r})"
            for name, was, now in differences(before.model_dump(), identity.model_dump())
        )
        raise RunError(
            f"{folder} holds checkpoints of a training that was not finished and differs in {differing}; "
            "choose another folder for this run, or remove that one"
        )
    if before != identity:
        for entry in folder.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry.name != "lock":
                entry.unlink()
        _write(folder / TRAINING_FILE, identity.model_dump_json(indent=1) + "\n")
    complete = last_checkpoint(folder)
    for checkpoint in _checkpoints(folder / TRAINER_FOLDER):
        if checkpoint != complete:
            shutil.rmtree(checkpoint)


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint in a part folder."""
    complete = [path for path in _checkpoints(folder / TRAINER_FOLDER) if (path / COMPLETE_FILE).exists()]
    return complete[-1] if complete else None


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint after `step` is in a part folder."""
    return folder / TRAINER_FOLDER / f"{_PREFIX}{step}"


def checkpoint_step(checkpoint: Path | None) -> int:
    """The step after which it was written; 0 for None."""
    return 0 if checkpoint is None else int(checkpoint.name.removeprefix(_PREFIX))


def complete_checkpoint(checkpoint: Path) -> None:
    """Mark a checkpoint as complete, once all of its files are on the disk, and remove the older ones."""
    for path in checkpoint.rglob("*"):
        _to_disk(path)
    _write(checkpoint / COMPLETE_FILE, json.dumps({"step": checkpoint_step(checkpoint)}) + "\n")
    _to_disk(checkpoint)
    for other in _checkpoints(checkpoint.parent):
        if other != checkpoint:
            shutil.rmtree(other)


def _checkpoints(trainer_folder: Path) -> list[Path]:
    """By step, complete or not."""
    found = trainer_folder.glob(f"{_PREFIX}*")
    return sorted(found, key=checkpoint_step)


def _write(path: Path, text: str) -> None:
    unfinished = path.with_name(f".{path.name}.part")
    unfinished.write_text(text)
    _to_disk(unfinished)
    unfinished.replace(path)


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
