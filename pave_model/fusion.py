"""The fusion function g of one side channel (PAVE, arXiv 2503.19794, section 3 and figure 2).

The patched visual tokens are z_v + g(z_v, z_s). In g the tokens z_v of each key frame attend only to the
side-channel tokens z_s of the same stretch of time. Names and numbers are those of the original release,
surprises included: values share the key projection, attention has neither a norm before it nor an output
projection, and `v_linear` is in every checkpoint without ever being used. Untied values use it.

Shapes: B samples, F key frames, S tokens of a key frame, C_v width of the vision tower, T steps of the side
channel (T_pad in a padded batch, N all valid steps of the batch), S_k tokens per step, C_s width of the side
channel, E embed_dim, d hidden_dim, h heads, D width of the LLM, M steps of the longest chunk, K = M S_k,
P = B F key frames of the whole batch.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (the name everybody reads as torch's)

from pave_model.attention import AttentionBackend, attend, attend_folded, key_slots, resolve_backend
from pave_model.errors import PatchInputError
from pave_model.rotary_positions import HEAD_DIM, rotate, rotations
from pave_model.side_batch import SideBatch, align, pack_steps

ValueProjection = Literal["tied", "untied"]


class CrossAttention(nn.Module):
    """Temporal-aligned cross-attention (section 3, figure 2c): per key frame softmax(Q K^T / sqrt(d/h)) V.

    V = K where values are tied to keys, as in the release.
    """

    def __init__(
        self, embed_dim: int, hidden_dim: int, num_heads: int, value_projection: ValueProjection
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.tied = value_projection == "tied"
        self.q_linear = nn.Linear(hidden_dim, hidden_dim)
        self.k_linear = nn.Linear(embed_dim, hidden_dim)
        # Tied: in every checkpoint but in no computation; frozen, so that no optimizer or DDP waits for it.
        self.v_linear = nn.Linear(embed_dim, hidden_dim).requires_grad_(not self.tied)

    def forward(self, queries: Tensor, steps: Tensor, bias: Tensor, side: SideBatch) -> Tensor:
        """queries (P, S, d) + attention over the mapped side steps: `steps` (N, S_k, E) + `bias` (E,).

        Biases shift all keys of a chunk alike. The softmax does not see that, and its shares sum to 1, so the
        shift of the values is added to the P S results instead of to the N S_k keys.
        """
        # Projected once per step, then gathered: resampling commutes with an affine map.
        key = value = self.chunks(F.linear(steps, self.k_linear.weight), side)
        key_shift = value_shift = self.k_linear(bias)  # (d,)
        if not self.tied:
            value = self.chunks(F.linear(steps, self.v_linear.weight), side)
            value_shift = self.v_linear(bias)
        if side.backend == "folded":
            linear = self.q_linear
            attended = attend_folded(queries, linear.weight, linear.bias, key, value, side.slots.mask)
        else:
            query = self.split_heads(self.q_linear(queries))
            if side.rotation is not None:  # rotated, a shift is no longer the same for all keys
                key = rotate(key + key_shift.view(self.num_heads, 1, -1), side.rotation[1])
                query = rotate(query, side.rotation[0])
            attended = attend(query, key, value, side.slots, side.backend)
        return (queries + attended).add_(value_shift)  # into the memory of the sum

    def chunks(self, projected: Tensor, side: SideBatch) -> Tensor:
        """(N, S_k, d) -> every key frame's chunk, (P, h, K, d / h)."""
        chunks = side.alignment.gather(projected)  # (B, F, M, S_k, d)
        return self.split_heads(chunks.flatten(0, 1).flatten(1, 2))

    def split_heads(self, tokens: Tensor) -> Tensor:
        """(P, L, d) -> (P, h, L, d / h)."""
        return tokens.reshape(*tokens.shape[:2], self.num_heads, -1).transpose(1, 2)


class CrossAttentionLayer(nn.Module):
    """One block of g (section 3, figure 2b): q <- q + attention(q, chunk), then q <- q + FFN(LN(q))."""

    def __init__(
        self, embed_dim: int, hidden_dim: int, num_heads: int, value_projection: ValueProjection
    ) -> None:
        super().__init__()
        self.attn = CrossAttention(embed_dim, hidden_dim, num_heads, value_projection)
        self.ffn = nn.Sequential(
            nn.LayerNorm(hidden_dim),
            nn.Linear(hidden_dim, 2 * hidden_dim, bias=False),
            nn.GELU(),
            nn.Linear(2 * hidden_dim, hidden_dim, bias=False),
        )

    def forward(self, queries: Tensor, steps: Tensor, bias: Tensor, side: SideBatch) -> Tensor:
        """As `CrossAttention.forward`, followed by the feed-forward network."""
        queries = self.attn(queries, steps, bias, side)
        update: Tensor = self.ffn(queries)
        return update.add_(queries)  # into the memory of the update, which the backward pass does not need


