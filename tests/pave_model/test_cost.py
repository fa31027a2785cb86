"""Cost accounting: the published totals of parameters, FLOPs by hand, and the patch's share of its base."""

from typing import Any

import pytest
from transformers import CLIPVisionConfig, LlavaOnevisionConfig, Qwen2Config, SiglipVisionConfig

from pave_model.config import FusionConfig
from pave_model.cost import PatchCosts, fusion_cost, patch_costs
from pave_model.errors import BaseConfigError
from pave_model.published_sizes import (
    NUM_KEY_FRAMES,
    PUBLISHED_BASES,
    PUBLISHED_CHANNELS,
    ChannelSize,
    published_base,
)

TOKENS_PER_FRAME = 196
WIDTHS = {"0.5b": 896, "7b": 3584}
LORA_PARAMETERS = {"0.5b": 35_192_832, "7b": 161_480_704}
# The largest share of the base that a patch may add: parameters, FLOPs.
BOUNDS = {"0.5b": (0.0075, 0.006), "7b": (0.0015, 0.002)}


@pytest.fixture(scope="module")
def costs() -> dict[str, PatchCosts]:
    """Both published bases with all channels."""
    return {name: patch_costs(published_base(name), PUBLISHED_CHANNELS) for name in PUBLISHED_BASES}


@pytest.mark.parametrize(
    ("side_dim", "output_dim", "num_layers", "parameters"),
    [
        (1024, 896, 2, 6_235_776),
        (1024, 3584, 2, 8_996_352),
        (1024, 3584, 3, 10_833_920),
        (768, 896, 2, 6_104_704),
        (768, 3584, 2, 8_865_280),
        (768, 3584, 3, 10_702_848),
    ],
)
def test_a_patch_has_as_many_parameters_as_the_published_one(
    side_dim: int, output_dim: int, num_layers: int, parameters: int
) -> None:
    config = FusionConfig(side_dim=side_dim, query_dim=1152, output_dim=output_dim, num_layers=num_layers)
    channel = ChannelSize(num_steps=60, tokens_per_step=1, side_dim=side_dim)
    assert fusion_cost(config, channel, TOKENS_PER_FRAME).parameters == parameters


@pytest.mark.parametrize("base", PUBLISHED_BASES)
def test_parts_of_the_base_and_adapters_add_up(costs: dict[str, PatchCosts], base: str) -> None:
    cost = costs[base]
    assert (cost.num_visual_tokens, cost.num_text_tokens) == (6720, 60)
    assert cost.base.parameters == {"0.5b": 893_675_552, "7b": 8_030_807_584}[base]
    assert cost.base == cost.vision + cost.language_model
    assert cost.lora.parameters == LORA_PARAMETERS[base]
    # every adapter weight meets every token once
    assert cost.lora.flops == 2 * LORA_PARAMETERS[base] * 6780


@pytest.mark.parametrize("base", PUBLISHED_BASES)
def test_flops_of_the_vision_tower_by_hand(costs: dict[str, PatchCosts], base: str) -> None:
    width, hidden, llm = 1152, 4304, WIDTHS[base]
    patch_embedding = 3 * 14 * 14 * width
    layer = 4 * width**2 + 2 * 729 * width + 2 * width * hidden  # projections, attention, MLP
    projector = width * llm + llm**2
    by_hand = 2 * NUM_KEY_FRAMES * 729 * (patch_embedding + 26 * layer + projector)
    assert costs[base].vision.flops == by_hand


@pytest.mark.parametrize("base", PUBLISHED_BASES)
def test_flops_of_the_prefill_by_hand(costs: dict[str, PatchCosts], base: str) -> None:
    text = published_base(base).text_config
    width, head = text.hidden_size, text.hidden_size // text.num_attention_heads
    projections = 2 * width**2 + 2 * width * text.num_key_value_heads * head
    layer = projections + 2 * 6780 * width + 3 * width * text.intermediate_size
    by_hand = 2 * (6780 * text.num_hidden_layers * layer + width * text.vocab_size)
    assert costs[base].language_model.flops == by_hand


@pytest.mark.parametrize("base", PUBLISHED_BASES)
@pytest.mark.parametrize("channel", PUBLISHED_CHANNELS)
def test_flops_of_the_patch_by_hand(costs: dict[str, PatchCosts], base: str, channel: str) -> None:
    size, llm = PUBLISHED_CHANNELS[channel], WIDTHS[base]
    num_side = size.num_steps * size.tokens_per_step
    longest_chunk = -(-size.num_steps // NUM_KEY_FRAMES) * size.tokens_per_step
    queries = 1152 * 512 + 2 * (512**2 + 2 * longest_chunk * 512 + 2 * 512 * 1024) + 512 * 1024 + 1024 * llm
    side = size.side_dim * 512 + 2 * 512**2
    by_hand = 2 * (NUM_KEY_FRAMES * TOKENS_PER_FRAME * queries + num_side * side)
    sizes = FusionConfig(side_dim=size.side_dim, query_dim=1152, output_dim=llm)
    plain = fusion_cost(sizes, size, TOKENS_PER_FRAME, attention="sdpa")
    # Rows that a back end pads, or projects twice where chunks share them, are its own affair.
    assert plain.flops == pytest.approx(by_hand, rel=0.02)
    # Where a chunk has few tokens, the queries' projection (a ninth of the patch) is saved.
    saved = 2 * 2 * NUM_KEY_FRAMES * TOKENS_PER_FRAME * 512**2 if longest_chunk < 59 else 0
    assert costs[base].patches[channel].flops == pytest.approx(by_hand - saved, rel=0.04)


@pytest.mark.parametrize("base", PUBLISHED_BASES)
@pytest.mark.parametrize("channel", PUBLISHED_CHANNELS)
def test_a_patch_is_a_small_share_of_its_base(costs: dict[str, PatchCosts], base: str, channel: str) -> None:
    cost, patch = costs[base], costs[base].patches[channel]
    most_parameters, most_flops = BOUNDS[base]
    assert 0 < patch.parameters <= most_parameters * cost.base.parameters
    assert 0 < patch.flops <= most_flops * cost.base.flops


@pytest.fixture
def small_text() -> Qwen2Config:
    return Qwen2Config(
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        vocab_size=16,
    )


def test_the_given_config_stays_as_it_was(small_text: Qwen2Config) -> None:
    vision = SiglipVisionConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=1)
    config = LlavaOnevisionConfig(text_config=small_text, vision_config=vision)
    before = config.to_json_string()
    patch_costs(config, {})
    assert config.to_json_string() == before
    assert "eager" not in {config._attn_implementation, config.text_config._attn_implementation}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vision_config": CLIPVisionConfig()}, "vision tower 'clip_vision_model'"),
        ({"vision_feature_layer": [-2, -1]}, "all tokens of one layer"),
        (
            {"vision_config": SiglipVisionConfig(hidden_size=10, num_attention_heads=3)},
            r"makes no model \(embed_dim must be divisible",
        ),
    ],
)
def test_bases_that_take_no_patch_are_refused(
    small_text: Qwen2Config, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(BaseConfigError, match=message):
        patch_costs(LlavaOnevisionConfig(text_config=small_text, **settings), {})
