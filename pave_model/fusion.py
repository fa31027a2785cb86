"""The fusion function g of one side channel (PAVE, arXiv 2503.19794, section 3 and figure 2).

The patched visual tokens are z_v + g(z_v, z_s). In g the tokens z_v of each key frame attend only to the
side-channel tokens z_s of the same stretch of time. Names and numbers are those of the original release,
surprises included: values share the key projection, attention has neither a norm before it nor an output
projection, and `v_linear` is in every checkpoint without ever being used.

Shapes: B samples, F key frames, S tokens of a key frame, C_v width of the vision tower, T steps of the side
channel (T_pad in a padded batch, N all valid steps of the batch), S_k tokens per step, C_s width of the side
channel, E embed_dim, d hidden_dim, h heads, D width of the LLM, M steps of the longest chunk, P = B F key
frames of the whole batch, L any number of tokens.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (the name everybody reads as torch's)

from pave_model.alignment import Alignment, align_by_time, align_evenly, packed_rows
from pave_model.errors import PatchInputError


class CrossAttention(nn.Module):
    """Temporal-aligned cross-attention (section 3, figure 2c): per key frame softmax(Q K^T / sqrt(d/h)) K."""

    def __init__(self, embed_dim: int, hidden_dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_linear = nn.Linear(hidden_dim, hidden_dim)
        self.k_linear = nn.Linear(embed_dim, hidden_dim)
        # Part of every checkpoint but of no computation; frozen, so that no optimizer or DDP waits for it.
        self.v_linear = nn.Linear(embed_dim, hidden_dim).requires_grad_(False)

    def forward(self, queries: Tensor, steps: Tensor, alignment: Alignment, mask: Tensor | None) -> Tensor:
        """queries (P, S, d), packed side steps (N, S_k, E), mask (P, 1, 1, M S_k) or None -> (P, S, d)."""
        query = self._split_heads(self.q_linear(queries))
        # Projected once per step, then gathered. Resampling commutes with the affine map.
        key = alignment.gather(self.k_linear(steps))  # (B, F, M, S_k, d)
        key = self._split_heads(key.flatten(0, 1).flatten(1, 2))
        attended = F.scaled_dot_product_attention(query, key, key, attn_mask=mask)
        return attended.transpose(1, 2).flatten(2)

    def _split_heads(self, tokens: Tensor) -> Tensor:
        """(P, L, d) -> (P, h, L, d / h)."""
        return tokens.reshape(*tokens.shape[:2], self.num_heads, -1).transpose(1, 2)


class CrossAttentionLayer(nn.Module):
    """One block of g (section 3, figure 2b): q <- q + attention(q, chunk), then q <- q + FFN(LN(q))."""

    def __init__(self, embed_dim: int, hidden_dim: int, num_heads: int) -> None:
        super().__init__()
        self.attn = CrossAttention(embed_dim, hidden_dim, num_heads)
        self.ffn = nn.Sequential(
            nn.LayerNorm(hidden_dim),
            nn.Linear(hidden_dim, 2 * hidden_dim, bias=False),
            nn.GELU(),
            nn.Linear(2 * hidden_dim, hidden_dim, bias=False),
        )

    def forward(self, queries: Tensor, steps: Tensor, alignment: Alignment, mask: Tensor | None) -> Tensor:
        """As `CrossAttention.forward`, with both residuals."""
        queries = queries + self.attn(queries, steps, alignment, mask)
        return queries + self.ffn(queries)  # type: ignore[no-any-return]


class FusionModule(nn.Module):
    """g(z_v, z_s): key-frame and side-channel tokens in, update of the visual tokens out (section 3).

    A fresh module returns exact zeros, because the weight and bias of its last norm start at zero: an
    untrained patch changes nothing.
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
        time_radius: float | None = None,
    ) -> None:
        super().__init__()
        self.time_radius = time_radius
        self.side_dim = side_dim
        self.query_dim = query_dim
        self.input_mapping = nn.Linear(side_dim, embed_dim)
        self.query_input_mapping = nn.Linear(query_dim, hidden_dim)
        self.cross_attn_layers = nn.ModuleList(
            CrossAttentionLayer(embed_dim, hidden_dim, num_heads) for _ in range(num_layers)
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

    def forward(
        self,
        side: Tensor,
        lengths: Tensor,
        queries: Tensor,
        step_times: Tensor | None = None,
        frame_times: Tensor | None = None,
    ) -> Tensor:
        """Update of the visual tokens, (B, F, S, D), for a whole batch in one pass.

        `side` (B, T_pad, S_k, C_s): side-channel tokens. `lengths` (B,) int64: valid steps T of each sample;
        steps past them are never read, whatever they hold. `queries` (B, F, S, C_v): key-frame tokens before
        the projector. Inputs have the module's dtype. Lengths on an accelerator cost one synchronisation.
        `step_times` (B, T_pad) and `frame_times` (B, F) float64 seconds: read where `time_radius` is set.

        Raises `PatchInputError` when shapes do not fit or a sample has no step.
        """
        lengths = lengths.cpu()
        self._check(side, lengths, queries)
        batch, num_frames = queries.shape[:2]
        if self.time_radius is None:
            alignment = align_evenly(lengths, num_frames)
        else:
            alignment = self._align_by_time(lengths, step_times, frame_times, num_frames)
        alignment = alignment.to(side.device)
        rows = packed_rows(lengths, side.shape[1]).to(side.device)

        steps = side.flatten(0, 1)[rows]  # (N, S_k, C_s), no padding left
        steps = self.input_mapping(steps)  # (N, S_k, E)
        updates = self.query_input_mapping(queries).flatten(0, 1)  # (P, S, d)
        mask = None
        if alignment.valid is not None:
            mask = alignment.valid.flatten(0, 1).repeat_interleave(side.shape[2], dim=1)[:, None, None]
        for layer in self.cross_attn_layers:
            updates = layer(updates, steps, alignment, mask)
        updates = self.output_mapping(updates).unflatten(0, (batch, num_frames))  # (B, F, S, D)
        return self.output_norm(updates)  # type: ignore[no-any-return]

    def _align_by_time(
        self, lengths: Tensor, step_times: Tensor | None, frame_times: Tensor | None, num_frames: int
    ) -> Alignment:
        """Raise `PatchInputError` for times that are missing or of another shape, or not known (NaN)."""
        assert self.time_radius is not None
        if step_times is None or frame_times is None:
            raise PatchInputError("alignment by time needs step_times and frame_times; pass both")
        step_times, frame_times = step_times.cpu(), frame_times.cpu()
        if len(step_times) != len(lengths) or frame_times.shape != (len(lengths), num_frames):
            raise PatchInputError(
                f"times have shapes {tuple(step_times.shape)} and {tuple(frame_times.shape)} for {len(lengths)} "
                f"samples of {num_frames} key frames; pass (B, T_pad) and (B, F)"
            )
        valid = torch.arange(step_times.shape[1]) < lengths[:, None]
        unknown = frame_times.isnan().any(dim=1) | (step_times.isnan() & valid).any(dim=1)
        if bool(unknown.any()):
            raise PatchInputError(
                f"sample {int(unknown.nonzero()[0])} of the batch has no timestamps; align this channel evenly"
            )
        return align_by_time(lengths, step_times, frame_times, self.time_radius)

    def _check(self, side: Tensor, lengths: Tensor, queries: Tensor) -> None:
        """Raise `PatchInputError`, naming the sample at fault, for anything that cannot be fused."""
        if side.dim() != 4 or side.shape[3] != self.side_dim:
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
        for sample, length in enumerate(lengths.tolist()):
            if not 1 <= length <= side.shape[1]:
                raise PatchInputError(
                    f"sample {sample} of the batch has {length} valid steps of {side.shape[1]} stored ones; "
                    "leave samples without side features out of the batch"
                )
