"""What a media file holds, counted from its packets: headers lie about frames, rates and durations."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av

from extractors.errors import MediaError, MissingTrackError
from extractors.open_clip import OpenClip
from extractors.track_decoder import seconds

MAX_RATE_ERROR = 0.01  # relative difference of the header's frame rate to the packets' times


@dataclass(frozen=True)
class MediaInfo:
    """What a file holds, found by reading its packets without decoding them.

    `duration` is in seconds. `n_frames` counts video packets (0 without video); `fps` (frames per second), `width` and
    `height` (pixels as coded) are None without video or without a decoder for it. `fps` is the header's average
    rate, unless the packets' times contradict it by more than `MAX_RATE_ERROR`.
    """

    duration: float
    fps: float | None
    n_frames: int
    width: int | None
    height: int | None
    audio_streams: int
    container: str


class PacketCount:
    """Counts the packets of a clip's video and audio tracks while they are read."""

    def __init__(self, clip: OpenClip) -> None:
        self._clip = clip
        self._video = clip.video
        self.tracks = [*([clip.video] if clip.video is not None else []), *clip.audio]
        self._count = dict.fromkeys((track.index for track in self.tracks), 0)
        self._first: dict[int, float] = {}
        self._last: dict[int, float] = {}

    def add(self, packet: Any) -> None:
        """Count a packet of one of `tracks`."""
        if packet.is_discard:
            return
        index = packet.stream.index
        self._count[index] += 1
        if packet.pts is not None and packet.time_base is not None:
            base = packet.time_base
            start = seconds(packet.pts, base)
            end = start + seconds(packet.duration or 0, base)
            self._first[index] = min(self._first.get(index, start), start)
            self._last[index] = max(self._last.get(index, end), end)

    def info(self) -> MediaInfo:
        """What has been counted. Raises `MediaError` when that is nothing."""
        clip, video = self._clip, self._video
        if not any(self._count.values()):
            reason = "the file holds no video frames and no sound"
            raise MediaError(clip.sample_id, reason, "remove or replace it")
        n_frames = self._count[video.index] if video is not None else 0
        decoder = video.codec_context if video is not None else None
        fps = None
        if n_frames:
            span = self._last.get(video.index, 0.0) - self._first.get(video.index, 0.0)
            fps = _frame_rate(video, n_frames, span)
        duration = max(self._last.values(), default=0.0) - clip.start
        if duration <= 0.0:  # raw streams carry no times
            duration = n_frames / fps if fps else (clip.container.duration or 0) / av.time_base
        return MediaInfo(
            duration=duration,
            fps=fps,
            n_frames=n_frames,
            width=decoder.width if decoder else None,
            height=decoder.height if decoder else None,
            audio_streams=len(clip.audio),
            container=clip.container.format.name,
        )


def probe(path: Path, sample_id: str) -> MediaInfo:
    """Describe a media file from its packets.

    Raises `MediaError` when the file is missing, empty, no media file, or holds neither video frames nor sound. A file
    without video, or without sound, is fine.
    """
    with OpenClip(path, sample_id) as clip:
        count = PacketCount(clip)
        for packet in clip.packets(count.tracks):
            if packet is not None:
                count.add(packet)
        return count.info()


def check_video(info: MediaInfo, sample_id: str) -> None:
    """Raises `MissingTrackError` for a file without video, `MediaError` for video without frames."""
    if info.n_frames == 0 and info.width is None:
        raise MissingTrackError(sample_id, "no video track", "leave it out or give a file with video")
    if info.n_frames == 0:
        raise MediaError(sample_id, "the video holds no frames", "remove or replace it")


def _frame_rate(track: Any, n_frames: int, span: float) -> float | None:
    """The header's average rate, unless the packets' times, which span `span` seconds, contradict it."""
    measured = n_frames / span if span > 0 else None
    rate = track.average_rate or track.guessed_rate
    if rate and (measured is None or abs(float(rate) / measured - 1) <= MAX_RATE_ERROR):
        return float(rate)
    return measured
