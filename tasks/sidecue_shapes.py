"""The moving shapes of SideCue's videos, of which the base is asked how many and of which kind they are."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.sidecue_world import FRAME_SIZE, Question

SHAPE_KINDS = ("circle", "square", "triangle", "cross")
SHAPE_COUNTS = (1, 2, 3, 4)
SHAPE_QUESTIONS = {
    "shape_count": Question(("How many shapes are there?", "What is the number of moving shapes?")),
    "shape_kind": Question(("Which shape is moving?", "What kind of shape do you see?")),
}
SWING = 0.05  # how far a shape moves from its start, in frame widths

# One row a shape: start x, start y, velocity x, velocity y, radius, grey level (0-255); lengths in frame widths.
Shapes = tuple[tuple[float, float, float, float, float, int], ...]


def draw_shapes(count: int, rng: np.random.Generator) -> Shapes:
    """Shapes of one size start in different quarters of the frame and drift slowly, so that each stays visible."""
    radius = float(rng.uniform(0.15, 0.18))
    grey = int(rng.choice([20, 235]))
    shapes = []
    for quarter in rng.permutation(4)[:count]:
        x = 0.25 + 0.5 * (int(quarter) % 2) + float(rng.uniform(-0.02, 0.02))
        y = 0.25 + 0.5 * (int(quarter) // 2) + float(rng.uniform(-0.02, 0.02))
        angle = float(rng.uniform(0, 2 * math.pi))
        speed = float(rng.uniform(0.05, 0.15))  # frame widths a second
        shapes.append(
            (
                round(x, 4),
                round(y, 4),
                round(speed * math.cos(angle), 4),
                round(speed * math.sin(angle), 4),
                round(radius, 4),
                grey,
            )
        )
    return tuple(shapes)


def paint_shapes(frames: NDArray[np.uint8], times: NDArray[np.float64], kind: str, shapes: Shapes) -> None:
    """Draw moving shapes into `frames`, (N, FRAME_SIZE, FRAME_SIZE, 3) uint8 at `times`, (N,) seconds."""
    # A shape swings around its start and is drawn within the window that it never leaves: x in columns, y in rows.
    grid = np.arange(FRAME_SIZE, dtype=np.float32) / FRAME_SIZE
    for x, y, velocity_x, velocity_y, radius, grey in shapes:
        reach = radius + SWING
        columns = slice(*np.searchsorted(grid, [x - reach, x + reach]))
        rows = slice(*np.searchsorted(grid, [y - reach, y + reach]))
        centre_x = (x + SWING * np.sin(12 * velocity_x * times)).astype(np.float32)
        centre_y = (y + SWING * np.sin(12 * velocity_y * times)).astype(np.float32)
        dx = grid[None, None, columns] - centre_x[:, None, None]  # (N, 1, columns)
        dy = grid[None, rows, None] - centre_y[:, None, None]  # (N, rows, 1)
        frames[:, rows, columns][inside_shape(kind, dx, dy, radius)] = grey


def inside_shape(
    kind: str, dx: NDArray[np.floating[Any]], dy: NDArray[np.floating[Any]], radius: float
) -> NDArray[np.bool_]:
    """Which points at offset (dx, dy) from the centre lie inside a shape."""
    inside: NDArray[np.bool_]
    if kind == "circle":
        inside = dx**2 + dy**2 < radius**2
    elif kind == "square":
        inside = np.maximum(abs(dx), abs(dy)) < 0.9 * radius
    elif kind == "triangle":
        inside = (abs(dx) < (dy + radius) / 2) & (dy < radius)
    else:  # cross
        arm = 0.35 * radius
        inside = ((abs(dx) < arm) & (abs(dy) < radius)) | ((abs(dy) < arm) & (abs(dx) < radius))
    return inside
