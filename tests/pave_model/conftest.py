"""Tiny bases and batches of the real classes, and the folder of golden numbers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_patch import AUDIO, BASE_CONFIG, NUM_FRAMES, PAD_ID, VIDEO_ID, disturb, golden_folder
from transformers import LlavaOnevisionForConditionalGeneration

from pave_model.config import LoraSettings, PatchConfig
from pave_model.patched_model import PatchedVideoLLM
from pave_model.small_base import build_small_base


@pytest.fixture
def golden() -> Path:
    return golden_folder()


@pytest.fixture
def make_base() -> Callable[[], LlavaOnevisionForConditionalGeneration]:
    """Builds the tiny base, always with the same weights."""
    return lambda: build_small_base(BASE_CONFIG)


@pytest.fixture
def patch_config() -> PatchConfig:
    return PatchConfig(base="tiny", channels={"audio": AUDIO}, lora=LoraSettings(r=4, alpha=8, dropout=0))


@pytest.fixture
def make_model(
    make_base: Callable[[], LlavaOnevisionForConditionalGeneration], patch_config: PatchConfig
) -> Callable[..., PatchedVideoLLM]:
    """Builds a patched model in eval mode whose patch and LoRA are far from their initial values."""

    def make(config: PatchConfig = patch_config, trained: bool = True) -> PatchedVideoLLM:
        torch.manual_seed(3)
        model = PatchedVideoLLM(make_base(), config).eval()
        if trained:
            disturb(model)
        return model

    return make


@pytest.fixture
def make_batch() -> Callable[..., dict[str, Any]]:
    """Builds model inputs: samples with texts and side channels of different length, padded on one side."""

    def make(
        text_lengths: tuple[int, ...] = (5, 9),
        side_lengths: tuple[int, ...] = (7, 3),
        padding: str = "left",
        seed: int = 11,
    ) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(seed)
        num_video = NUM_FRAMES * 2 * 3
        rows, masks = [], []
        longest = max(text_lengths) + num_video + 1
        for length in text_lengths:
            text = torch.randint(0, 50, (length,), generator=generator)
            row = torch.cat([torch.tensor([1]), torch.full((num_video,), VIDEO_ID), text])
            pad = torch.full((longest - len(row),), PAD_ID)
            ones, zeros = torch.ones_like(row), torch.zeros_like(pad)
            rows.append(torch.cat([pad, row] if padding == "left" else [row, pad]))
            masks.append(torch.cat([zeros, ones] if padding == "left" else [ones, zeros]))
        batch = len(text_lengths)
        input_ids = torch.stack(rows)
        return {
            "input_ids": input_ids,
            "attention_mask": torch.stack(masks),
            "queries": torch.randn(batch, NUM_FRAMES, 4, 8, generator=generator),
            "visual": torch.randn(batch, NUM_FRAMES, 4, 16, generator=generator),
            "side": {"audio": torch.randn(batch, max(side_lengths), 1, 6, generator=generator)},
            "side_lengths": {"audio": torch.tensor(side_lengths)},
        }

    return make
