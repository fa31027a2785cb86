"""Rotary positions in time, row and column for queries and keys of the patch (an option of the release).

Channel pair (j, j + 64) of a head is rotated by the angle p w_j with w_j = 10000^(-2j/128): p is the time
coordinate for j < 16, the row for 16 <= j < 40, the column for 40 <= j < 64 (16 + 24 + 24 pairs, so a head
has 128 channels). Values are never rotated.

Coordinates are whole numbers. Time: side-channel step t has t, and key frame i of F has `linspace(0, T - 1, F)[i]`
cut off. Space: the common grid has side m = sqrt(max(S, S_k)), and n cells of a side have the cut-off centres
`linspace(0, m, 2n + 1)[1::2]`. NumPy's linspace decides the rounding, as in the release.

Shapes: B samples, F key frames, M slots of a chunk, S and S_k tokens of a key frame and of a step, h heads,
P = B F key frames of the batch, L tokens.
"""

import math

import numpy as np
import torch
from torch import Tensor

from pave_model.errors import PatchInputError

HEAD_DIM = 128
_NUM_PAIRS = [16, 24, 24]  # time, row, column

Rotation = tuple[Tensor, Tensor]  # cosines and sines, (P, L, 64) each


def rotations(
    step: Tensor, last_step: Tensor, num_frames: int, num_query_tokens: int, num_side_tokens: int
) -> tuple[Rotation, Rotation]:
    """Rotations of the queries (P, S, 64) and of the keys (P, M S_k, 64), float32 on the device of `step`.

    `step` (B, F, M) int64: position in time of every slot; `last_step` (B,) int64: T - 1 of every sample.
    Raises `PatchInputError` where S or S_k is no square.
    """
    sides = [_side(number) for number in (num_query_tokens, num_side_tokens)]
    query_cells, side_cells = (_cells(side, max(sides)).to(step.device) for side in sides)  # (S, 2), (S_k, 2)
    stops = last_step.cpu().numpy()
    frame_time = torch.from_numpy(np.linspace(0, stops, num_frames, axis=-1, dtype=np.int64)).to(step.device)
    return (
        _rotation(frame_time.flatten()[:, None], query_cells),
        _rotation(step.flatten(0, 1), side_cells),
    )


def rotate(tokens: Tensor, rotation: Rotation) -> Tensor:
    """Rotate (P, h, L, 128) by the angles of its tokens."""
    cosine, sine = (part[:, None].to(tokens.dtype) for part in rotation)  # (P, 1, L, 64)
    first, second = tokens.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)


def _rotation(times: Tensor, cells: Tensor) -> Rotation:
    """Times (P, M) and cells (S, 2) -> cosines and sines of the M S tokens, (P, M S, 64)."""
    pairs = torch.arange(HEAD_DIM // 2, dtype=torch.float64, device=times.device)
    frequencies = 10000 ** (-2 * pairs / HEAD_DIM)
    time, row, column = torch.split(frequencies, _NUM_PAIRS)
    in_time = times[:, :, None, None] * time  # (P, M, 1, 16)
    in_space = torch.cat([cells[:, :1] * row, cells[:, 1:] * column], dim=1)  # (S, 48)
    shape = (*times.shape, len(cells))
    angles = torch.cat([in_time.expand(*shape, -1), in_space.expand(*shape, -1)], dim=-1).flatten(1, 2)
    return angles.cos().float(), angles.sin().float()


def _cells(side: int, grid_side: int) -> Tensor:
    """Row and column of every cell, row by row: (side * side, 2) int64."""
    centres = torch.from_numpy(np.linspace(0, grid_side, 2 * side + 1, dtype=np.int64)[1::2])
    return torch.cartesian_prod(centres, centres)


def _side(num_tokens: int) -> int:
    side = math.isqrt(num_tokens)
    if side * side != num_tokens:
        raise PatchInputError(f"{num_tokens} tokens are no square grid; rotary positions need one")
    return side