class FusionModule(nn.Module):
    """g(z_v, z_s): key-frame and side-channel tokens in, update of the visual tokens out (section 3).

    `pack` checks and aligns a padded batch, `forward` computes. A fresh module returns exact zeros, because
    the weight and bias of its last norm start at zero: an untrained patch changes nothing.

    Raises `PatchInputError` when rotary positions are asked for heads of another size than 128.
    """

    def __init__(
        self,
        side_dim: int,
        query_dim: int,
        output_dim: int,
        embed_dim: int = 512,
        hidden_dim: int = 512,
        num_heads: int = 4,
        num_layers: int = 2,
        value_projection: ValueProjection = "tied",
        rotary: bool = False,
        time_radius: float | None = None,
        first_token: int = 0,
        attention: AttentionBackend = "auto",
    ) -> None:
        super().__init__()
        if rotary and hidden_dim != num_heads * HEAD_DIM:
            raise PatchInputError(
                f"rotary positions need heads of {HEAD_DIM} channels, not {hidden_dim} / {num_heads}"
            )
        self.side_dim = side_dim
        self.query_dim = query_dim
        self.hidden_dim = hidden_dim
        self.num_heads = num_heads
        self.rotary = rotary
        self.time_radius = time_radius
        self.first_token = first_token
        self.attention: AttentionBackend = attention
        self.input_mapping = nn.Linear(side_dim, embed_dim)
        self.query_input_mapping = nn.Linear(query_dim, hidden_dim)
        self.cross_attn_layers = nn.ModuleList(
            CrossAttentionLayer(embed_dim, hidden_dim, num_heads, value_projection) for _ in range(num_layers)
        )
        self.output_mapping = nn.Sequential(
            nn.Linear(hidden_dim, 2 * hidden_dim), nn.GELU(), nn.Linear(2 * hidden_dim, output_dim)
        )
        self.output_norm = nn.LayerNorm(output_dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise as the original: PyTorch's default linear weights, zero biases, zero last norm."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.LayerNorm):
                module.reset_parameters()
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.zeros_(self.output_norm.weight)

    def forward(self, queries: Tensor, side: SideBatch) -> Tensor:
        """Update of the visual tokens, (B, F, S, D), for a whole batch in one pass.

        `queries` (B, F, S, C_v): key-frame tokens before the projector; `side`: from `pack`, with the same
        queries. Inputs have the module's dtype.
        """
        batch = queries.shape[:2]
        steps = F.linear(side.steps, self.input_mapping.weight)  # (N, S_k, E), bias still to come
        updates = self.query_input_mapping(queries).flatten(0, 1)  # (P, S, d)
        for layer in self.cross_attn_layers:
            updates = layer(updates, steps, self.input_mapping.bias, side)
        updates = self.output_mapping(updates).unflatten(0, batch)  # (B, F, S, D)
        return self.output_norm(updates)  # type: ignore[no-any-return]

    def pack(
        self,
        side: Tensor,
        lengths: Tensor,
        queries: Tensor,
        step_times: Tensor | None = None,
        frame_times: Tensor | None = None,
        sample_ids: Sequence[str] | None = None,
    ) -> SideBatch:
        """Check a padded batch, drop its padding and align it with the key frames.

        `side` (B, T_pad, S_k, C_s): side-channel tokens; those of a step before `first_token` are left out.
        `lengths` (B,) int64: valid steps T of each sample; steps past them are never read, whatever they hold.
        `queries` (B, F, S, C_v): key-frame tokens. Lengths and times on an accelerator cost a synchronisation.
        `step_times` (B, T_pad) and `frame_times` (B, F) float64 seconds: read where `time_radius` is set.
        `sample_ids` let errors name the sample.

        Raises `PatchInputError` when shapes do not fit, a sample has no step, or values are not finite.
        """
        side = side[:, :, self.first_token :]
        self._check_shapes(side, lengths, queries)
        lengths = lengths.cpu()
        num_frames, num_tokens = queries.shape[1:3]
        tokens_per_step = side.shape[2]
        steps = pack_steps(side, lengths, sample_ids)
        alignment = align(lengths, num_frames, self.time_radius, step_times, frame_times, sample_ids)
        sizes = (num_tokens, alignment.lower.shape[2] * tokens_per_step, self.hidden_dim, self.num_heads)
        device = side.device.type
        half = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if half else self.input_mapping.weight.dtype
        backend = resolve_backend(
            self.attention, sizes, device, dtype, alignment.valid is not None, self.rotary
        )
        alignment = alignment.to(side.device)
        rotation = None
        if self.rotary:
            rotation = rotations(alignment.step, alignment.last_step, num_frames, num_tokens, tokens_per_step)
        valid = None if alignment.valid is None else alignment.valid.flatten(0, 1)
        slots = key_slots(valid, alignment.chunk_sizes(), tokens_per_step, backend)
        return SideBatch(steps, alignment, slots, backend, rotation)

    def _check_shapes(self, side: Tensor, lengths: Tensor, queries: Tensor) -> None:
        if side.dim() != 4 or side.shape[2] == 0 or side.shape[3] != self.side_dim:
            raise PatchInputError(
                f"side features have shape {tuple(side.shape)}, but the patch takes "
                f"(B, T, S_k, {self.side_dim}); use the feature set that the patch was configured for"
            )
        if queries.dim() != 4 or queries.shape[3] != self.query_dim or 0 in queries.shape:
            raise PatchInputError(
                f"key-frame queries have shape {tuple(queries.shape)}, but the patch takes "
                f"(B, F, S, {self.query_dim}); pass the pooled vision tokens from before the projector"
            )
        if lengths.shape != side.shape[:1] or len(queries) != len(side):
            raise PatchInputError(
                f"there are side features for {len(side)} samples, {lengths.numel()} lengths and queries for "
                f"{len(queries)} samples; pass one length and one set of key frames per sample"
            )
