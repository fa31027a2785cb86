"""Training on cached key-frame tokens against making them anew in each step, which is the original release's way:
decode the clips of the batch, run the vision tower, train. Side-channel features are cached either way, as there.

SideCue clips, the demo's small base with random weights, the same patch, batches and order; each turn is a training
of its own with `PatchTrainer`, its first step not counted, and the ways take turns in one process. Both read ahead
in a thread, so decoding overlaps with the steps; the tower runs in the step.

    train/WAY/steps_per_s           median of the turns; `cached` or `recompute`
    train/WAY/data_wait_share       of the time of a step, waiting for its batch; median of the turns
    train/cached_vs_recompute       ratio of the steps per second
    train/loss_difference           largest difference between the losses of both ways, to see that they do the same

Prints one flat JSON object as its last line.

    python benchmarks/train.py [--quick] [--clips 96] [--steps 30] [--turns 5] [--batch-size 16] [--device cuda]
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch  # noqa: E402
from torch.utils.data import Dataset  # noqa: E402
from transformers import TrainerCallback, TrainingArguments  # noqa: E402
from transformers.trainer_callback import PrinterCallback  # noqa: E402

from extractors.config import FramesConfig  # noqa: E402
from extractors.contract import Decoded, Sample  # noqa: E402
from extractors.frames import FramesExtractor  # noqa: E402
from pave_model.config import LoraSettings, PatchConfig  # noqa: E402
from pave_model.patched_model import PatchedVideoLLM  # noqa: E402
from pave_model.small_base import SmallBaseConfig, build_small_base  # noqa: E402
from pipelines.base_model import hide_weight_bars, load_base  # noqa: E402
from pipelines.collator import Collator  # noqa: E402
from pipelines.config import (  # noqa: E402
    DataConfig,
    ExtractAudioConfig,
    ExtractFramesConfig,
    FusionSizes,
    PrepareConfig,
    TrainConfig,
)
from pipelines.extract import extract  # noqa: E402
from pipelines.feature_dataset import Example, FeatureDataset, open_source, read_instructions  # noqa: E402
from pipelines.manifest import prepare  # noqa: E402
from pipelines.patch_trainer import PatchTrainer  # noqa: E402
from pipelines.ray_extract import ray_session  # noqa: E402
from pipelines.sidecue_base import SPECIAL_TOKENS, build_tokenizer  # noqa: E402
from pipelines.train import patch_config  # noqa: E402
from tasks import sidecue  # noqa: E402

NUM_FRAMES = 10
QUESTIONS = ("tone_colour",)
WAYS = ("cached", "recompute")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few clips and steps, one turn: whether it runs")
    parser.add_argument("--clips", type=int, default=96)
    parser.add_argument("--steps", type=int, default=30, help="of a turn")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    if options.quick:
        options.clips, options.steps, options.turns, options.batch_size = 8, 2, 1, 4
    result: dict[str, float | int | str] = {
        "clips": options.clips,
        "batch_size": options.batch_size,
        "steps": options.steps,
        "turns": options.turns,
        "cores": len(os.sched_getaffinity(0)),
        "device": options.device,
        "torch": torch.__version__,
    }
    with tempfile.TemporaryDirectory() as folder:
        config = make_world(Path(folder), options.clips, options.batch_size)
        race = Race(config, Path(folder) / "sidecue", options.steps, options.device)
        measured = race.run(options.turns)
    print(json.dumps(result | {name: float(f"{value:.4g}") for name, value in measured.items()}))


def make_world(root: Path, num_clips: int, batch_size: int) -> TrainConfig:
    """Clips, base and store under `root`, and the training that reads them."""
    media, prepared, store = root / "sidecue", root / "prepared", str(root / "store")
    sidecue.make(media, sidecue.SideCueConfig(splits={"train": num_clips}))
    prepare(PrepareConfig(task="sidecue", root=media, out=prepared))
    write_base(root / "base")
    frames = FramesConfig(base=str(root / "base"), num_frames=NUM_FRAMES)
    with ray_session():
        extract("audio", ExtractAudioConfig(store=store, manifest=prepared))
        extract("frames", ExtractFramesConfig(store=store, manifest=prepared, encoder=frames))
    return TrainConfig(
        base=str(root / "base"),
        out=root / "run",
        data=DataConfig(
            store=store,
            instructions=prepared / "instructions.parquet",
            split="train",
            question_types=QUESTIONS,
        ),
        channels={"audio": FusionSizes(embed_dim=128, hidden_dim=128, time_radius=1.0)},
        lora=LoraSettings(r=16, alpha=16, dropout=0.0),
        batch_size=batch_size,
    )


def write_base(folder: Path) -> None:
    """A base of the sizes of the demo's, with random weights, and its tokenizer."""
    tokenizer = build_tokenizer()
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS}
    sizes = SmallBaseConfig(
        image_size=48,
        patch_size=12,
        num_kv_heads=4,
        vocab_size=len(tokenizer),
        image_token_id=ids["<image>"],
        video_token_id=ids["<video>"],
        eos_token_id=ids["<|im_end|>"],
        pad_token_id=ids["<|endoftext|>"],
    )
    hide_weight_bars()
    build_small_base(sizes).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


