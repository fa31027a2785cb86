"""From frame tokens to the token sequence of a video: where the newline tokens go.

The base has one learned "newline" vector. The original release places it after every row of every frame
(`grid`), which the patched model needs; the other placements exist in its code.

Shapes: B samples, F frames of n x n tokens, D width of the LLM.
"""

import math

import torch
from torch import Tensor

from pave_model.config import NewlinePosition
from pave_model.errors import PatchInputError


def num_video_tokens(num_frames: int, tokens_per_frame: int, position: NewlinePosition) -> int:
    """Length of a video's token sequence, newlines included.

    Raises `PatchInputError` for `grid` when the tokens of a frame are no square.
    """
    if position == "grid":
        side = _grid_side(tokens_per_frame)
        return num_frames * side * (side + 1)
    if position == "frame":
        return num_frames * (tokens_per_frame + 1)
    return num_frames * tokens_per_frame + (position == "one_token")


def place_newlines(tokens: Tensor, newline: Tensor, position: NewlinePosition) -> Tensor:
    """Frame tokens (B, F, n n, D) and the newline vector (D,) to the sequence (B, N, D).

    N is `num_video_tokens(F, n n, position)`; the result has the dtype of `tokens`. Raises `PatchInputError`
    for `grid` when the tokens of a frame are no square.
    """
    newline = newline.to(tokens.dtype)
    if position == "grid":
        side = _grid_side(tokens.shape[2])
        rows = tokens.reshape(*tokens.shape[:2], side, side, -1)  # (B, F, n, n, D)
        return _append(rows, newline).flatten(1, 3)
    if position == "frame":
        return _append(tokens, newline).flatten(1, 2)
    if position == "one_token":
        return _append(tokens.flatten(1, 2), newline)
    return tokens.flatten(1, 2)


def _append(tokens: Tensor, newline: Tensor) -> Tensor:
    """(..., L, D) and (D,) -> (..., L + 1, D)."""
    return torch.cat([tokens, newline.expand(*tokens.shape[:-2], 1, -1)], dim=-2)


def _grid_side(tokens_per_frame: int) -> int:
    side = math.isqrt(tokens_per_frame)
    if side * side != tokens_per_frame:
        raise PatchInputError(
            f"a frame has {tokens_per_frame} tokens, which is no square grid; "
            "choose the newline placement 'frame'"
        )
    return side
