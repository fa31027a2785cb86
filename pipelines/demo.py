"""The demo: the whole line from media files to a score, on a generated world, on a laptop.

Make SideCue's part of every channel, train one small base on their video-only questions, extract `frames` and the
side channels, train each channel's patch and its LoRA-only twin (same data, same steps, no side channel), and measure
on held-out clips what the channel is worth (`pipelines.meter`). With `audio` and `dense` there is also a patch of
both together, for a question that needs both, beside one of each alone.

    OUT/sidecue/PART, OUT/prepared/PART     media, manifest and instructions; a part is named after its channel
    OUT/base, OUT/towers, OUT/store         the base, the towers of exo and depth3d, the feature store
    OUT/runs/PATCH/patch, .../lora_only     the trainings
    OUT/scores/PATCH                        the patch's evaluation, with the meter and the twin in it
    OUT/scores/base/PART                    the base's
    OUT/report.json, OUT/report.html        rows of all; written last
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from pipelines.config import (
    Alteration,
    DataConfig,
    DemoConfig,
    EvaluateConfig,
    PrepareConfig,
    Settings,
    TrainConfig,
)
from pipelines.demo_channels import (
    ALONE,
    JOINT,
    LORA,
    PATCHES,
    WORLDS,
    DemoPatch,
    extraction,
)
from pipelines.demo_report import write_report
from pipelines.errors import RunError
from pipelines.evaluate import evaluate
from pipelines.evaluate_report import EvaluateReport
from pipelines.extract import extract_together
from pipelines.manifest import prepare
from pipelines.meter import MeterReport, side_channel_meter
from pipelines.prediction_file import SCORES_FILE
from pipelines.process_lock import lock_or_raise
from pipelines.progress import ProgressFactory, silent
from pipelines.ray_extract import ray_session
from pipelines.sidecue_base import NEWLINE, BaseTraining, train_base
from pipelines.train import TrainReport, train
from tasks import sidecue
from tasks.instruction import Instruction

ALTERATIONS = get_args(Alteration)
ENOUGH_LOSS = 0.001  # nats per token; at 0.003 a patch may still miss one in five of held-out questions
MARKER = "demo.json"  # says that a folder was made by the demo and may be replaced by it


class DemoRow(Settings):
    """One line of the result table: accuracy of one question type with its 95% interval over `n` items."""

    question: str
    accuracy: float
    low: float
    high: float
    n: int
    chance: float | None
    channel: str
    variant: str


class DemoReport(Settings):
    """The demo's result, also in `report.json`."""

    rows: tuple[DemoRow, ...]
    seed: int
    store_version: int
    seconds: float
    report: Path

    def summary(self) -> str:
        """The table, and where the report is."""
        lines = [
            f"{'channel':<8} {'variant':<10} {'question':<14} {'accuracy':>8}  {'95% interval':<15} {'n':<5} chance"
        ]
        for row in self.rows:
            interval = f"{row.low:.1%} - {row.high:.1%}"
            chance = "" if row.chance is None else f"{row.chance:.0%}"
            lines.append(
                f"{row.channel:<8} {row.variant:<10} {row.question:<14} {row.accuracy:>8.1%}  {interval:<15} "
                f"{row.n:<5} {chance}"
            )
        lines.append(f"took {self.seconds:.0f} s; report: {self.report}")
        return "\n".join(lines)


@dataclass(frozen=True)
class MeasuredPatch:
    """A patch of the demo, its trainings by variant, and what the meter found, or the plain evaluation."""

    patch: DemoPatch
    trained: dict[str, TrainReport]
    scored: MeterReport | EvaluateReport


def demo(config: DemoConfig, progress: ProgressFactory = silent) -> DemoReport:
    """Run the whole demo into `config.out`; an earlier demo there is replaced.

    Raises RunError when the folder holds something else or another process works in it, and whatever its stages raise.
    """
    with _cleared(config.out):
        return _made(config, progress)


