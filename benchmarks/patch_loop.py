"""The patch as a plain loop, the original release's way, and the inputs that both ways are measured on.

One sample at a time: its steps are mapped and, if too few, interpolated; its chunks are padded one by one and
stacked with a mask; keys and values are both projected, though the release ties them to one weight. The same
maths as `pave_model.fusion`, the same parameters, the same attention kernel of torch.

Shapes: B samples, F key frames, S tokens of a key frame, C_v width of the vision tower, T steps of the side
channel with S_k tokens of width C_s, D width of the LLM.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from pave_model.fusion import FusionModule

NUM_FRAMES, TOKENS_PER_FRAME, QUERY_DIM, SIDE_DIM, OUTPUT_DIM = 32, 196, 1152, 1024, 896
# Side channels of a batch of four: steps of each sample, tokens per step.
CASES = {
    "audio": ((9, 26, 44, 61), 1),
    "dense": ((120, 120, 120, 120), 4),
    "depth3d": ((32, 32, 32, 32), 576),
}


@dataclass(frozen=True)
class Inputs:
    """One batch: side (B, T, S_k, C_s), lengths (B,), queries (B, F, S, C_v), gradient of the output (B, F, S, D)."""

    side: Tensor
    lengths: Tensor
    queries: Tensor
    gradient: Tensor


def make_module(device: str = "cpu") -> FusionModule:
    """The published patch of the 0.5B base, away from its initial values, where output and biases are zero."""
    torch.manual_seed(0)
    module = FusionModule(SIDE_DIM, QUERY_DIM, OUTPUT_DIM)
    for name, parameter in module.named_parameters():
        if name.endswith("bias") or name.startswith("output_norm"):
            nn.init.normal_(parameter, std=0.1)
    return module.to(device)


def make_inputs(case: str, device: str = "cpu") -> Inputs:
    """Random features of one of `CASES`."""
    lengths, tokens_per_step = CASES[case]
    generator = torch.Generator(device).manual_seed(1)
    shapes = (
        (len(lengths), max(lengths), tokens_per_step, SIDE_DIM),
        (len(lengths), NUM_FRAMES, TOKENS_PER_FRAME, QUERY_DIM),
        (len(lengths), NUM_FRAMES, TOKENS_PER_FRAME, OUTPUT_DIM),
    )
    side, queries, gradient = (torch.randn(shape, generator=generator, device=device) for shape in shapes)
    return Inputs(side, torch.tensor(lengths), queries, gradient)


def run_module(module: FusionModule, inputs: Inputs) -> Tensor:
    """Ours: the whole batch at once, the packing included."""
    packed = module.pack(inputs.side, inputs.lengths, inputs.queries)
    output: Tensor = module(inputs.queries, packed)
    return output


def run_loop(module: FusionModule, inputs: Inputs) -> Tensor:
    """The loop, with the parameters of `module` -> (B, F, S, D)."""
    rows = zip(inputs.side, inputs.lengths.tolist(), inputs.queries, strict=True)
    updates = torch.stack([_one_sample(module, side[:length], queries) for side, length, queries in rows])
    return module.output_norm(module.output_mapping(updates))  # type: ignore[no-any-return]


def _one_sample(module: FusionModule, side: Tensor, queries: Tensor) -> Tensor:
    """side (T, S_k, C_s), queries (F, S, C_v) -> (F, S, d)."""
    num_frames = len(queries)
    updates = module.query_input_mapping(queries)
    steps = module.input_mapping(side)
    if len(steps) < num_frames:
        in_time = steps.permute(1, 2, 0)  # (S_k, E, T): time last, as interpolate wants it
        in_time = F.interpolate(in_time, size=num_frames, mode="linear", align_corners=True)
        steps = in_time.permute(2, 0, 1)
    share, rest = divmod(len(steps), num_frames)
    sizes = [share + (frame < rest) for frame in range(num_frames)]
    padded, masks = [], []
    for chunk in steps.split(sizes):
        missing = max(sizes) - len(chunk)
        padded.append(F.pad(chunk, (0, 0, 0, 0, 0, missing)).flatten(0, 1))
        masks.append(
            torch.arange(max(sizes), device=side.device).repeat_interleave(side.shape[1]) < len(chunk)
        )
    chunks = torch.stack(padded)  # (F, K, E)
    mask = torch.stack(masks)[:, None, None]
    for layer in module.cross_attn_layers:
        attention = layer.attn
        query, key, value = (
            _split_heads(linear(tokens), attention.num_heads)
            for linear, tokens in (
                (attention.q_linear, updates),
                (attention.k_linear, chunks),
                (attention.k_linear, chunks),
            )
        )
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        updates = updates + attended.transpose(1, 2).flatten(2)
        updates = updates + layer.ffn(updates)
    return updates  # type: ignore[no-any-return]


def _split_heads(tokens: Tensor, num_heads: int) -> Tensor:
    """(F, L, d) -> (F, h, L, d / h)."""
    return tokens.unflatten(2, (num_heads, -1)).transpose(1, 2)
