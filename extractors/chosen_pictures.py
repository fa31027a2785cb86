"""The pictures of one request, made while the video is decoded."""

from collections.abc import Sequence
from typing import Any, Generic

import numpy as np
import numpy.typing as npt

from extractors.clip_requests import ChosenFrames, Indices, Made, Picture, PictureRequest
from extractors.media_info import MediaInfo


class ChosenPictures(Generic[Made]):
    """Which pictures a request wants of a clip, and what has been made of them. `choose` comes first."""

    def __init__(self, request: PictureRequest[Made, Any], info: MediaInfo) -> None:
        self._request = request
        self._info = info
        self._indices: Indices = np.empty(0, np.int64)
        self._wanted: set[int] = set()
        self._made: dict[int, Made] = {}

    def choose(self, num_frames: int) -> None:
        """Choose among `num_frames`; what has been made of other frames is dropped. Raises what the request does."""
        self._indices = self._request.choose(num_frames, self._info.fps)
        self._wanted = set(self._indices.tolist()) if self._held else set()
        self._made = {index: made for index, made in self._made.items() if index in self._wanted}

    @property
    def complete(self) -> bool:
        """Whether no wanted picture is missing."""
        return self._made.keys() == self._wanted

    def wants(self, index: int) -> bool:
        """Whether the picture of a frame is wanted and has not been made."""
        return index in self._wanted and index not in self._made

    def add(self, index: int, picture: Picture) -> None:
        """Make of a wanted picture what the request makes of it. Raises what the request does."""
        self._made[index] = self._request.each(picture)

    def forget(self) -> None:
        """Drop everything that has been made: the pictures were not those of the first reading."""
        self._made.clear()

    def found(self, times: Sequence[float]) -> ChosenFrames[Made]:
        """The chosen frames of a clip whose decoded frames have these seconds."""
        frames = [self._made[index] for index in self._indices.tolist()] if self._held else []
        seconds = _times_of(self._indices, times, self._info.fps)
        return ChosenFrames(frames, self._indices, seconds, self._info.fps, len(times), self._info.duration)

    @property
    def _held(self) -> bool:
        return self._request.most is None or len(self._indices) <= self._request.most


def _times_of(indices: Indices, times: Sequence[float], fps: float | None) -> npt.NDArray[np.float64]:
    """The seconds of chosen frames, given those of all frames; by the rate where the file's are unusable."""
    timestamps = np.array(times, dtype=np.float64)[indices]
    if np.isnan(timestamps).any() or np.any(np.diff(timestamps) < 0):
        timestamps = indices / fps if fps else np.full(len(indices), np.nan)
    return timestamps