def _made(config: DemoConfig, progress: ProgressFactory) -> DemoReport:
    started = time.monotonic()
    out, parts = config.out, config.channels
    clips: dict[str, tuple[str, Path]] = {}
    questions: list[Instruction] = []
    for part in parts:
        made, asked = _make_part(part, config, progress)
        clips |= made
        questions += asked
    train_base(
        clips,
        questions,
        out / "base",
        BaseTraining(seed=config.seed, steps=config.base_steps),
        progress,
    )
    with ray_session():  # started once for all
        for part in parts:
            extract_together(extraction(part, parts, out, config.seed), progress)

    measured = [_measured(patch, config, progress) for patch in PATCHES.values() if patch.part in parts]
    if set(JOINT.channels) <= set(parts):
        together = _measured(JOINT, config, progress)
        steps = together.trained["patch"].steps
        measured += [together, *(_trained_alone(patch, steps, config, progress) for patch in ALONE)]
    rows = [row for found in measured for row in _rows(found, config)]
    snapshot = measured[0].trained["patch"].snapshot
    for part in parts:
        data = _data(config, part, "test", None).model_copy(update={"snapshot": snapshot})
        of_base = evaluate(
            EvaluateConfig(
                base=str(out / "base"), newline=NEWLINE, data=data, out=out / "scores" / "base" / part
            ),
            progress,
        )
        rows += _score_rows(of_base, "base")
    report = DemoReport(
        rows=tuple(rows),
        seed=config.seed,
        store_version=snapshot,
        seconds=time.monotonic() - started,
        report=out / "report.html",
    )
    write_report(out, report.model_dump(mode="json"), measured)
    (out / "report.json").write_text(report.model_dump_json(indent=1) + "\n")
    return report


def _make_part(
    part: str, config: DemoConfig, progress: ProgressFactory
) -> tuple[dict[str, tuple[str, Path]], list[Instruction]]:
    """Make and prepare a part; the pictures of its training clips, by role, and their instructions."""
    media = config.out / "sidecue" / part
    world = sidecue.SideCueConfig(
        splits={"train": config.train_clips, "test": config.test_clips},
        seed=config.seed,
        worlds=WORLDS[part],
    )
    with progress(f"make SideCue for {part}") as stage:
        sidecue.make(media, world, stage.update)
    prepare(PrepareConfig(task="sidecue", root=media, out=config.out / "prepared" / part), progress)
    samples, instructions = sidecue.load(media)
    clips = {}
    for sample in samples:
        if sample.split == "train":
            role = "video" if "video" in sample.media else "scene"
            clips[sample.sample_id] = role, media / sample.media[role]
    return clips, [item for item in instructions if item.split == "train"]


def _measured(patch: DemoPatch, config: DemoConfig, progress: ProgressFactory) -> MeasuredPatch:
    """Train the patch and its twin, and measure what its channels are worth."""
    settings = {"patch": demo_training(patch, "patch", config)}
    trained = {"patch": train(settings["patch"], progress)}
    settings["lora_only"] = demo_training(patch, "lora_only", config, trained["patch"].steps)
    trained["lora_only"] = train(settings["lora_only"], progress)
    scored = side_channel_meter(
        EvaluateConfig(
            run=settings["patch"].out,
            twin=settings["lora_only"].out,
            meter=True,
            data=_test_data(patch, trained["patch"], config),
            out=config.out / "scores" / patch.name,
        ),
        progress,
    )
    return MeasuredPatch(patch, trained, scored)


def _trained_alone(
    patch: DemoPatch, steps: int, config: DemoConfig, progress: ProgressFactory
) -> MeasuredPatch:
    """Train and score a patch of one of the channels that its questions need; the twin is that of all of them."""
    settings = demo_training(patch, "patch", config, steps)
    trained = train(settings, progress)
    data = _test_data(patch, trained, config)
    scored = evaluate(
        EvaluateConfig(run=settings.out, data=data, out=config.out / "scores" / patch.name), progress
    )
    return MeasuredPatch(patch, {"patch": trained}, scored)


