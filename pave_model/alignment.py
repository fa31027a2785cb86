"""Which steps of the side channel each key frame sees (PAVE, section 3: temporal alignment).

Even alignment, the original release's: a side channel of T steps is split over F key frames into F consecutive
chunks. With T = a F + r the first r chunks have a + 1 steps and the others a. A channel with T < F is first
resampled along time to F steps, by linear interpolation with aligned corners: step i of the result reads
position i (T - 1) / (F - 1).

Alignment by time: each key frame sees the steps whose timestamps lie within a radius of its own, and at least
the nearest step. It needs no even sampling, and stays right where a channel starts late or has gaps.

Everything here works on index tensors for a whole batch. Rows count the valid steps of all samples one after
the other ("packed"), so nothing that an index names is padding.

Shapes: B samples, F key frames, M steps of the longest chunk, N valid steps of the whole batch, R slots that
the chunks of the whole batch really have.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Alignment:
    """For each key frame, the packed rows of its chunk.

    `lower` (B, F, M) int64: the row of a slot. Where a channel is resampled, the slot's value is
    `(1 - weight)` of row `lower` plus `weight` of row `upper`, both (B, F, M); otherwise these two are None.
    `valid` (B, F, M) bool marks the slots that a shorter chunk really has; None when all chunks have M steps.
    `in_order` is True where the slots are exactly the packed rows, one after the other: nothing is gathered.
    `step` (B, F, M) and `last_step` (B,) int64: a slot's position in its sample's (resampled) channel, and the
    last such position; what rotary positions count in.
    """

    lower: Tensor
    upper: Tensor | None
    weight: Tensor | None
    valid: Tensor | None
    in_order: bool
    step: Tensor
    last_step: Tensor

    def to(self, device: torch.device) -> "Alignment":
        """The same alignment on another device."""
        if self.lower.device == device:
            return self
        upper, weight, valid = (
            None if t is None else t.to(device) for t in (self.upper, self.weight, self.valid)
        )
        step, last_step = self.step.to(device), self.last_step.to(device)
        return Alignment(self.lower.to(device), upper, weight, valid, self.in_order, step, last_step)

    def gather(self, steps: Tensor) -> Tensor:
        """Collect each key frame's chunk: packed steps (N, ...) -> (B, F, M, ...), resampled where needed.

        Slots that are not `valid` repeat a valid step of the same chunk; the caller masks them.
        """
        shape = (*self.lower.shape, *steps.shape[1:])
        if self.in_order:
            return steps.reshape(shape)
        chunks = steps.index_select(0, self.lower.flatten())
        if self.upper is not None and self.weight is not None:
            others = steps.index_select(0, self.upper.flatten())
            weight = self.weight.to(steps.dtype).reshape(-1, *[1] * (steps.dim() - 1))
            chunks = torch.lerp(chunks, others, weight)
        return chunks.reshape(shape)

    def chunk_sizes(self) -> Tensor:
        """Steps of every key frame's chunk, (B F,) int64."""
        if self.valid is None:
            return self.lower.new_full((self.lower[..., 0].numel(),), self.lower.shape[2])
        return self.valid.sum(dim=2).flatten()


def packed_rows(lengths: Tensor, padded_length: int) -> Tensor:
    """Rows of the valid steps in a padded batch (B, padded_length, ...) whose first two axes were flattened.

    `lengths` (B,) int64 on the CPU. Returns (N,) int64 with N = sum of the lengths.
    """
    step = torch.arange(padded_length)
    return (step < lengths[:, None]).flatten().nonzero().squeeze(1)


def chunk_bounds(num_steps: Tensor, num_frames: int) -> tuple[Tensor, Tensor]:
    """First step and number of steps of each key frame's chunk when `num_steps` (B,) are split evenly.

    Returns two (B, F) int64 tensors. The longer chunks come first. Needs `num_steps >= num_frames`, or some
    chunks are empty.
    """
    frame = torch.arange(num_frames)
    share = (num_steps // num_frames)[:, None]
    rest = (num_steps % num_frames)[:, None]
    return frame * share + torch.minimum(frame, rest), share + (frame < rest)


def align_evenly(lengths: Tensor, num_frames: int) -> Alignment:
    """Even alignment of a batch. `lengths` (B,) int64 on the CPU, each at least 1; `num_frames` is F."""
    num_steps = lengths.clamp(min=num_frames)  # after resampling
    start, size = chunk_bounds(num_steps, num_frames)
    slot = torch.arange(int(size.max()))
    valid = slot < size[..., None]
    # Slots past the end of a shorter chunk repeat its first step, so that no index leaves the chunk.
    step = start[..., None] + slot * valid
    offset = (lengths.cumsum(0) - lengths)[:, None, None]
    mask = None if bool(valid.all()) else valid
    if bool((lengths >= num_frames).all()):
        return Alignment(offset + step, None, None, mask, mask is None, step, num_steps - 1)

    length = lengths[:, None, None]
    resampled = length < num_frames
    # Whole-number arithmetic: i (T - 1) / (F - 1) as quotient and remainder. F > 1, because 1 <= T < F.
    numerator = step * (length - 1)
    lower = torch.where(resampled, numerator // (num_frames - 1), step)
    weight = torch.where(resampled, (numerator % (num_frames - 1)) / (num_frames - 1), 0.0)
    upper = torch.minimum(lower + 1, length - 1)
    return Alignment(offset + lower, offset + upper, weight, mask, False, step, num_steps - 1)


def align_by_time(lengths: Tensor, step_times: Tensor, frame_times: Tensor, radius: float) -> Alignment:
    """Alignment by time of a batch; all tensors on the CPU.

    `lengths` (B,) int64, each at least 1. `step_times` (B, T_pad) and `frame_times` (B, F) float64 seconds;
    times past a sample's length are never read. `radius` in seconds; its ends are inside.
    """
    step = torch.arange(step_times.shape[1])
    distance = (frame_times[:, :, None] - step_times[:, None]).abs()  # (B, F, T_pad)
    distance = distance.masked_fill(step >= lengths[:, None, None], torch.inf)
    # A microsecond of tolerance: timestamps are sums of rounded floats.
    near = distance <= radius + 1e-6
    near |= step == distance.argmin(dim=2, keepdim=True)
    size = near.sum(dim=2)
    most = int(size.max())
    # Near steps first, in order of time; the slots behind them repeat the first near step.
    order = near.to(torch.uint8).argsort(dim=2, descending=True, stable=True)[..., :most]
    valid = torch.arange(most) < size[..., None]
    order = torch.where(valid, order, order[..., :1])
    offset = (lengths.cumsum(0) - lengths)[:, None, None]
    mask = None if bool(valid.all()) else valid
    return Alignment(offset + order, None, None, mask, False, order, lengths - 1)
