"""How a clip of SideCue looks and sounds, and its file."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.sidecue_world import (
    BORDER_WIDTH,
    COLOURS,
    FPS,
    FRAME_SIZE,
    SAMPLE_RATE,
    SWING,
    TONE_HARMONICS,
    TONE_SECONDS,
    Clip,
)


def render_frames(clip: Clip) -> NDArray[np.uint8]:
    """The clip's pictures, ``(seconds * FPS, FRAME_SIZE, FRAME_SIZE, 3)`` uint8 RGB."""
    num_frames = clip.seconds * FPS
    times = np.arange(num_frames) / FPS
    segment_of_frame = np.searchsorted(np.array(clip.segment_ends), times, side="right")
    palette = np.array([COLOURS[colour] for colour in clip.segment_colours], dtype=np.uint8)
    frames = np.empty((num_frames, FRAME_SIZE, FRAME_SIZE, 3), dtype=np.uint8)
    frames[:] = palette[segment_of_frame.clip(max=len(palette) - 1)][:, None, None, :]
    # A shape swings around its start and is drawn within the window that it never leaves: x in columns, y in rows.
    grid = np.arange(FRAME_SIZE, dtype=np.float32) / FRAME_SIZE
    for x, y, velocity_x, velocity_y, radius, grey in clip.shapes:
        reach = radius + SWING
        columns = slice(*np.searchsorted(grid, [x - reach, x + reach]))
        rows = slice(*np.searchsorted(grid, [y - reach, y + reach]))
        centre_x = (x + SWING * np.sin(12 * velocity_x * times)).astype(np.float32)
        centre_y = (y + SWING * np.sin(12 * velocity_y * times)).astype(np.float32)
        dx = grid[None, None, columns] - centre_x[:, None, None]  # (N, 1, columns)
        dy = grid[None, rows, None] - centre_y[:, None, None]  # (N, rows, 1)
        frames[:, rows, columns][_inside(clip.shape_kind, dx, dy, radius)] = grey
    in_border = np.ones((FRAME_SIZE, FRAME_SIZE), dtype=np.bool_)
    in_border[BORDER_WIDTH:-BORDER_WIDTH, BORDER_WIDTH:-BORDER_WIDTH] = False
    shows_border = times.astype(int) == clip.border_second
    frames[shows_border[:, None, None] & in_border] = 255
    return frames


def _inside(
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


def render_sound(clip: Clip) -> NDArray[np.float32]:
    """The soundtrack, ``(seconds * SAMPLE_RATE,)`` float32 in [-1, 1]: quiet noise and one faded tone.

    The tone is a buzz (a fundamental and its harmonics), so that it stands out in many mel bins.
    """
    rng = np.random.default_rng(clip.sound_seed)
    sound = rng.normal(0, 0.001, clip.seconds * SAMPLE_RATE)
    start, length = int(clip.tone_time * SAMPLE_RATE), int(TONE_SECONDS * SAMPLE_RATE)
    time = np.arange(length) / SAMPLE_RATE
    fade = np.minimum(1, np.minimum(time, TONE_SECONDS - time) / 0.02)
    order = np.arange(1, TONE_HARMONICS + 1)[:, None]
    tone = (np.sin(2 * math.pi * clip.tone_hertz * order * time + order) / np.sqrt(order)).sum(axis=0)
    sound[start : start + length] += 0.4 * fade * tone / np.abs(tone).max()
    return sound.astype(np.float32)


def write_video(path: Path, frames: NDArray[np.uint8], sound: NDArray[np.float32]) -> None:
    """Write an mp4 with H.264 video and mono AAC sound. One encoder thread, so that the bytes are repeatable.

    ``frames``: (N, H, W, 3) uint8 at `FPS`; ``sound``: (n,) float32 at `SAMPLE_RATE`.
    """
    import av

    temporary = path.with_name(f".{path.name}.part")
    with av.open(str(temporary), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        video = container.add_stream(
            "libx264", rate=FPS, options={"preset": "ultrafast", "crf": "20", "threads": "1"}
        )
        video.width, video.height, video.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        audio = container.add_stream(
            "aac", rate=SAMPLE_RATE, layout="mono", options={"b": "64k", "aac_coder": "fast"}
        )
        for picture in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode())
        block = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
        block.sample_rate = SAMPLE_RATE
        container.mux(audio.encode(block))
        container.mux(audio.encode())
    os.replace(temporary, path)
