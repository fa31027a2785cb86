"""The Trainer of a patch: small checkpoints, exact resumption, a learning rate for each part."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback, TrainingArguments

from pave_model.config import FusionConfig, LoraSettings, PatchConfig
from pave_model.patched_model import PatchedVideoLLM
from pave_model.small_base import SmallBaseConfig, build_small_base
from pipelines.patch_trainer import PatchTrainer

NUM_SAMPLES, NUM_FRAMES, VIDEO_ID = 24, 3, 60
BASE = SmallBaseConfig(
    vision_hidden_size=8,
    vision_intermediate_size=12,
    vision_num_layers=1,
    vision_num_heads=2,
    image_size=16,
    patch_size=4,
    hidden_size=16,
    intermediate_size=24,
    num_heads=2,
    num_kv_heads=1,
    vocab_size=64,
    image_token_id=61,
    video_token_id=VIDEO_ID,
    eos_token_id=63,
    pad_token_id=62,
)
PATCH = PatchConfig(
    base="tiny",
    channels={
        "audio": FusionConfig(
            side_dim=6, query_dim=8, output_dim=16, embed_dim=10, hidden_dim=12, num_heads=2
        )
    },
    lora=LoraSettings(r=4, alpha=8, dropout=0.05),  # dropout: random numbers must resume as well
)


def build_model() -> PatchedVideoLLM:
    torch.manual_seed(5)
    return PatchedVideoLLM(build_small_base(BASE), PATCH)


def collate(rows: list[int]) -> dict[str, Any]:
    """Samples made from their number, of different lengths."""
    samples = []
    for row in rows:
        generator = torch.Generator().manual_seed(row)
        text = torch.randint(0, 50, (6,), generator=generator)
        ids = torch.cat([torch.tensor([1]), torch.full((NUM_FRAMES * 6,), VIDEO_ID), text])
        length = 1 + row % 7
        side = torch.zeros(7, 1, 6)
        side[:length] = torch.randn(length, 1, 6, generator=generator)
        tokens = [torch.randn(NUM_FRAMES, 4, width, generator=generator) for width in (8, 16)]
        samples.append((ids, length, side, *tokens))
    ids, lengths, sides, queries, visual = zip(*samples, strict=True)
    input_ids = torch.stack(ids)
    return {
        "input_ids": input_ids,
        "attention_mask": torch.ones_like(input_ids),
        "labels": input_ids.masked_fill(input_ids == VIDEO_ID, -100),
        "queries": torch.stack(queries),
        "visual": torch.stack(visual),
        "side": {"audio": torch.stack(sides)},
        "side_lengths": {"audio": torch.tensor(lengths)},
        "sample_ids": [str(row) for row in rows],
    }


@pytest.fixture
def make_trainer(tmp_path: Path) -> Callable[..., PatchTrainer]:
    def make(name: str, stop_after: int | None = None, **rates: float) -> PatchTrainer:
        arguments = TrainingArguments(
            output_dir=str(tmp_path / name),
            use_cpu=True,
            max_steps=8,
            per_device_train_batch_size=2,
            gradient_accumulation_steps=2,
            learning_rate=1e-2,
            lr_scheduler_type="cosine",
            logging_steps=1,
            save_strategy="steps",
            save_steps=4,
            report_to=[],
            disable_tqdm=True,
            seed=3,
            remove_unused_columns=False,
            dataloader_pin_memory=False,
        )

        class Stop(TrainerCallback):  # type: ignore[misc]
            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                if state.global_step == stop_after:
                    control.should_training_stop = True

        return PatchTrainer(
            model=build_model(),
            args=arguments,
            train_dataset=list(range(NUM_SAMPLES)),  # type: ignore[arg-type]
            data_collator=collate,
            callbacks=[Stop()],
            **rates,
        )

    return make


def losses(trainer: PatchTrainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def test_resumed_training_equals_undisturbed_training_bit_for_bit(
    make_trainer: Callable[..., PatchTrainer], tmp_path: Path
) -> None:
    whole = make_trainer("whole")
    whole.train()
    first = make_trainer("parts", stop_after=4)
    first.train()
    second = make_trainer("parts")
    second.train(resume_from_checkpoint=str(tmp_path / "parts/checkpoint-4"))
    assert losses(first) == losses(whole)[:4]
    assert losses(second) == losses(whole)  # the log is resumed with the rest
    assert len(set(losses(whole))) == len(losses(whole)) == 8
    ours, theirs = second.model.state_dict(), whole.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_checkpoint_holds_the_patch_and_not_the_base(
    make_trainer: Callable[..., PatchTrainer], tmp_path: Path
) -> None:
    trainer = make_trainer("run", stop_after=4)
    trainer.train()
    folder = tmp_path / "run/checkpoint-4"
    assert not list(folder.glob("*.safetensors"))
    loaded = PatchedVideoLLM.from_pretrained(folder / "patch", build_small_base(BASE))
    assert all(
        torch.equal(tensor, trainer.model.state_dict()[name]) for name, tensor in loaded.state_dict().items()
    )


def test_each_part_has_its_own_learning_rate(make_trainer: Callable[..., PatchTrainer]) -> None:
    trainer = make_trainer("rates", patch_learning_rate=0.5, lora_learning_rate=0.25)
    groups = trainer.create_optimizer().param_groups
    rate_of = {id(p): group["lr"] for group in groups for p in group["params"]}
    trainable = {name: p for name, p in trainer.model.named_parameters() if p.requires_grad}
    assert len(rate_of) == len(trainable)
    assert {name: rate_of[id(p)] for name, p in trainable.items()} == {
        name: 0.25 if "lora" in name else 0.5 for name in trainable
    }
    common = make_trainer("common", lora_learning_rate=0.25).create_optimizer().param_groups
    assert {group["lr"] for group in common} == {1e-2, 0.25}
