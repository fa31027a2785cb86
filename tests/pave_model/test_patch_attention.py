"""The attention that is shown is the one that the patch computes."""

import pytest
import torch

from pave_model.errors import PatchInputError
from pave_model.fusion import FusionModule
from pave_model.patch_attention import attention_over_time, slot_shares

FRAMES, TOKENS, WIDTH = 4, 9, 8


def fusion_of(**changes: object) -> FusionModule:
    torch.manual_seed(0)
    sizes = {"side_dim": 5, "query_dim": WIDTH, "output_dim": 7, "embed_dim": 12, "hidden_dim": 16}
    return FusionModule(**(sizes | {"num_heads": 2, **changes}))


def batch(steps: int, tokens_per_step: int = 4, samples: int = 1) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(1)
    queries = torch.randn(samples, FRAMES, TOKENS, WIDTH)
    side = torch.randn(samples, steps, tokens_per_step, 5)
    return queries, side, torch.full((samples,), steps)


TIMES = {
    "step_times": torch.arange(11, dtype=torch.float64)[None] / 2,
    "frame_times": torch.tensor([[0.0, 1.5, 3.0, 9.0]], dtype=torch.float64),
}


@pytest.mark.parametrize(
    ("changes", "steps", "times"),
    [
        ({}, 11, {}),  # ragged chunks
        ({}, 3, {}),  # resampled: fewer steps than key frames
        ({"value_projection": "untied", "attention": "sdpa"}, 8, {}),
        ({"time_radius": 0.7, "first_token": 1}, 11, TIMES),
        ({"rotary": True, "hidden_dim": 256}, 8, {}),
    ],
)
def test_shares_times_values_are_the_patchs_own_attention(
    changes: dict[str, object], steps: int, times: dict[str, torch.Tensor]
) -> None:
    fusion = fusion_of(**changes)
    queries, side, lengths = batch(steps)
    packed = fusion.pack(side, lengths, queries, **times)
    mapped = torch.nn.functional.linear(packed.steps, fusion.input_mapping.weight)
    tokens = fusion.query_input_mapping(queries).flatten(0, 1)
    attention = fusion.cross_attn_layers[0].attn
    shares = slot_shares(attention, tokens, mapped, fusion.input_mapping.bias, packed)
    linear = attention.k_linear if attention.tied else attention.v_linear
    value = attention.chunks(torch.nn.functional.linear(mapped, linear.weight), packed)
    expected = tokens + (shares @ value).transpose(1, 2).flatten(2) + linear(fusion.input_mapping.bias)
    found = attention(tokens, mapped, fusion.input_mapping.bias, packed)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)

    over_time = attention_over_time(fusion, queries, packed)
    assert over_time.shape == (2, FRAMES, steps)
    torch.testing.assert_close(over_time.sum(dim=2), torch.ones(2, FRAMES))
    if times:  # only what is within the radius, or else the nearest step
        distance = (TIMES["frame_times"][0, :, None] - TIMES["step_times"][0]).abs()
        seen = (distance <= 0.7) | (distance == distance.min(dim=1, keepdim=True).values)
        assert bool(((over_time > 0) == seen).all())


def test_one_sample_at_a_time() -> None:
    fusion = fusion_of()
    queries, side, lengths = batch(5, samples=2)
    with pytest.raises(PatchInputError, match="one sample at a time"):
        attention_over_time(fusion, queries, fusion.pack(side, lengths, queries))
