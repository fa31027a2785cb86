"""Casts the rays of a pinhole camera into a room of flat walls with balls in it, in closed form.

The world is in metres, z is up. A camera looks along its z axis, its x axis points to the right of the picture and its
y axis down, as in ScanNet's poses.

Letters: H, W height and width of a picture in pixels, B balls.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Hits:
    """What the rays of a picture hit first.

    Attributes:
        depth: (H, W) metres along the camera's axis, not along the ray.
        surface: (H, W) 0 to 5 for the walls (x low, x high, y low, y high, floor, ceiling), 6 + b for ball b.
    """

    depth: NDArray[np.float64]
    surface: NDArray[np.int64]


def camera_pose(position: NDArray[np.float64], yaw: float) -> NDArray[np.float64]:
    """The pose (4, 4), camera to world, of a level camera; `yaw` in radians turns it left from the x axis."""
    forward = np.array([np.cos(yaw), np.sin(yaw), 0.0])
    right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2], pose[:3, 3] = right, (0.0, 0.0, -1.0), forward, position
    return pose


def cast(
    pose: NDArray[np.float64],
    focal: float,
    size: tuple[int, int],
    room: NDArray[np.float64],
    balls: NDArray[np.float64],
) -> Hits:
    """Cast a ray through the centre of each pixel.

    Args:
        pose: (4, 4), camera to world.
        focal: length in pixels; the principal point is the picture's middle.
        size: (H, W).
        room: (3, 2) low and high of x, y and z; the camera is inside.
        balls: (B, 4) x, y, z and radius; the camera is in none.
    """
    height, width = size
    columns = (np.arange(width) + 0.5 - width / 2) / focal
    rows = (np.arange(height) + 0.5 - height / 2) / focal
    in_camera = np.stack(np.broadcast_arrays(columns[None], rows[:, None], 1.0), axis=-1)  # (H, W, 3), z = 1
    rays = in_camera @ pose[:3, :3].T
    origin = pose[:3, 3]
    # as z is 1 in the camera, the length in units of a ray is the depth
    with np.errstate(divide="ignore"):
        walls = (room.T - origin)[:, None, None] / rays  # (2, H, W, 3)
    ahead = np.where(walls > 0, walls, np.inf).transpose(1, 2, 3, 0).reshape(height, width, 6)
    surface = ahead.argmin(axis=-1)
    depth = ahead.min(axis=-1)
    squared = (rays**2).sum(axis=-1)
    for number, (*centre, radius) in enumerate(balls):
        offset = np.array(centre) - origin
        along = rays @ offset
        discriminant = along**2 - squared * (offset @ offset - radius**2)
        hit = (along - np.sqrt(np.maximum(discriminant, 0))) / squared
        nearer = (discriminant > 0) & (hit > 0) & (hit < depth)
        depth = np.where(nearer, hit, depth)
        surface = np.where(nearer, 6 + number, surface)
    return Hits(depth, surface)
