"""Plain pieces of these tests: a tiny configuration, the golden folder, small functions on batches."""

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pave_model.config import FusionConfig
from pave_model.small_base import SmallBaseConfig

VIDEO_ID = 60
PAD_ID = 62
NUM_FRAMES = 4
AUDIO = FusionConfig(side_dim=6, query_dim=8, output_dim=16, embed_dim=10, hidden_dim=12, num_heads=2)
BASE_CONFIG = SmallBaseConfig(
    vision_hidden_size=8,
    vision_intermediate_size=12,
    vision_num_layers=1,
    vision_num_heads=2,
    image_size=16,
    patch_size=4,  # 4 x 4 patches, pooled to 2 x 2 tokens
    hidden_size=16,
    intermediate_size=24,
    num_layers=2,
    num_heads=2,
    num_kv_heads=1,
    vocab_size=64,
    image_token_id=61,
    video_token_id=VIDEO_ID,
    eos_token_id=63,
    pad_token_id=PAD_ID,
    seed=5,
)


def golden_folder() -> Path:
    """The golden numbers of the patch; PAVE_GOLDEN points to another copy of tests/golden."""
    return Path(os.environ.get("PAVE_GOLDEN", Path(__file__).parents[1] / "golden")) / "pave_patch"


@torch.no_grad()
def disturb(model: nn.Module) -> None:
    """Move every trainable parameter away from its initial value."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.add_(torch.randn_like(parameter) * 0.5)


def labels_of(batch: dict[str, Any]) -> Tensor:
    """Every text token is trained."""
    ids: Tensor = batch["input_ids"]
    return ids.masked_fill((ids == VIDEO_ID) | (batch["attention_mask"] == 0), -100)
