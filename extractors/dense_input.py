"""What the dense tower sees, as the original release does it: which frames of a clip, and their pixels.

Pictures are resized bilinearly without anti-aliasing, so that an output pixel depends on four input pixels only.
These are picked out of the 8-bit picture: the resized whole, of which the middle is kept, is never made. The
places are computed as torch's `interpolate` computes them: a float32 scale, rounded once.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from extractors.clip_requests import Indices, Picture

FRAMES_PER_SECOND = 2
DEFAULT_RATE = 24.0  # frames a second, of clips that do not know theirs
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


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


@dataclass(frozen=True)
class CropGeometry:
    """How a picture becomes a square: resized to `height` x `width`, of which a square from `top`, `left`."""

    height: int
    width: int
    top: int
    left: int


def crop_geometry(height: int, width: int, image_size: int) -> CropGeometry:
    """Resize the short side to `image_size` and crop the centre; halves of a pixel go to the even one."""
    if width < height:
        resized = (math.floor((height / width) * image_size), image_size)
    else:
        resized = (image_size, math.floor((width / height) * image_size))
    top, left = (round((size - image_size) / 2) for size in resized)
    return CropGeometry(*resized, top, left)


def dense_pixels(picture: Picture, image_size: int) -> npt.NDArray[np.float32]:
    """Turn (H, W, 3) uint8 into the tower's (3, image_size, image_size) float32 with CLIP's mean and std."""
    height, width, _ = picture.shape
    rows, upper, lower, down, left, right, across = _places(height, width, image_size)
    numbers = picture.reshape(height, 3 * width).take(rows, axis=0)
    # once for each row that is needed: neighbours share them where a picture is enlarged
    across_rows = numbers.take(left, axis=1) * (1 - across)
    across_rows += numbers.take(right, axis=1) * across
    resized = across_rows.take(upper, axis=0)
    resized *= 1 - down
    below = across_rows.take(lower, axis=0)
    below *= down
    resized += below
    mean, std = (np.tile(np.array(values, np.float32), image_size) for values in (CLIP_MEAN, CLIP_STD))
    resized /= np.float32(255)
    resized -= mean
    resized /= std
    return np.ascontiguousarray(resized.reshape(image_size, image_size, 3).transpose(2, 0, 1))


@lru_cache(maxsize=8)
def _places(height: int, width: int, image_size: int) -> tuple[npt.NDArray[Any], ...]:
    """Where the numbers of a picture's square come from; the same for all pictures of a clip, not to be changed.

    The rows that are needed, rising, and for each row of the square the two of them that it lies between and
    the weight (image_size, 1) of the second; for each number in a row, as `width` pixels of 3, its two and weight.
    """
    geometry = crop_geometry(height, width, image_size)
    upper, lower, down = _neighbours(height, geometry.height, geometry.top, image_size)
    left, right, across = _neighbours(width, geometry.width, geometry.left, image_size)
    # one row of numbers per row of pixels: numpy is slow where the last axis is short
    left, right = (((3 * columns)[:, None] + np.arange(3)).ravel() for columns in (left, right))
    rows, place = np.unique(np.concatenate([upper, lower]), return_inverse=True)
    return rows, place[:image_size], place[image_size:], down[:, None], left, right, across.repeat(3)


def _neighbours(
    size: int, resized: int, first: int, count: int
) -> tuple[Indices, Indices, npt.NDArray[np.float32]]:
    """For `count` pixels from `first` of a side resized from `size` to `resized`: the two pixels that each
    lies between, and the weight of the second."""
    scale = np.float64(np.float32(size) / np.float32(resized))
    places = (scale * (np.arange(first, first + count) + 0.5) - 0.5).astype(np.float32).clip(0, size - 1)
    before = places.astype(np.int64)
    return before, np.minimum(before + 1, size - 1), places - before.astype(np.float32)
