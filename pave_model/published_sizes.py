"""The sizes of the published bases and side channels, as data.

The bases are LLaVA-OneVision on Qwen2: the SigLIP so400m-384 tower without its last layer and pooling head, 729
tokens a frame, and a language model of 0.5B or 7B parameters. The channels are those of the published patches.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from transformers import LlavaOnevisionConfig, Qwen2Config, SiglipVisionConfig

NUM_KEY_FRAMES = 32

# SigLIP so400m-384; 26 of its 27 layers.
_VISION_SIZES = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 26,
    "num_attention_heads": 16,
    "image_size": 384,
    "patch_size": 14,
    "vision_use_head": False,
}
# Qwen2, with the vocabulary of the files on the hub.
_TEXT_SIZES = {
    "0.5b": {
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "vocab_size": 152000,
        "tie_word_embeddings": True,
    },
    "7b": {
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152128,
        "tie_word_embeddings": False,
    },
}
PUBLISHED_BASES = tuple(_TEXT_SIZES)


@dataclass(frozen=True)
class ChannelSize:
    """Side-channel features of one sample: `num_steps` (T) of `tokens_per_step` (S_k) of `side_dim` (C_s)."""

    num_steps: int
    tokens_per_step: int
    side_dim: int


# audio: a minute, one step a second. dense: a minute, two frames a second. depth3d: 32 views of 24 x 24 patches.
# exo: 4 cameras of 32 frames, interleaved; no published patch has it, the sizes are those of its features.
PUBLISHED_CHANNELS: Mapping[str, ChannelSize] = {
    "audio": ChannelSize(num_steps=60, tokens_per_step=1, side_dim=1024),
    "dense": ChannelSize(num_steps=120, tokens_per_step=4, side_dim=1024),
    "depth3d": ChannelSize(num_steps=32, tokens_per_step=576, side_dim=1024),
    "exo": ChannelSize(num_steps=128, tokens_per_step=196, side_dim=1152),
}


def published_base(name: str) -> LlavaOnevisionConfig:
    """A new config of the base `name`, one of `PUBLISHED_BASES`; settings that decide no size are left out."""
    return LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**_VISION_SIZES),
        text_config=Qwen2Config(**_TEXT_SIZES[name]),
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
