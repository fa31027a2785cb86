"""What the patched model is told about the videos of a batch, and the checks that name what does not fit.

Shapes: B samples, F key frames, S tokens of a key frame, C_v width of the vision tower, D width of the LLM;
T_pad steps, S_k tokens per step and C_s width of a side channel; L positions.
"""

from collections.abc import Mapping, Sequence
from typing import TypedDict

import torch
from torch import Tensor

from pave_model.errors import PatchInputError, sample_name
from pave_model.side_batch import check_finite


class VideoInputs(TypedDict, total=False):
    """Key frames and side channels of a batch.

    Key frames come either as `pixels` (B, F, 3, H, W), preprocessed for the base, or as cached tokens:
    `queries` (B, F, S, C_v) from before the projector and `visual` (B, F, S, D) from behind it.

    `side[channel]` (B, T_pad, S_k, C_s), of which `side_lengths[channel]` (B,) int64 steps are valid. A channel
    that no sample has is left out of both; where only some have it, `side_present[channel]` (B,) bool marks
    them, and the other rows are never read.

    `frame_times` (B, F) and `side_times[channel]` (B, T_pad) float64 seconds are read where a channel is aligned
    by time. `sample_ids`, B of them, let errors name a sample.
    """

    pixels: Tensor
    queries: Tensor
    visual: Tensor
    side: Mapping[str, Tensor]
    side_lengths: Mapping[str, Tensor]
    side_present: Mapping[str, Tensor]
    side_times: Mapping[str, Tensor]
    frame_times: Tensor
    sample_ids: Sequence[str]


def check_video_inputs(video: VideoInputs, channels: Sequence[str], hidden_size: int) -> None:
    """Raise `PatchInputError` unless the inputs are complete, of known channels, and of shapes that fit.

    `channels` are those of the patch, `hidden_size` is D.
    """
    known = VideoInputs.__annotations__
    if unknown := sorted(video.keys() - known.keys()):
        raise PatchInputError(f"unknown inputs {unknown}; the patched model takes {sorted(known)}")
    side, lengths = video.get("side", {}), video.get("side_lengths", {})
    if foreign := sorted(side.keys() - set(channels)):
        raise PatchInputError(
            f"the patch has channels {sorted(channels)}, not {foreign}; leave them out of side"
        )
    if side.keys() != lengths.keys():
        raise PatchInputError(
            f"side has channels {sorted(side)} and side_lengths {sorted(lengths)}; give both for each channel"
        )
    cached = [name for name in ("queries", "visual") if name in video]
    if ("pixels" in video) == bool(cached) or len(cached) == 1:
        raise PatchInputError("give the key frames either as pixels, or as both queries and visual")
    if "pixels" in video:
        return
    queries, visual = video["queries"], video["visual"]
    if visual.dim() != 4 or visual.shape != (*queries.shape[:3], hidden_size):
        raise PatchInputError(
            f"visual tokens have shape {tuple(visual.shape)} for queries {tuple(queries.shape)}; "
            f"pass both tensors of the same key frames, visual tokens as (B, F, S, {hidden_size})"
        )
    for tokens, what in ((queries, "queries of key frames"), (visual, "visual tokens of key frames")):
        check_finite(tokens, what, [1] * len(tokens), video.get("sample_ids"))


def rows_with_channel(video: VideoInputs, channel: str) -> Tensor | None:
    """Rows of the samples that have `channel`, int64 on the CPU; None when all have it.

    Raises `PatchInputError` when `side_present` has another length than the batch.
    """
    present = video.get("side_present", {}).get(channel)
    if present is None:
        return None
    batch = len(video["side"][channel])
    if present.shape != (batch,):
        raise PatchInputError(
            f"side_present has shape {tuple(present.shape)} for {batch} samples; pass (B,) bool"
        )
    present = present.cpu()
    return None if bool(present.all()) else present.nonzero().squeeze(1)


def check_placeholders(
    input_ids: Tensor,
    attention_mask: Tensor,
    video_token_id: int,
    num_tokens: int,
    max_length: int,
    sample_ids: Sequence[str] | None,
) -> None:
    """Raise `PatchInputError` unless every sample has one run of `num_tokens` placeholders and fits the LLM.

    `input_ids` and `attention_mask` (B, L); `max_length` positions are the most that the LLM knows.
    """
    placeholder = input_ids == video_token_id
    starts = placeholder & ~torch.nn.functional.pad(placeholder, (1, 0))[:, :-1]
    counts = torch.stack([placeholder.sum(1), starts.sum(1), attention_mask.sum(1)], dim=1).tolist()
    for sample, (found, runs, length) in enumerate(counts):
        name = sample_name(sample, sample_ids)
        if runs == 0:
            raise PatchInputError(f"{name} has no video placeholder in its text; put one before the question")
        if runs > 1:
            raise PatchInputError(f"{name} has {runs} video placeholders in its text; a sample has one video")
        if found != num_tokens:
            raise PatchInputError(
                f"{name} has {found} video placeholder ids for {num_tokens} video tokens; "
                "build its ids with num_video_tokens of this model, and do not truncate the video"
            )
        if length > max_length:
            raise PatchInputError(
                f"{name} has {length} tokens, but the base knows {max_length} positions; "
                "shorten its text, or give fewer key frames"
            )
