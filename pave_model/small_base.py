"""A small base model with random weights, of the same class and layout as the real LLaVA-OneVision.

As in the published models, the vision feature is the last hidden state of the tower without its final layer
norm (`vision_feature_layer=-1`), with every patch token kept (`"full"`).
"""

import torch
from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt, model_validator
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    Qwen2Config,
    SiglipVisionConfig,
)


class SmallBaseConfig(BaseModel):
    """Sizes of a small base. The defaults run fast on one CPU core: 16 visual tokens per frame.

    A frame of `image_size` pixels gives `(image_size / patch_size)^2` patches, pooled 2 x 2 into
    `tokens_per_frame` tokens. `vocab_size` covers every token id, the two placeholders included.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    vision_hidden_size: PositiveInt = 64
    vision_intermediate_size: PositiveInt = 128
    vision_num_layers: PositiveInt = 2
    vision_num_heads: PositiveInt = 4
    image_size: PositiveInt = 64
    patch_size: PositiveInt = 8

    hidden_size: PositiveInt = 128
    intermediate_size: PositiveInt = 256
    num_layers: PositiveInt = 2
    num_heads: PositiveInt = 4
    num_kv_heads: PositiveInt = 2
    max_positions: PositiveInt = 4096

    vocab_size: PositiveInt
    image_token_id: NonNegativeInt
    video_token_id: NonNegativeInt
    eos_token_id: NonNegativeInt
    pad_token_id: NonNegativeInt
    seed: int = 0

    @property
    def grid_side(self) -> int:
        """Side of the square grid of a frame's tokens after pooling."""
        return -(-(self.image_size // self.patch_size) // 2)

    @property
    def tokens_per_frame(self) -> int:
        """Number of a frame's tokens after pooling (S)."""
        return self.grid_side**2

    @model_validator(mode="after")
    def _sizes_fit(self) -> "SmallBaseConfig":
        checks = {
            "image_size must be a multiple of patch_size": self.image_size % self.patch_size == 0,
            "vision_hidden_size must be a multiple of vision_num_heads": (
                self.vision_hidden_size % self.vision_num_heads == 0
            ),
            "hidden_size must be an even multiple of num_heads": (
                self.hidden_size % (2 * self.num_heads) == 0  # rotary positions pair the head's channels
            ),
            "num_heads must be a multiple of num_kv_heads": self.num_heads % self.num_kv_heads == 0,
            "every token id must be below vocab_size": self.vocab_size
            > max(self.image_token_id, self.video_token_id, self.eos_token_id, self.pad_token_id),
        }
        for message, holds in checks.items():
            if not holds:
                raise ValueError(message)
        return self


def build_small_base(config: SmallBaseConfig) -> LlavaOnevisionForConditionalGeneration:
    """Build the model in float32 on the CPU, in eval mode. The same config gives the same weights.

    The global random state is left as it was.
    """
    base_config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(
            hidden_size=config.vision_hidden_size,
            intermediate_size=config.vision_intermediate_size,
            num_hidden_layers=config.vision_num_layers,
            num_attention_heads=config.vision_num_heads,
            image_size=config.image_size,
            patch_size=config.patch_size,
            vision_use_head=False,
        ),
        text_config=Qwen2Config(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            num_key_value_heads=config.num_kv_heads,
            max_position_embeddings=config.max_positions,
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=config.eos_token_id,
            pad_token_id=config.pad_token_id,
        ),
        image_token_index=config.image_token_id,
        video_token_index=config.video_token_id,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        image_grid_pinpoints=[[config.image_size, config.image_size]],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return LlavaOnevisionForConditionalGeneration(base_config).eval()
