"""Qwen2.5-VL as a base: a window-attention ViT, a merger of 2 x 2 patches, Qwen2 with 3-D rotary positions.

The tower joins `temporal_patch_size` (2) frames into one time step. A time step is what the patch calls a key
frame: times, queries and visual tokens are those of the F' = F / 2 steps. Positions of the LLM count time as
well, so the spacing of the steps reaches the base. There are no newline tokens: `newline: no_token`.

Shapes: B samples, F frames, F' time steps, S = s^2 tokens of a step, P = m^2 S patches of a step (m = 2),
C_v width of the tower, D width of the LLM, N = F' S.
"""

from math import isqrt
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.vision_utils import get_vision_window_index

from pave_model.config import NewlinePosition
from pave_model.errors import PatchInputError, sample_name

_SETTINGS = ("image_token_id", "video_token_id")
_TEXT_SETTINGS = (
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_act",
    "rms_norm_eps",
    "rope_parameters",  # with mrope_section
    "sliding_window",
    "layer_types",
)
_VISION_SETTINGS = (
    "num_heads",
    "hidden_act",
    "patch_size",
    "temporal_patch_size",
    "spatial_merge_size",
    "window_size",
    "fullatt_block_indexes",
    "tokens_per_second",
    "rope_parameters",
)
_VIDEO_TOKEN_TYPE = 2  # of mm_token_type_ids
_DEFAULT_SPACING = 1.0  # seconds, as the base itself assumes


class Qwen25VLFamily:
    """`Qwen2_5_VLForConditionalGeneration`, unchanged; see `BaseFamily`."""

    lora_targets = r"model\.language_model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)"

    def identity(self, config: PreTrainedConfig) -> list[list[Any]]:
        """See `BaseFamily`."""
        return [
            [getattr(config, name) for name in _SETTINGS],
            [getattr(config.text_config, name) for name in _TEXT_SETTINGS],
            [getattr(config.vision_config, name) for name in _VISION_SETTINGS],
        ]

    def key_frame_tokens(self, base: PreTrainedModel, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Frames (B, F, 3, H, W) to queries (B, F', S, C_v) and visual tokens (B, F', S, D).

        A query is the mean of the m x m last patch states that the merger joins into the visual token. Raises
        `PatchInputError` unless F is a multiple of the temporal patch and H = W one of patch and merge size.
        """
        config, tower = base.config.vision_config, base.model.visual
        merge = config.spatial_merge_size
        patches, steps, side = _patches(pixels, config.temporal_patch_size, config.patch_size, merge)
        batch = len(pixels)
        grid = torch.tensor([[steps, side * merge, side * merge]] * batch, device=pixels.device)
        output = tower(patches.to(base.dtype), grid_thw=grid)
        # The tower undoes its window order for the merged tokens, not for the patch states.
        order, _ = get_vision_window_index(grid, merge, config.window_size, config.patch_size)
        means = output.last_hidden_state.unflatten(0, (-1, merge**2)).mean(1)  # (B F' S, C_v)
        queries = means[order.argsort().to(means.device)]
        shape = (batch, steps, side**2)
        return queries.unflatten(0, shape), output.pooler_output.unflatten(0, shape)

    def num_video_tokens(self, num_frames: int, tokens_per_frame: int, newline: NewlinePosition) -> int:
        """F' S for F' time steps of S tokens. Raises `PatchInputError` for any newline but "no_token"."""
        _check_newline(newline)
        return num_frames * tokens_per_frame

    def video_sequence(self, base: PreTrainedModel, tokens: Tensor, newline: NewlinePosition) -> Tensor:
        """(B, F', S, D) to (B, N, D). Raises `PatchInputError` for any newline but "no_token"."""
        _check_newline(newline)
        return tokens.flatten(1, 2)

    def inputs(
        self,
        base: PreTrainedModel,
        input_ids: Tensor,
        frames: tuple[int, int],
        video: Tensor,
        times: Tensor | None,
    ) -> dict[str, Any]:
        """See `BaseFamily`; `frames` is (F', S), `times` (B, F'). The LLM's time axis takes their mean spacing.

        Raises `PatchInputError` when S is no square, or the times are not those of the time steps.
        """
        steps, tokens = frames
        side = isqrt(tokens)
        if side**2 != tokens:
            raise PatchInputError(f"{tokens} tokens of a time step are no square; pass square key frames")
        side *= base.config.vision_config.spatial_merge_size  # the grid counts patches
        grid = torch.tensor([[steps, side, side]] * len(video), device=input_ids.device)
        return {
            "mm_encoder_outputs": {"video": BaseModelOutputWithPooling(pooler_output=tuple(video))},
            "video_grid_thw": grid,
            "mm_token_type_ids": (input_ids == base.config.video_token_id).int() * _VIDEO_TOKEN_TYPE,
            "second_per_grid_ts": _spacing(times, len(video), steps).to(input_ids.device),
        }


def _patches(pixels: Tensor, frames: int, patch: int, merge: int) -> tuple[Tensor, int, int]:
    """Flattened patches (B F' P, 3 frames patch^2), F' and s, arranged as transformers' Qwen2VL processor does.

    Patches come step by step, then merge cell by merge cell (row by row), and row by row in a cell; the values
    of a patch as (colour, frame, y, x).
    """
    unit = patch * merge
    if (
        pixels.dim() != 5
        or not pixels.numel()
        or pixels.shape[1] % frames
        or pixels.shape[2] != 3
        or pixels.shape[3] != pixels.shape[4]
        or pixels.shape[3] % unit
    ):
        raise PatchInputError(
            f"pixels have shape {tuple(pixels.shape)}, but the base takes (B, F, 3, H, H) with F a multiple of "
            f"{frames} and H one of {unit}; choose and resize the key frames so"
        )
    steps, side = pixels.shape[1] // frames, pixels.shape[3] // unit
    # (B, F', frame, colour, cell row, row, y, cell column, column, x)
    cells = (side, merge, patch)
    split = pixels.reshape(len(pixels), steps, frames, 3, *cells, *cells)
    arranged = split.permute(0, 1, 4, 7, 5, 8, 3, 2, 6, 9)
    return arranged.flatten(6).flatten(0, 5), steps, side


def _spacing(times: Tensor | None, batch: int, steps: int) -> Tensor:
    """Mean seconds between time steps, (B,) float32 on the CPU."""
    if times is None:
        return torch.full((batch,), _DEFAULT_SPACING)
    if times.shape != (batch, steps):
        raise PatchInputError(
            f"frame_times have shape {tuple(times.shape)} for {batch} samples of {steps} time steps; "
            "pass one time for each step, not for each frame of it"
        )
    if steps == 1:
        return torch.full((batch,), _DEFAULT_SPACING)
    spacing = ((times[:, -1] - times[:, 0]) / (steps - 1)).cpu()
    bad = (~(spacing.isfinite() & (spacing >= 0))).nonzero().flatten().tolist()
    if bad:
        raise PatchInputError(
            f"{sample_name(bad[0], None)} has frame_times that are not finite or go backwards; "
            "leave frame_times out where they are not known"
        )
    # float32 because the base multiplies and truncates: 0.9999999999 s must count as 1 s.
    return spacing.float()


def _check_newline(newline: NewlinePosition) -> None:
    if newline != "no_token":
        raise PatchInputError(
            f"newline is '{newline}', but Qwen2.5-VL has no newline tokens; set newline: no_token"
        )
