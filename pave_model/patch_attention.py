"""Where in time a patch looks: the attention of the key frames over the steps of a side channel.

Shapes: B samples (one here), F key frames, S tokens of a key frame, T steps of the side channel, S_k tokens per step,
M steps of the longest chunk, K = M S_k, P = B F, d width, h heads.
"""

import torch
from torch import Tensor

from pave_model.attention import attend
from pave_model.errors import PatchInputError
from pave_model.fusion import CrossAttention, CrossAttentionLayer, FusionModule
from pave_model.rotary_positions import rotate
from pave_model.side_batch import SideBatch


@torch.no_grad()
def attention_over_time(fusion: FusionModule, queries: Tensor, side: SideBatch) -> Tensor:
    """How much of its attention each key frame gives to each step of the side channel, by layer.

    `queries` (1, F, S, C_v) and `side`, from `fusion.pack` with the same queries, are those of one sample. Returns
    (layers, F, T) float32 on the CPU, the mean over the heads and the tokens of a key frame; each row sums to 1. A step
    that a key frame does not see has 0; where the channel was resampled, a share is split between the two steps that
    it was mixed from (section 3 of the paper, equations of figure 2c).

    Raises `PatchInputError` for more than one sample.
    """
    if len(queries) != 1:
        raise PatchInputError(f"attention is shown for one sample at a time, not for {len(queries)}")
    steps = torch.nn.functional.linear(side.steps, fusion.input_mapping.weight)  # (T, S_k, E)
    bias = fusion.input_mapping.bias
    tokens = fusion.query_input_mapping(queries).flatten(0, 1)  # (P, S, d)
    layers = []
    for layer in fusion.cross_attn_layers:
        assert isinstance(layer, CrossAttentionLayer)
        shares = slot_shares(layer.attn, tokens, steps, bias, side).mean(dim=(1, 2))  # (P, K)
        layers.append(_on_steps(shares, side, len(steps)))
        tokens = layer(tokens, steps, bias, side)
    return torch.stack(layers).float().cpu()


def slot_shares(
    attention: CrossAttention, tokens: Tensor, steps: Tensor, bias: Tensor, side: SideBatch
) -> Tensor:
    """The softmax of a layer's attention, (P, h, S, K) with zeros where a chunk has no token.

    `tokens` (P, S, d), `steps` (N, S_k, E) and `bias` (E,) as for `CrossAttention.forward`.
    """
    key = attention.chunks(
        torch.nn.functional.linear(steps, attention.k_linear.weight), side
    )  # (P, h, K, d/h)
    query = attention.split_heads(attention.q_linear(tokens))  # (P, h, S, d/h)
    if side.rotation is not None:
        shift = attention.k_linear(bias)
        key = rotate(key + shift.view(attention.num_heads, 1, -1), side.rotation[1])
        query = rotate(query, side.rotation[0])
    # attention over unit vectors returns the shares themselves
    places = torch.eye(key.shape[2], dtype=key.dtype, device=key.device).expand(*key.shape[:2], -1, -1)
    shares = attend(query, key, places, side.slots, "sdpa")  # (P, S, h K)
    return attention.split_heads(shares)


def _on_steps(shares: Tensor, side: SideBatch, num_steps: int) -> Tensor:
    """Shares of slots (P, K) -> of the steps behind them, (F, T)."""
    alignment = side.alignment
    lower = alignment.lower.flatten(0, 1)  # (P, M)
    of_steps = shares.reshape(*lower.shape, -1).sum(dim=2)  # (P, M)
    result = shares.new_zeros(len(shares), num_steps)
    if alignment.upper is None or alignment.weight is None:
        return result.scatter_add_(1, lower, of_steps)
    weight = alignment.weight.flatten(0, 1).to(shares.dtype)
    result.scatter_add_(1, lower, (1 - weight) * of_steps)
    return result.scatter_add_(1, alignment.upper.flatten(0, 1), weight * of_steps)
