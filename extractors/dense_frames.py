"""Which frames of a clip the dense tower sees, as the original release chooses them."""

import math

import numpy as np

from extractors.clip_requests import Indices

FRAMES_PER_SECOND = 2
DEFAULT_RATE = 24.0  # frames a second, of clips that do not know theirs


def dense_frame_indices(
    num_decoded: int, fps: float | None, min_frames: int | None = None, chunk: int = 8
) -> Indices:
    """Return the indices of 2 frames a second, (T,) rising, T a multiple of `chunk`.

    T is rounded down, but is at least `chunk`; first and last frame are among them, and frames repeat where a
    clip has fewer. `min_frames` are asked for at least, before rounding. The original takes `fps` from the container's
    header; ours is the header's too, but where packet times contradict it (`extractors.media_info`) theirs, as only
    then two frames a second are two.
    """
    target = (num_decoded / (fps or DEFAULT_RATE)) * FRAMES_PER_SECOND
    if min_frames is not None:
        target = max(target, min_frames)
    chunks = max(math.floor(target / chunk), 1)
    return np.linspace(0, num_decoded - 1, chunk * chunks, dtype=np.int64)
