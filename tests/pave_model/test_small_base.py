"""The small base: same config, same weights; same class and features as the real base."""

import pytest
import torch
from pydantic import ValidationError
from tiny_patch import BASE_CONFIG

from pave_model.small_base import SmallBaseConfig, build_small_base


def test_the_seed_decides_the_weights_and_nothing_else_changes() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first, second = build_small_base(BASE_CONFIG), build_small_base(BASE_CONFIG)
    assert torch.equal(torch.get_rng_state(), state)
    other = build_small_base(BASE_CONFIG.model_copy(update={"seed": 6}))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.lm_head.weight, other.lm_head.weight)


def test_frames_give_the_promised_number_of_tokens() -> None:
    for image_size, patch_size, tokens in [(16, 4, 4), (20, 4, 9), (64, 8, 16)]:
        config = BASE_CONFIG.model_copy(update={"image_size": image_size, "patch_size": patch_size})
        frames = torch.randn(1, 3, 3, image_size, image_size)
        features = build_small_base(config).model.get_video_features(frames).pooler_output
        assert config.tokens_per_frame == tokens
        assert features.shape == (1, 3 * tokens + 1, config.hidden_size)  # transformers adds one newline


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 18}, "image_size must be a multiple of patch_size"),
        ({"num_heads": 3}, "hidden_size must be an even multiple"),
        ({"vision_num_heads": 3}, "vision_hidden_size must be a multiple"),
        ({"num_kv_heads": 4}, "num_heads must be a multiple"),
        ({"video_token_id": 64}, "every token id must be below vocab_size"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SmallBaseConfig(**{**BASE_CONFIG.model_dump(), **change})
