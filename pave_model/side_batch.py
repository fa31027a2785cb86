"""A batch of one side channel, checked and aligned: everything that depends on lengths, times and values.

What is left for `FusionModule.forward` has no branch on data, so that it can be compiled as one graph.

Shapes: B samples, F key frames, S tokens of a key frame, T steps of the side channel (T_pad in a padded
batch, N all valid steps of the batch), S_k tokens per step, C_s width of the side channel, P = B F.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pave_model.alignment import Alignment, align_by_time, align_evenly, packed_rows
from pave_model.attention import AttentionBackend, KeySlots
from pave_model.errors import PatchInputError, sample_name
from pave_model.rotary_positions import Rotation


@dataclass(frozen=True)
class SideBatch:
    """Side-channel tokens without padding, and how the key frames see them.

    `steps` (N, S_k, C_s); `rotation` of queries and keys, or None without rotary positions.
    """

    steps: Tensor
    alignment: Alignment
    slots: KeySlots
    backend: AttentionBackend
    rotation: tuple[Rotation, Rotation] | None


def pack_steps(side: Tensor, lengths: Tensor, sample_ids: Sequence[str] | None = None) -> Tensor:
    """The valid steps of a padded batch: side (B, T_pad, S_k, C_s) -> (N, S_k, C_s). `lengths` on the CPU.

    Raises `PatchInputError` when a sample has no step, more than are stored, or one with NaN or infinity.
    """
    for sample, length in enumerate(lengths.tolist()):
        if not 1 <= length <= side.shape[1]:
            raise PatchInputError(
                f"{sample_name(sample, sample_ids)} has {length} valid steps of {side.shape[1]} stored ones; "
                "mark samples without this side channel as absent (side_present), or leave them out"
            )
    rows = packed_rows(lengths, side.shape[1])
    steps = side.flatten(0, 1)
    if len(rows) < len(steps):
        steps = steps.index_select(0, rows.to(side.device))
    check_finite(steps, "side-channel features", lengths.tolist(), sample_ids)
    return steps


def check_finite(
    values: Tensor, what: str, rows: Sequence[int], sample_ids: Sequence[str] | None = None
) -> None:
    """Raise `PatchInputError` when a sample's values hold NaN or infinity.

    `rows` says how many rows of `values` each sample has, in order. One pass over good values.
    """
    if values.is_meta:  # shapes without values, as for counting costs
        return
    # A sum is finite only if its terms are; only a sum that is not needs a second look, for it may overflow.
    if bool(values.detach().sum(dtype=torch.float32).isfinite()):
        return
    for sample, own in enumerate(torch.split(values, list(rows))):
        if not bool(own.isfinite().all()):
            raise PatchInputError(
                f"{sample_name(sample, sample_ids)} has {what} that are NaN or infinite; extract it again"
            )


def align(
    lengths: Tensor,
    num_frames: int,
    time_radius: float | None,
    step_times: Tensor | None,
    frame_times: Tensor | None,
    sample_ids: Sequence[str] | None = None,
) -> Alignment:
    """Align evenly, or by time where `time_radius` (seconds) is given. `lengths` (B,) int64 on the CPU.

    `step_times` (B, T_pad) and `frame_times` (B, F) float64 seconds are read for alignment by time only.
    Raises `PatchInputError` for times that are missing, of another shape, or not known (NaN).
    """
    if time_radius is None:
        return align_evenly(lengths, num_frames)
    if step_times is None or frame_times is None:
        raise PatchInputError("alignment by time needs step_times and frame_times; pass both")
    step_times, frame_times = step_times.cpu(), frame_times.cpu()
    if len(step_times) != len(lengths) or frame_times.shape != (len(lengths), num_frames):
        raise PatchInputError(
            f"times have shapes {tuple(step_times.shape)} and {tuple(frame_times.shape)} for {len(lengths)} "
            f"samples of {num_frames} key frames; pass (B, T_pad) and (B, F)"
        )
    valid = torch.arange(step_times.shape[1]) < lengths[:, None]
    unknown = ~frame_times.isfinite().all(dim=1) | (~step_times.isfinite() & valid).any(dim=1)
    if bool(unknown.any()):
        name = sample_name(int(unknown.nonzero()[0]), sample_ids)
        raise PatchInputError(f"{name} has no timestamps; align this channel evenly")
    return align_by_time(lengths, step_times, frame_times, time_radius)
