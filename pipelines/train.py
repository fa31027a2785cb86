"""Training one patch on cached features, with transformers' Trainer.

The run folder, complete when `run.json` is there (it is written last):

    run.json        configuration, snapshot and feature sets, coverage, versions of code and packages, final loss
    patch/          the patch, see pave_model.checkpoint
    metrics.jsonl   one line per logging step
    curves.png      loss, learning rates, throughput and data wait over the steps
    tensorboard/    the same as event files
"""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, TrainerCallback, TrainingArguments

from pave_model.config import FusionConfig, PatchConfig
from pave_model.patched_model import PatchedVideoLLM
from pipelines.base_model import load_base
from pipelines.collator import Collator
from pipelines.config import Settings, TrainConfig
from pipelines.errors import RunError
from pipelines.feature_dataset import (
    Coverage,
    FeatureDataset,
    FeatureSource,
    open_source,
    read_instructions,
    with_features,
)
from pipelines.patch_trainer import PatchTrainer
from pipelines.progress import Progress, ProgressFactory, silent
from pipelines.trackers import EVENT_FILES, check_trackers
from pipelines.training_log import EventFiles, TrainingLog, write_curves

RUN_FILE = "run.json"
PATCH_FOLDER = "patch"
RECORDED_PACKAGES = ("pave-video", "torch", "transformers", "peft", "accelerate", "zarr", "deltalake", "av")


class TrainReport(Settings):
    """What one training did. `losses` are (step, loss) pairs of the logging steps; `seconds` is the training."""

    run: Path
    snapshot: int
    coverage: Coverage
    num_trainable: int
    steps: int
    seconds: float
    losses: tuple[tuple[int, float], ...]

    def summary(self) -> str:
        """A few lines for people."""
        return (
            f"trained {self.num_trainable:,} parameters for {self.steps} steps in {self.seconds:.0f} s, "
            f"last loss {self.losses[-1][1]:.4f}\n"
            f"{self.coverage.with_features} of {self.coverage.instructions} instructions, snapshot "
            f"{self.snapshot}\nrun folder: {self.run}"
        )