def _test_data(patch: DemoPatch, trained: TrainReport, config: DemoConfig) -> DataConfig:
    data = _data(config, patch.part, "test", patch.questions)
    return data.model_copy(update={"snapshot": trained.snapshot})


def _rows(found: MeasuredPatch, config: DemoConfig) -> list[DemoRow]:
    """The accuracies of the patch, and of its twin and the meter's variants where it was measured."""
    name = found.patch.name
    if isinstance(found.scored, EvaluateReport):
        return _score_rows(found.scored, "patch", name)
    rows = _score_rows(found.scored.evaluation, "patch", name)
    folders = {"lora_only": "twin"} | {
        f"{channel} {how}": f"{channel}-{how}" for channel in found.patch.channels for how in ALTERATIONS
    }
    for variant, folder in folders.items():
        written = json.loads((config.out / "scores" / name / "meter" / folder / SCORES_FILE).read_text())
        rows += _score_rows(EvaluateReport.model_validate(written["report"]), variant, name)
    return rows


def _score_rows(result: EvaluateReport, variant: str, channel: str | None = None) -> list[DemoRow]:
    """The accuracies by question type; `channel` as the question's own where it is not given."""
    rows = []
    for score in result.scores:
        if score.group is not None:
            own = "+".join(sidecue.QUESTIONS[score.group].channels) or "video"
            numbers = score.model_dump(include={"low", "high", "n", "chance"})
            names = {"question": score.group, "channel": channel or own, "variant": variant}
            rows.append(DemoRow.model_validate({**names, **numbers, "accuracy": score.value}))
    return sorted(rows, key=lambda row: row.channel == "video")


@contextmanager
def _cleared(out: Path) -> Iterator[None]:
    """The folder without an earlier demo, for this process alone.

    Raises RunError when it holds anything else, or another process makes a demo there.
    """
    marker = out / MARKER
    if out.exists() and not marker.exists() and any(out.iterdir()):
        raise RunError(f"{out} holds something else than a demo; choose another folder with --out")
    out.mkdir(parents=True, exist_ok=True)
    lock = os.open(marker, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        told = f"another process makes a demo in {out} right now; wait for it, or choose another folder with --out"
        lock_or_raise(lock, RunError(told))
        for entry in out.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry != marker:
                entry.unlink()
        marker.write_text(json.dumps({"made_by": "pave demo"}) + "\n")
        yield
    finally:
        os.close(lock)


def _data(config: DemoConfig, part: str, split: str, questions: tuple[str, ...] | None) -> DataConfig:
    return DataConfig(
        store=str(config.out / "store"),
        instructions=config.out / "prepared" / part / "instructions.parquet",
        split=split,
        question_types=questions,
    )


def demo_training(
    patch: DemoPatch, variant: str, config: DemoConfig, steps: int | None = None
) -> TrainConfig:
    """The training of a variant, of `steps` or until it has learned; the twin differs in its side channels alone."""
    runs = config.out / "runs"
    begun = {channel: runs / name / "patch" for channel, name in patch.start_from.items()}
    return TrainConfig(
        base=str(config.out / "base"),
        out=runs / patch.name / variant,
        data=_data(config, patch.part, "train", patch.questions),
        channels=patch.channels if variant == "patch" else {},
        start_from=begun if variant == "patch" else {},
        lora=LORA,
        newline=NEWLINE,
        max_steps=steps or config.patch_steps,
        enough_loss=None if steps else ENOUGH_LOSS,
        batch_size=40,
        accumulation=1,
        learning_rate=1e-3,
        patch_learning_rate=8e-3,  # its last norm starts at zero and has far to go
        warmup_fraction=0.1,
        max_grad_norm=1.0,
        group_by_length=False,  # lengths differ by the question's wording alone; a batch should have all of them
        seed=config.seed,
    )
