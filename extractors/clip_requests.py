"""What a channel wants of a clip: its sound, or some of its pictures, and what is made of them.

Requests of several channels for one clip are read together (`extractors.clip_reader`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

Picture: TypeAlias = npt.NDArray[np.uint8]  # (height, width, 3) RGB
Indices: TypeAlias = npt.NDArray[np.int64]
Waveform: TypeAlias = npt.NDArray[np.float32]  # (channels, n) in [-1, 1]
Made = TypeVar("Made")  # out of a picture
Result = TypeVar("Result")  # out of all that a request gets


@dataclass(frozen=True)
class SoundRequest(Generic[Result]):
    """A whole audio track, all channels at the native rate.

    `stream` counts the file's audio tracks from 0. `make` gets the waveform and its samples per second.
    """

    stream: int
    make: Callable[[Waveform, int], Result]


@dataclass(frozen=True)
class ChosenFrames(Generic[Made]):
    """Chosen frames of a clip.

    Attributes:
        frames: what was made of F pictures; empty when they were more than the request holds (not `held`).
        indices: (F,) rising, among the decoded frames.
        timestamps: (F,) seconds from the clip's start, NaN when the file knows no times.
        fps: frames per second, None when nothing is known of them.
        n_frames: decoded frames of the clip.
        duration: seconds.
    """

    frames: list[Made]
    indices: Indices
    timestamps: npt.NDArray[np.float64]
    fps: float | None
    n_frames: int
    duration: float

    @property
    def held(self) -> bool:
        """Whether the pictures are here, not only their places and times."""
        return len(self.frames) == len(self.indices)


@dataclass(frozen=True)
class PictureRequest(Generic[Made, Result]):
    """Some pictures of a clip's video.

    `choose`: number of frames and frames per second -> rising indices, which may repeat. It is called again when
    decoding gives another number of frames than there are packets. `each` is applied to a chosen picture as soon
    as it is decoded, for example to shrink it; other requests see the same array, so it must not be changed.
    `finish` gets everything. When `choose` gives more than `most` frames none is made: only their times are found.
    """

    choose: Callable[[int, float | None], Indices]
    each: Callable[[Picture], Made]
    finish: Callable[[ChosenFrames[Made]], Result]
    most: int | None = None


ClipRequest: TypeAlias = SoundRequest[Result] | PictureRequest[Any, Result]
