"""The settings of a retraining."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from pipelines.config import ExecutionConfig, PrepareConfig, Settings, TrainConfig

REGISTRY = Path("data/patches")


class JudgeConfig(Settings):
    """On what challenger and champion are compared; what is not given is as in `EvaluateConfig`."""

    split: str | None = Field(default=None, description="default: what the task is published on, or test")
    question_types: tuple[str, ...] | None = Field(default=None, description="default: those of the training")
    metric: str | None = Field(
        default=None, description="decides, more is better; default: the headline of the task"
    )
    max_missing_fraction: float = Field(
        default=0.1, ge=0, le=1, description="share of the instructions that may lack features"
    )
    batch_size: int = Field(default=16, gt=0)
    max_new_tokens: int | None = Field(default=None, gt=0, description="default: the task's")
    task: str | None = Field(
        default=None, description="score as this task; default: as the one of the dataset's name"
    )
    allow_missing_metrics: bool = False
    bootstrap_samples: int = Field(default=2000, gt=0)
    seed: int = 0


class RetrainConfig(Settings):
    """One retraining: from the media as they are now to a champion.

    Of `train`, which may be a recipe's content, `out` is replaced by a folder below `runs` that is named for what is
    learned, and snapshot and feature sets are pinned. Its `features` are the encoders that new media go through.
    """

    source: PrepareConfig = Field(
        description="where the media are, and into which folder their manifest goes"
    )
    train: TrainConfig = Field(description="how a challenger is trained")
    judge: JudgeConfig = JudgeConfig()
    runs: Path = Field(default=Path("data/runs"), description="folder for the run folders of the challengers")
    registry: Path = Field(default=REGISTRY, description="folder of the registry of patches")
    keep_snapshots: Literal["all", "promoted"] = Field(
        default="all", description="of which patches the store keeps the features, by a tag"
    )
    max_failure_fraction: float = Field(
        default=0.1, ge=0, le=1, description="more unusable media fail the retraining"
    )
    execution: ExecutionConfig = Field(default=ExecutionConfig(), description="of the extraction")

    @model_validator(mode="before")
    @classmethod
    def _places_follow(cls, values: Any) -> Any:
        """`train.out` and `train.data.instructions` need not be given: they follow from `runs` and `source`."""
        train = values.get("train") if isinstance(values, Mapping) else None
        source = values.get("source") if isinstance(values, Mapping) else None
        if not isinstance(train, Mapping) or not isinstance(source, Mapping):
            return values
        train = {"out": values.get("runs", cls.model_fields["runs"].default), **train}
        if isinstance(train.get("data"), Mapping):
            out = Path(source.get("out", PrepareConfig.model_fields["out"].default))
            train["data"] = {"instructions": out / "instructions.parquet", **train["data"]}
        return {**values, "train": train}

    @model_validator(mode="after")
    def _can_be_repeated(self) -> Self:
        if self.train.data.snapshot is not None:
            raise ValueError("train.data.snapshot is pinned by each retraining; leave it out")
        encoders = {} if self.train.features is None else self.train.features.given()
        lacking = sorted({"frames", *self.train.channels} - encoders.keys())
        if lacking:
            raise ValueError(f"train.features has no encoder of {', '.join(lacking)}; new media need one")
        return self