class Clips(Dataset[tuple[Example, Decoded]]):
    """The cached examples, each with its clip's key frames as decoded pixels."""

    def __init__(self, cached: FeatureDataset, extractor: FramesExtractor, media: Path) -> None:
        self.cached, self.extractor = cached, extractor
        samples, _ = sidecue.load(media)
        self.clips = {sample.sample_id: media / sample.media["video"] for sample in samples}

    def __len__(self) -> int:
        return len(self.cached)

    def __getitem__(self, index: int) -> tuple[Example, Decoded]:
        example = self.cached[index]  # its key-frame tokens, some kB, are read and not used
        sample_id = example["sample_id"]
        sample = Sample(sample_id, sidecue.DATASET, {"video": self.clips[sample_id]})
        return example, self.extractor.decode(sample)


class RecomputingTrainer(PatchTrainer):
    """Runs the vision tower in each step; `extractor` is put there after it is made."""

    extractor: FramesExtractor

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Key-frame tokens of "decoded", then as always."""
        device = inputs["input_ids"].device
        made = self.extractor.encode(inputs.pop("decoded"))
        inputs["queries"] = torch.stack([features.tensors["values"] for features in made]).to(device)
        inputs["visual"] = torch.stack([features.tensors["visual"] for features in made]).to(device)
        return super().compute_loss(model, inputs, *args, **kwargs)


class Race:
    """The two ways over one world.

    Args: media: SideCue's folder. steps: of a turn, without its first.
    """

    def __init__(self, config: TrainConfig, media: Path, steps: int, device: str) -> None:
        self.config, self.steps, self.device = config, steps, device
        self.base, tokenizer = load_base(config.base)
        source = open_source(config.data, sidecue.DATASET, list(config.channels))
        self.patch: PatchConfig = patch_config(config, source)
        self.extractor = FramesExtractor(FramesConfig(base=config.base, num_frames=NUM_FRAMES))
        self.extractor.load(device)
        items = read_instructions(config.data)
        token = self.base.config.video_token_id
        self.cached = FeatureDataset(items, source, tokenizer, token, config.newline, for_training=True)
        self.clips = Clips(self.cached, self.extractor, media)
        self.collate = Collator(tokenizer.pad_token_id)
        torch.manual_seed(0)
        self.model = PatchedVideoLLM(self.base, self.patch)
        self.start = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}

    def run(self, turns: int) -> dict[str, float]:
        """All numbers."""
        logs: dict[str, list[list[dict[str, float]]]] = {way: [] for way in WAYS}
        for way in WAYS:
            self.train(way, 1)  # warm
        for turn in range(turns):
            for way in WAYS if turn % 2 == 0 else reversed(WAYS):
                print(f"turn {turn + 1} of {turns}: {way} ...", file=sys.stderr, flush=True)
                logs[way].append(self.train(way, self.steps))
        result = {}
        for way in WAYS:
            speeds = [log[-1]["examples_per_s"] / self.config.batch_size for log in logs[way]]
            waits = [log[-1]["data_wait_share"] for log in logs[way]]
            result[f"train/{way}/steps_per_s"] = statistics.median(speeds)
            result[f"train/{way}/data_wait_share"] = statistics.median(waits)
        result["train/cached_vs_recompute"] = (
            result["train/cached/steps_per_s"] / result["train/recompute/steps_per_s"]
        )
        pairs = zip(*(logs[way][0] for way in WAYS), strict=True)
        result["train/loss_difference"] = max(abs(one["loss"] - other["loss"]) for one, other in pairs)
        return result

    def train(self, way: str, steps: int) -> list[dict[str, float]]:
        """One turn from the same weights: what was logged of its first step, and of the `steps` after it."""
        self.model.load_state_dict(self.start)
        arguments = TrainingArguments(
            output_dir=str(self.config.out),
            use_cpu=self.device == "cpu",
            max_steps=steps + 1,
            per_device_train_batch_size=self.config.batch_size,
            learning_rate=1e-3,
            logging_steps=steps + 1,
            logging_first_step=True,
            dataloader_drop_last=True,
            dataloader_pin_memory=self.device == "cuda",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            seed=0,
        )
        kind = PatchTrainer if way == "cached" else RecomputingTrainer
        trainer = kind(
            model=self.model,
            args=arguments,
            train_dataset=self.cached if way == "cached" else self.clips,
            data_collator=self.collate if way == "cached" else self.collate_with_clips,
            lengths=self.cached.lengths(),
            prefetch=self.config.prefetch,
        )
        trainer.remove_callback(PrinterCallback)
        if isinstance(trainer, RecomputingTrainer):
            trainer.extractor = self.extractor
        log = _Log()
        trainer.add_callback(log)
        trainer.train()
        return log.entries

    def collate_with_clips(self, items: Sequence[tuple[Example, Decoded]]) -> dict[str, Any]:
        """The batch, with the decoded clips as "decoded"."""
        return {
            **self.collate([example for example, _ in items]),
            "decoded": [decoded for _, decoded in items],
        }


class _Log(TrainerCallback):  # type: ignore[misc]
    def __init__(self) -> None:
        self.entries: list[dict[str, float]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
        if "loss" in logs:
            self.entries.append(dict(logs))


if __name__ == "__main__":
    main()
