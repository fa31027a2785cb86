"""Depth pictures to points in space, and the points of a tower's patches.

Frames of reference: a camera looks along +z, x to the right, y down; a pose takes camera coordinates to world
coordinates. Everything is in metres.

Letters: V views, R rows, C columns, g patches along a side of a square crop of c pixels.
"""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Matrices: TypeAlias = npt.NDArray[np.floating[Any]]


def back_project(
    depth: npt.NDArray[np.float32], intrinsics: Matrices, poses: Matrices
) -> npt.NDArray[np.float32]:
    """Return the world coordinates of every pixel, computed in float64.

    Pixel (row v, column u) with depth z is the camera's point ((u - cx) z / fx, (v - cy) z / fy, z), where
    the indices count from 0 with no half added; a pose takes it to the world, divided by the fourth
    component. A pixel without depth (z = 0) lands exactly on the camera's centre.

    Args:
        depth: (..., R, C), along the camera's axis.
        intrinsics, poses: (..., 4, 4), with the same leading sizes as `depth` or ones that broadcast.

    Returns (..., R, C, 3) float32.
    """
    rows, columns = depth.shape[-2:]
    return back_project_pixels(depth, np.arange(rows), np.arange(columns), intrinsics, poses)


def back_project_pixels(
    depth: npt.NDArray[np.float32],
    rows: npt.NDArray[np.int64],
    columns: npt.NDArray[np.int64],
    intrinsics: Matrices,
    poses: Matrices,
) -> npt.NDArray[np.float32]:
    """As `back_project`, for the pixels at `rows` (R,) and `columns` (C,) only.

    Args: depth: (..., R, C) of exactly those pixels.
    """
    z = depth.astype(np.float64)
    intrinsics, poses = np.asarray(intrinsics, np.float64), np.asarray(poses, np.float64)
    fx, fy, cx, cy = (intrinsics[..., i, j, None, None] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    x = (columns[None, :] - cx) * z / fx
    y = (rows[:, None] - cy) * z / fy
    camera = np.stack([x, y, z, np.ones_like(z)], axis=-1)  # (..., R, C, 4)
    world = camera @ np.swapaxes(poses, -1, -2)[..., None, :, :]
    points: npt.NDArray[np.float32] = (world[..., :3] / world[..., 3:]).astype(np.float32)
    return points


def patch_pixels(image_size: int, grid: int) -> npt.NDArray[np.int64]:
    """Return the (g,) rows, or columns, whose pixels stand for the patches: the top-left one of each."""
    return np.arange(grid) * image_size // grid
