"""Training one patch on cached features, with transformers' Trainer, in this process or in several.

The run folder, complete when `run.json` is there (it is written last):

    run.json        configuration, snapshot and feature sets, coverage, versions of code and packages, final loss,
                    digests of the instructions, media and patch (pipelines.lineage)
    items.parquet   the instructions that it was trained on
    patch/          the patch, see pave_model.checkpoint
    metrics.jsonl   one line per logging step
    curves.png      loss, learning rates, throughput and data wait over the steps
    tensorboard/    the same as event files

Until then it is the hidden `.NAME.part` beside it, with checkpoints (`training_checkpoints`), from which the same
call goes on after the process was killed.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, TrainerCallback, TrainerState, TrainingArguments

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
    open_features,
    read_instructions,
    with_features,
)
from pipelines.lineage import ITEMS_FILE, patch_hashes, training_lineage, write_items
from pipelines.masked_repeats import MaskedRepeats
from pipelines.patch_trainer import PatchTrainer
from pipelines.progress import Progress, ProgressFactory, silent
from pipelines.run_folder import (
    PATCH_FOLDER,
    check_new,
    code_versions,
    finish,
    locked_part_folder,
    part_folder,
    read_run,
)
from pipelines.trackers import EVENT_FILES, check_trackers
from pipelines.training_checkpoints import (
    TRAINER_FOLDER,
    TrainingIdentity,
    begin_or_go_on,
    checkpoint_path,
    checkpoint_step,
    identity_of,
    last_checkpoint,
    read_identity,
)
from pipelines.training_log import EnoughLoss, EventFiles, TrainingLog, read_log, write_curves
from pipelines.training_processes import check_devices, run_processes
from tasks.instruction import Instruction


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


@dataclass(frozen=True)
class TrainingData:
    """The instructions that can be trained on, and the features that they are answered from."""

    usable: list[Instruction]
    coverage: Coverage
    source: FeatureSource


def train(config: TrainConfig, progress: ProgressFactory = silent) -> TrainReport:
    """Train a patch as configured, or go on with a training that was cut off.

    Raises RunError when the run folder exists already, another process trains into it, what was cut off differs,
    nothing would be trained, or a tracker or the number of processes cannot be used; TrainingProcessError when one of
    several processes fails; BaseMismatchError and CheckpointError for what `start_from` names; StoreError and
    MissingFeaturesError when the snapshot lacks what is needed, ManifestError without instructions.
    """
    check_new(config.out)
    if not config.channels and config.lora is None:
        raise RunError("nothing would be trained: give at least one channel, or lora settings")
    check_trackers(config.trackers)
    check_devices(config)
    if config.node_rank > 0:  # node 0 has the folder and the lock
        _run_processes(config, read_data(config, config.data.snapshot).source.version, progress)
    else:
        with locked_part_folder(config.out) as folder:
            before = read_identity(folder)
            snapshot = config.data.snapshot
            if snapshot is None and before is not None:
                snapshot = before.snapshot  # the store may have grown since
            data = read_data(config, snapshot)
            begin_or_go_on(folder, _identity(config, data))
            if config.num_processes > 1:
                _run_processes(config, data.source.version, progress)
            else:
                _train_here(config, data, folder, progress)
    return TrainReport.model_validate(read_run(config.out)["report"])


def train_worker(task: Mapping[str, Any], progress: ProgressFactory) -> None:
    """One of several processes of a training, with torchrun's environment; `task` has `config` and `snapshot`."""
    config = TrainConfig.model_validate(task["config"])
    data = read_data(config, task["snapshot"])
    _train_here(config, data, part_folder(config.out), progress)
    # the others end when the run is complete
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def read_data(config: TrainConfig, snapshot: int | str | None) -> TrainingData:
    """What is trained on, of a version or tag of the store.

    Raises ManifestError, StoreError and MissingFeaturesError as `train`.
    """
    instructions = read_instructions(config.data)
    source = open_features(
        config.data.store, snapshot, config.data.fingerprints, instructions[0].dataset, list(config.channels)
    )
    usable, coverage = with_features(instructions, source, config.data.max_missing_fraction)
    return TrainingData(usable, coverage, source)


def _identity(config: TrainConfig, data: TrainingData) -> TrainingIdentity:
    sets = {"frames": data.source.frames, **data.source.side}
    names = {channel: features.record.name for channel, features in sets.items()}
    return identity_of(config, data.source.version, names, data.usable)


def _run_processes(config: TrainConfig, snapshot: int, progress: ProgressFactory) -> None:
    with progress(_label(config)) as stage:
        run_processes(config, snapshot, stage)


