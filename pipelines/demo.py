"""The demo: the whole line from media files to a score, on a generated world, on a laptop.

Make SideCue, train a small base on its video-only questions, extract `frames` and `audio`, train the audio patch
and its LoRA-only twin (same data, same steps, no side channel), and ask all three about held-out clips.
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

from extractors.audio import AudioConfig
from extractors.frames import FramesConfig
from pave_model.config import LoraSettings
from pipelines.config import (
    DataConfig,
    DemoConfig,
    EvaluateConfig,
    ExecutionConfig,
    ExtractAudioConfig,
    ExtractFramesConfig,
    FusionSizes,
    PrepareConfig,
    Settings,
    TrainConfig,
)
from pipelines.demo_report import write_report
from pipelines.errors import RunError
from pipelines.evaluate import evaluate
from pipelines.evaluate_report import EvaluateReport
from pipelines.extract import extract
from pipelines.manifest import prepare
from pipelines.progress import ProgressFactory, silent
from pipelines.ray_extract import ray_session
from pipelines.sidecue_base import BaseTraining, train_base
from pipelines.train import TrainReport, train
from tasks import sidecue

CHANNEL = "audio"
QUESTION = "tone_colour"
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


def demo(config: DemoConfig, progress: ProgressFactory = silent) -> DemoReport:
    """Run the whole demo into `config.out`; an earlier demo there is replaced.

    Raises RunError when the folder holds something else, and whatever its stages raise.
    """
    started = time.monotonic()
    out = config.out
    _clear(out)
    media, prepared, base, store = out / "sidecue", out / "prepared", out / "base", out / "store"

    world = sidecue.SideCueConfig(
        splits={"train": config.train_clips, "test": config.test_clips}, seed=config.seed
    )
    with progress("make SideCue") as stage:
        sidecue.make(media, world, stage.update)
    prepare(PrepareConfig(task="sidecue", root=media, out=prepared), progress)
    samples, instructions = sidecue.load(media)
    train_base(
        {sample.sample_id: media / sample.media["video"] for sample in samples if sample.split == "train"},
        [item for item in instructions if item.split == "train"],
        base,
        BaseTraining(seed=config.seed, steps=config.base_steps),
        progress,
    )
    _extract(base, prepared / "manifest.parquet", store, config.seed, progress)

    trained: dict[str, TrainReport] = {}
    scored: dict[str, EvaluateReport] = {}
    for variant in ("patch", "lora_only"):
        settings = _training(variant, config)
        trained[variant] = train(settings, progress)
        test = settings.data.model_copy(update={"split": "test", "snapshot": trained[variant].snapshot})
        scored[variant] = evaluate(
            EvaluateConfig(run=settings.out, data=test, out=out / "scores" / variant), progress
        )
    every_question = test.model_copy(update={"question_types": None})
    scored["base"] = evaluate(
        EvaluateConfig(base=str(base), data=every_question, out=out / "scores" / "base"), progress
    )

    rows = tuple(row for variant, result in scored.items() for row in _rows(variant, result))
    report = DemoReport(
        rows=rows,
        seed=config.seed,
        store_version=trained["patch"].snapshot,
        seconds=time.monotonic() - started,
        report=out / "report.html",
    )
    write_report(out, media, report.model_dump(mode="json"), trained)
    (out / "report.json").write_text(report.model_dump_json(indent=1) + "\n")
    return report


def _rows(variant: str, result: EvaluateReport) -> list[DemoRow]:
    """The accuracies by question type, that of the side channel first."""
    rows = [
        DemoRow.model_validate(
            {
                "question": score.group,
                "accuracy": score.value,
                **score.model_dump(include={"low", "high", "n", "chance"}),
                "channel": CHANNEL if score.group == QUESTION else "video",
                "variant": variant,
            }
        )
        for score in result.scores
        if score.group is not None
    ]
    return sorted(rows, key=lambda row: row.question != QUESTION)


def _clear(out: Path) -> None:
    """Empty the folder if it is an earlier demo's. Raises RunError when it holds anything else."""
    if out.exists() and not (out / MARKER).exists() and any(out.iterdir()):
        raise RunError(f"{out} holds something else than a demo; choose another folder with --out")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    (out / MARKER).write_text(json.dumps({"made_by": "pave demo"}) + "\n")


def _extract(base: Path, manifest: Path, store: Path, seed: int, progress: ProgressFactory) -> None:
    audio = AudioConfig(
        weights=f"random:{seed}", embed_dim=64, num_blocks=2, num_heads=4, out_dim=64, stream=0
    )
    frames = FramesConfig(base=str(base), num_frames=BaseTraining().num_frames)
    execution = ExecutionConfig(part_samples=64)  # small parts, so that the progress moves
    location = str(store)
    with ray_session():  # started once for both
        extract(
            "audio",
            ExtractAudioConfig(store=location, manifest=manifest, execution=execution, encoder=audio),
            progress,
        )
        extract(
            "frames",
            ExtractFramesConfig(store=location, manifest=manifest, execution=execution, encoder=frames),
            progress,
        )


def _training(variant: str, config: DemoConfig) -> TrainConfig:
    """The training of a variant; the LoRA-only twin differs in nothing but the side channel."""
    sizes = FusionSizes(embed_dim=128, hidden_dim=128, time_radius=1.0)
    return TrainConfig(
        base=str(config.out / "base"),
        out=config.out / "runs" / variant,
        data=DataConfig(
            store=str(config.out / "store"),
            instructions=config.out / "prepared" / "instructions.parquet",
            split="train",
            question_types=(QUESTION,),
        ),
        channels={CHANNEL: sizes} if variant == "patch" else {},
        lora=LoraSettings(r=16, alpha=16, dropout=0.0),
        max_steps=config.patch_steps,
        batch_size=48,
        accumulation=1,
        learning_rate=2e-3,
        warmup_fraction=0.1,
        max_grad_norm=1.0,
        group_by_length=False,  # lengths differ by the question's wording alone; a batch should have all of them
        seed=config.seed,
    )
