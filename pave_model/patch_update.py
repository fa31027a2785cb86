"""The sum of the frozen visual tokens and every channel's update, for batches in which channels may be absent.

Shapes: B samples, F key frames, S tokens of a key frame, C_v width of the vision tower, D width of the LLM.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from pave_model.errors import PatchInputError
from pave_model.fusion import FusionModule
from pave_model.video_inputs import VideoInputs, rows_with_channel


def add_updates(
    patch: nn.ModuleDict,
    queries: Tensor,
    visual: Tensor,
    video: VideoInputs,
    dtype: Literal["float32", "bfloat16"] = "float32",
) -> Tensor:
    """z_v + the sum over channels of g(z_v, z_s), (B, F, S, D) float32, under autocast too (section 3).

    `patch` holds a `FusionModule` per channel, computed in float32 or in bfloat16 mixed precision; `queries`
    (B, F, S, C_v) and `visual` (B, F, S, D) of any dtype. A sample without a channel gets nothing from it.
    Raises `PatchInputError`, which names channel and sample, as `FusionModule.pack` does.
    """
    tokens, queries = visual.float(), queries.float()
    for channel, fusion in patch.items():
        assert isinstance(fusion, FusionModule)
        if channel not in video.get("side", {}):
            continue
        try:
            rows = rows_with_channel(video, channel)
            if rows is not None and len(rows) == 0:
                continue
            with torch.autocast(visual.device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
                update = _update(fusion, channel, queries, video, rows).float()
        except PatchInputError as error:
            raise PatchInputError(f"channel '{channel}': {error}") from error
        tokens = tokens + update if rows is None else tokens.index_add(0, rows.to(tokens.device), update)
    return tokens


def _update(
    fusion: FusionModule, channel: str, queries: Tensor, video: VideoInputs, rows: Tensor | None
) -> Tensor:
    """A channel's update of the samples `rows`, or of all: (B', F, S, D)."""
    side, lengths = video["side"][channel], video["side_lengths"][channel]
    step_times = video.get("side_times", {}).get(channel)
    frame_times = video.get("frame_times")
    sample_ids = video.get("sample_ids")
    if rows is not None:
        side, lengths, queries = (tensor[rows.to(tensor.device)] for tensor in (side, lengths, queries))
        step_times, frame_times = (
            None if times is None else times[rows.to(times.device)] for times in (step_times, frame_times)
        )
        sample_ids = None if sample_ids is None else [sample_ids[row] for row in rows.tolist()]
    packed = fusion.pack(side.float(), lengths, queries, step_times, frame_times, sample_ids)
    return fusion(queries, packed)  # type: ignore[no-any-return]
