"""Key frames: pictures evenly over a clip."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np

from extractors.clip_reader import read_one
from extractors.clip_requests import ChosenFrames, Indices, Picture, PictureRequest, Result

KeyFrames: TypeAlias = ChosenFrames[Picture]


def key_frame_indices(num_decoded: int, num_frames: int) -> Indices:
    """Return (num_frames,) indices evenly over `num_decoded` frames, first and last included; they repeat
    when there are fewer frames than asked for. The truncated float64 ramp is the original release's rule."""
    return np.linspace(0, num_decoded - 1, num_frames, dtype=np.int64)


def key_frame_request(
    num_frames: int, each: Callable[[Picture], Picture], finish: Callable[[KeyFrames], Result]
) -> PictureRequest[Picture, Result]:
    """Ask for `num_frames` pictures evenly over the frames that a clip really has (`key_frame_indices`)."""
    return PictureRequest(lambda found, fps: key_frame_indices(found, num_frames), each, finish)


def read_key_frames(
    path: Path,
    sample_id: str,
    num_frames: int,
    each: Callable[[Picture], Picture] = lambda picture: picture,
) -> KeyFrames:
    """Read the key frames of one clip; `each` is applied to each picture as soon as it is decoded.

    Every frame is decoded in order, so memory holds the chosen pictures only. Pictures are turned upright as the
    file says. Raises `MissingTrackError` without video, `MediaError` for files that cannot be read or decoded.
    """
    return read_one(path, sample_id, key_frame_request(num_frames, each, lambda found: found))
