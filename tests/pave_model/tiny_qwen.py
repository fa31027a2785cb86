"""A tiny Qwen2.5-VL with random weights, inputs for it, and its video processing as plain loops."""

from typing import Any

import torch
from torch import Tensor
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from pave_model.config import FusionConfig

VIDEO_ID, IMAGE_ID, PAD_ID, EOS_ID = 60, 61, 62, 63
NUM_FRAMES, NUM_STEPS = 6, 3
PATCH, MERGE, SIDE = 4, 2, 24
# 6 x 6 patches, merged to 3 x 3 tokens; windows of 2 x 2 tokens, so window order is not row order.
NUM_TOKENS = 9
AUDIO = FusionConfig(side_dim=6, query_dim=16, output_dim=32, embed_dim=10, hidden_dim=12, num_heads=2)


def build_tiny_qwen(seed: int = 5) -> Qwen2_5_VLForConditionalGeneration:
    """The same seed gives the same weights. Eval mode; the global random state is left as it was."""
    config = Qwen2_5_VLConfig(
        vision_config={
            "depth": 2,
            "hidden_size": 16,
            "intermediate_size": 20,
            "num_heads": 2,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": 2,
            "window_size": 16,
            "fullatt_block_indexes": [1],
            "out_hidden_size": 32,
            "tokens_per_second": 2,
            "initializer_range": 0.2,
        },
        text_config={
            "vocab_size": 64,
            "hidden_size": 32,
            "intermediate_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "max_position_embeddings": 512,
            "initializer_range": 0.2,  # large, so that positions and frames show in the logits
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]},
            "bos_token_id": None,
            "eos_token_id": EOS_ID,
            "pad_token_id": PAD_ID,
        },
        image_token_id=IMAGE_ID,
        video_token_id=VIDEO_ID,
        vision_start_token_id=58,
        vision_end_token_id=59,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen2_5_VLForConditionalGeneration(config).eval()


def make_batch() -> dict[str, Any]:
    """Two samples with texts, side channels and frame times that differ, padded on the left; frames as pixels."""
    generator = torch.Generator().manual_seed(11)
    texts = [torch.randint(0, 50, (length,), generator=generator) for length in (3, 8)]
    video = torch.full((NUM_STEPS * NUM_TOKENS,), VIDEO_ID)
    rows = [torch.cat([torch.tensor([1, 58]), video, torch.tensor([59]), text]) for text in texts]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD_ID, padding_side="left")
    return {
        "input_ids": ids,
        "attention_mask": (ids != PAD_ID).long(),
        "pixels": torch.randn(2, NUM_FRAMES, 3, SIDE, SIDE, generator=generator),
        "frame_times": torch.tensor([[0.5, 1.5, 3.5], [0.1, 0.6, 1.1]], dtype=torch.float64),
        "side": {"audio": torch.randn(2, 7, 1, 6, generator=generator)},
        "side_lengths": {"audio": torch.tensor([7, 4])},
    }


def sample_of(batch: dict[str, Any], index: int) -> dict[str, Any]:
    """One sample of the batch, without any padding."""
    one = slice(index, index + 1)
    text = batch["attention_mask"][index].bool()
    alone: dict[str, Any] = {name: value[one] for name, value in batch.items() if isinstance(value, Tensor)}
    alone |= {name: batch[name][one][:, text] for name in ("input_ids", "attention_mask")}
    length = int(batch["side_lengths"]["audio"][index])
    alone["side"] = {"audio": batch["side"]["audio"][one, :length]}
    alone["side_lengths"] = {"audio": batch["side_lengths"]["audio"][one]}
    return alone


def plain_inputs(batch: dict[str, Any]) -> dict[str, Tensor]:
    """What the base itself takes for the same frames, as its video processor arranges them."""
    cells, patches = SIDE // (PATCH * MERGE), []
    for frames in batch["pixels"]:
        for step in range(NUM_STEPS):
            pair = frames[2 * step : 2 * step + 2]  # (2, 3, H, W)
            for cell_row in range(cells):
                for cell_column in range(cells):
                    for row in range(MERGE):
                        for column in range(MERGE):
                            y = (cell_row * MERGE + row) * PATCH
                            x = (cell_column * MERGE + column) * PATCH
                            patch = pair[:, :, y : y + PATCH, x : x + PATCH]
                            patches.append(patch.transpose(0, 1).reshape(-1))
    return {
        "pixel_values_videos": torch.stack(patches),
        "video_grid_thw": torch.tensor([[NUM_STEPS, cells * MERGE, cells * MERGE]] * 2),
        "mm_token_type_ids": (batch["input_ids"] == VIDEO_ID).int() * 2,
        "second_per_grid_ts": torch.tensor([1.5, 0.5]),  # the mean spacing of frame_times
    }