def train(config: TrainConfig, progress: ProgressFactory = silent) -> TrainReport:
    """Train a patch as configured.

    Raises RunError when the run folder exists already, nothing would be trained or a tracker cannot be used,
    StoreError and MissingFeaturesError when the snapshot lacks what is needed, ManifestError without instructions.
    """
    if config.out.exists():
        raise RunError(f"the run folder {config.out} exists already; choose another, or remove it")
    if not config.channels and config.lora is None:
        raise RunError("nothing would be trained: give at least one channel, or lora settings")
    check_trackers(config.trackers)
    instructions = read_instructions(config.data)
    source = open_source(config.data, instructions[0].dataset, list(config.channels))
    usable, coverage = with_features(instructions, source, config.data.max_missing_fraction)

    dtype = torch.bfloat16 if config.bf16 else torch.float32
    base, tokenizer = load_base(config.base, dtype)
    torch.manual_seed(config.seed)  # fresh patch and LoRA weights
    model = PatchedVideoLLM(base, patch_config(config, source), config.execution)
    dataset = FeatureDataset(
        usable, source, tokenizer, base.config.video_token_id, config.newline, for_training=True
    )
    temporary = config.out.with_name(f".{config.out.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    started = time.monotonic()
    channels = "+".join(config.channels) or "lora only"
    with progress(f"train {channels}") as stage:
        log = _fit(model, dataset, tokenizer, config, temporary, stage)
    losses = log.losses
    lineage = {**source.identity(), "run": config.out.name, "base": config.base}
    licences = {channel: features.record.licence for channel, features in source.side.items()}
    model.save_pretrained(temporary / PATCH_FOLDER, lineage, licences)
    report = TrainReport(
        run=config.out,
        snapshot=source.version,
        coverage=coverage,
        num_trainable=sum(p.numel() for p in model.parameters() if p.requires_grad),
        steps=losses[-1][0],
        seconds=time.monotonic() - started,
        losses=tuple(losses),
    )
    write_curves(log.entries, temporary / "curves.png", channels)
    run = {
        "config": config.model_dump(mode="json"),
        "base_fingerprint": model.base_fingerprint,
        **source.identity(),
        "code": code_versions(),
        "report": report.model_dump(mode="json"),
    }
    (temporary / RUN_FILE).write_text(json.dumps(run, indent=1) + "\n")
    temporary.rename(config.out)
    return report


def patch_config(config: TrainConfig, source: FeatureSource) -> PatchConfig:
    """The patch's sizes: the free ones from the configuration, the others from the features themselves."""
    frames = source.frames.record
    return PatchConfig(
        base=config.base,
        channels={
            channel: FusionConfig(
                side_dim=source.side[channel].record.values.dim,
                query_dim=frames.values.dim,
                output_dim=frames.tensor("visual").dim,
                **sizes.model_dump(),
            )
            for channel, sizes in config.channels.items()
        },
        lora=config.lora,
        newline=config.newline,
    )


def read_run(folder: Path) -> dict[str, Any]:
    """The content of a finished run's `run.json`. Raises RunError where there is none."""
    try:
        content: dict[str, Any] = json.loads((folder / RUN_FILE).read_text())
    except (OSError, ValueError) as error:
        raise RunError(
            f"{folder} is no finished run (no readable {RUN_FILE}); train one with `pave train`"
        ) from error
    return content


def code_versions() -> dict[str, str | None]:
    """Versions of the packages that make the numbers, and the git revision where the code is a checkout."""
    versions: dict[str, str | None] = {name: importlib.metadata.version(name) for name in RECORDED_PACKAGES}
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        found = subprocess.run(git, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        versions["git_revision"] = None  # an installed wheel
    else:
        versions["git_revision"] = found.stdout.strip()
    return versions


def _fit(
    model: PatchedVideoLLM,
    dataset: FeatureDataset,
    tokenizer: PreTrainedTokenizerBase,
    config: TrainConfig,
    folder: Path,
    stage: Progress,
) -> TrainingLog:
    """Run the Trainer and return its log."""
    arguments = TrainingArguments(
        output_dir=str(folder / "trainer"),
        num_train_epochs=config.epochs,
        max_steps=config.max_steps or -1,
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.accumulation,
        learning_rate=config.learning_rate,
        weight_decay=0.0,
        lr_scheduler_type="cosine",
        warmup_steps=config.warmup_fraction,
        max_grad_norm=config.max_grad_norm,
        bf16=config.bf16,
        seed=config.seed,
        dataloader_num_workers=config.loader_workers,
        dataloader_prefetch_factor=max(config.prefetch, 1) if config.loader_workers else None,
        accelerator_config={"non_blocking": torch.cuda.is_available()},  # copies pinned batches aside
        dataloader_pin_memory=torch.cuda.is_available(),
        remove_unused_columns=False,
        logging_steps=config.log_every,
        logging_first_step=True,
        save_strategy="no",
        report_to=[name for name in config.trackers if name != EVENT_FILES],
        disable_tqdm=True,
        log_level="error",
    )
    log = TrainingLog(folder / "metrics.jsonl", stage)
    event_files = [EventFiles(folder / "tensorboard")] if EVENT_FILES in config.trackers else []
    trainer = PatchTrainer(
        model=model,
        args=arguments,
        train_dataset=dataset,
        data_collator=Collator(
            tokenizer.pad_token_id, max_length=config.data.max_length, too_long=config.data.too_long
        ),
        callbacks=[log, *event_files],
        patch_learning_rate=config.patch_learning_rate,
        lora_learning_rate=config.lora_learning_rate,
        lengths=dataset.lengths() if config.group_by_length else None,
        prefetch=config.prefetch,
    )
    trainer.remove_callback(_printer())
    trainer.train()
    shutil.rmtree(folder / "trainer", ignore_errors=True)
    return log


def _printer() -> type[TrainerCallback]:
    """The callback that prints each log line; the progress shows the same."""
    from transformers.trainer_callback import PrinterCallback

    return PrinterCallback  # type: ignore[no-any-return]