def _train_here(config: TrainConfig, data: TrainingData, folder: Path, progress: ProgressFactory) -> None:
    """Train in this process, and if it is the first of several or the only one, complete the run folder."""
    source = data.source
    dtype = torch.bfloat16 if config.bf16 else torch.float32
    base, tokenizer = load_base(config.base, dtype)
    torch.set_flush_denormal(True)  # as GPUs do; with vanishing moments CPUs are slow
    torch.manual_seed(config.seed)  # fresh patch and LoRA weights
    model = PatchedVideoLLM(base, patch_config(config, source), config.execution)
    for channel, trained in config.start_from.items():
        model.load_fusion(channel, trained / PATCH_FOLDER)
    dataset = FeatureDataset(
        data.usable, source, tokenizer, base.config.video_token_id, config.newline, for_training=True
    )
    started = time.monotonic()
    with progress(_label(config)) as stage:
        log, is_first = _fit(model, dataset, tokenizer, config, folder, stage)
    if not is_first:
        return
    losses = log.losses
    lineage = {**source.identity(), "run": config.out.name, "base": config.base}
    licences = {channel: features.record.licence for channel, features in source.side.items()}
    model.save_pretrained(folder / PATCH_FOLDER, lineage, licences)
    report = TrainReport(
        run=config.out,
        snapshot=source.version,
        coverage=data.coverage,
        num_trainable=sum(p.numel() for p in model.parameters() if p.requires_grad),
        steps=losses[-1][0],
        seconds=time.monotonic() - started,
        losses=tuple(losses),
    )
    write_curves(log.entries, folder / "curves.png", "+".join(config.channels) or "lora only")
    write_items(folder / ITEMS_FILE, data.usable)
    run = {
        "config": config.model_dump(mode="json"),
        "base_fingerprint": model.base_fingerprint,
        **source.identity(),
        **training_lineage(config, source, data.usable),
        "patch": patch_hashes(folder / PATCH_FOLDER),
        "code": code_versions(),
        "report": report.model_dump(mode="json"),
    }
    shutil.rmtree(folder / TRAINER_FOLDER, ignore_errors=True)
    finish(folder, config.out, run)


def _label(config: TrainConfig) -> str:
    return f"train {'+'.join(config.channels) or 'lora only'}"


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


def _fit(
    model: PatchedVideoLLM,
    dataset: FeatureDataset,
    tokenizer: PreTrainedTokenizerBase,
    config: TrainConfig,
    folder: Path,
    stage: Progress,
) -> tuple[TrainingLog, bool]:
    """Run the Trainer, from the last checkpoint on; its log, and whether this is the first process."""
    arguments = training_arguments(config, folder)
    log = TrainingLog(folder / "metrics.jsonl", stage)
    callbacks: list[TrainerCallback] = [log]
    if EVENT_FILES in config.trackers:
        callbacks.append(EventFiles(folder / "tensorboard"))
    if config.enough_loss is not None:
        callbacks.append(EnoughLoss(config.enough_loss))
    trainer = PatchTrainer(
        model=model,
        args=arguments,
        train_dataset=MaskedRepeats(dataset),
        data_collator=Collator(
            tokenizer.pad_token_id, max_length=config.data.max_length, too_long=config.data.too_long
        ),
        callbacks=callbacks,
        patch_learning_rate=config.patch_learning_rate,
        lora_learning_rate=config.lora_learning_rate,
        lengths=dataset.lengths() if config.group_by_length else None,
        group_size=config.batch_size,  # of one process or several: all step on the same examples
        prefetch=config.prefetch,
    )
    trainer.remove_callback(_printer())
    if arguments.process_index:
        torch.manual_seed(config.seed + arguments.process_index)  # dropout of its own; DDP copies the weights
    checkpoint = _common_checkpoint(folder, arguments)
    if checkpoint is not None and is_last(checkpoint, config.enough_loss):
        # the Trainer would train one step more
        trainer._load_from_checkpoint(str(checkpoint))
        log.entries = read_log(folder / "metrics.jsonl")
    else:
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    return log, trainer.is_world_process_zero()


def training_arguments(config: TrainConfig, folder: Path) -> TrainingArguments:
    """The Trainer's arguments in this process, which joins the others where torchrun has started several."""
    batch_size, accumulation = config.share
    on_gpu = torch.cuda.is_available()
    arguments = TrainingArguments(
        output_dir=str(folder / TRAINER_FOLDER),
        use_cpu=not on_gpu,
        ddp_backend=None if config.num_processes == 1 else "nccl" if on_gpu else "gloo",
        ddp_find_unused_parameters=True,  # a batch without a channel leaves that one's out
        num_train_epochs=config.epochs,
        max_steps=config.max_steps or -1,
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=accumulation,
        learning_rate=config.learning_rate,
        weight_decay=0.0,
        lr_scheduler_type="cosine",
        warmup_steps=config.warmup_fraction,
        max_grad_norm=config.max_grad_norm,
        bf16=config.bf16,
        seed=config.seed,
        dataloader_num_workers=config.loader_workers,
        dataloader_prefetch_factor=max(config.prefetch, 1) if config.loader_workers else None,
        accelerator_config={"non_blocking": on_gpu},  # copies pinned batches aside
        dataloader_pin_memory=on_gpu,
        remove_unused_columns=False,
        logging_steps=config.log_every,
        logging_first_step=True,
        save_strategy="no" if config.save_every is None else "steps",
        save_steps=config.save_every or 0,
        report_to=[name for name in config.trackers if name != EVENT_FILES],
        disable_tqdm=True,
        log_level="error",
    )
    # With one process on several GPUs the Trainer would multiply the batch and use them all, slowly.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def _common_checkpoint(folder: Path, arguments: TrainingArguments) -> Path | None:
    """The last checkpoint as the first process sees it: a shared file system may show others an older state."""
    checkpoint = last_checkpoint(folder)
    if arguments.world_size == 1:
        return checkpoint
    step = torch.tensor(checkpoint_step(checkpoint), device=arguments.device)
    torch.distributed.broadcast(step, 0)
    return None if step.item() == 0 else checkpoint_path(folder, int(step.item()))


def is_last(checkpoint: Path, enough_loss: float | None) -> bool:
    """Whether it is that of the last step: of all, or the one whose loss was enough."""
    state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
    learned = enough_loss is not None and bool(losses) and losses[-1] < enough_loss
    return learned or bool(state.global_step >= state.max_steps)


def _printer() -> type[TrainerCallback]:
    """The callback that prints each log line; the progress shows the same."""
    from transformers.trainer_callback import PrinterCallback

    return PrinterCallback  # type: ignore[no-any-return]
