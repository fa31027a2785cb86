"""Decoding the packets of one track: what a damaged file still gives is used, within a limit."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av.error
import numpy as np
from av.video.reformatter import VideoReformatter

from extractors.clip_requests import Picture
from extractors.errors import MediaError
from extractors.heartbeat import beat

MAX_BROKEN = 0.1  # share of packets
MAX_PIXELS = 2**26  # of a picture: more than 8K video has, 200 MB as RGB
REENCODE = "convert it with: ffmpeg -i IN -c:v libx264 -c:a aac OUT.mp4"


class TrackDecoder:
    """Packets of one track to frames; with `threads` FFmpeg uses all cores, the frames are the same.

    Raises `MediaError` without a decoder for the track, and for pictures of more than `MAX_PIXELS`.
    """

    def __init__(self, track: Any, sample_id: str, threads: bool = False) -> None:
        self._track = track
        self._sample_id = sample_id
        self._total = self._broken = 0
        self._reformatter = VideoReformatter()  # one for all frames: it takes longer to set up than to use
        context = track.codec_context
        if context is None:
            raise MediaError(sample_id, f"FFmpeg has no decoder for the {track.type} track", REENCODE)
        if track.type == "video":
            check_size(context.width, context.height, sample_id)
        if not context.is_open:  # it stays so when the video is decoded again
            # samples are decoded in parallel, one thread each
            context.thread_type = "AUTO" if threads else "NONE"
            if track.type == "video":  # the size may change on the way
                context.options = {**context.options, "max_pixels": str(MAX_PIXELS)}

    def frames(self, packet: Any) -> Iterator[Any]:
        """Yield the frames that a packet completes; None is a place that could not be read."""
        self._total += 1
        yield from self._decoded(packet) if packet is not None else self._nothing()

    def rest(self) -> Iterator[Any]:
        """Yield the frames that the decoder still holds; raises `MediaError` when too many packets were broken."""
        yield from self._decoded(None)
        if self._broken > MAX_BROKEN * self._total:
            reason = f"{self._broken} of {self._total} {self._track.type} packets cannot be decoded"
            raise MediaError(self._sample_id, reason, REENCODE)

    def upright(self, frame: Any) -> Picture:
        """The picture of a frame, turned as the file says. Raises `MediaError` for one that is too large."""
        check_size(frame.width, frame.height, self._sample_id)
        rgb = self._reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
        return np.ascontiguousarray(np.rot90(rgb, k=round(frame.rotation / 90)))

    def _decoded(self, packet: Any) -> Iterator[Any]:
        try:
            frames = self._track.decode(packet)
        except av.error.FFmpegError:
            frames = self._nothing()
        for frame in frames:
            beat()
            yield frame

    def _nothing(self) -> list[Any]:
        self._broken += 1
        return []


def check_size(width: int, height: int, sample_id: str) -> None:
    """Raises `MediaError` for pictures that have more than `MAX_PIXELS`."""
    if width * height > MAX_PIXELS:
        reason = f"pictures of {width} x {height} pixels are more than can be held"
        raise MediaError(sample_id, reason, "give a smaller video, or repair the file's header")


def seconds(ticks: int, time_base: Fraction) -> float:
    """`ticks` of `time_base`, correctly rounded as `float(ticks * time_base)` is, which takes twenty times as long."""
    return ticks * time_base.numerator / time_base.denominator


def seconds_of(frame: Any, track: Any, start: float) -> float:
    """The seconds of a decoded frame from the clip's start; NaN when it has no time."""
    # not frame.time, which is missing in the last frames that a decoder gives
    known = frame.pts is not None and track.time_base is not None
    return seconds(frame.pts, track.time_base) - start if known else np.nan
