"""An open media file: its tracks, its packets, and how it is read again from the start.

Rules:
- Pictures attached to sound (cover art) are not video.
- Every failure is a `MediaError` with a reason for people; FFmpeg stays silent.
- Read again means the same packets: where a container cannot go back exactly, the file is opened again.
"""

import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import av
import av.error
import av.stream

from extractors.errors import MediaError
from extractors.heartbeat import beat

_NOT_A_MOVIE = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails


class NotRewoundError(Exception):
    """The container went back to the start, but then gave other packets; `OpenClip.reopen` helps."""


class PacketTrace:
    """What the packets of a track were, to know them again: the first, and a digest of all."""

    def __init__(self) -> None:
        self.first: tuple[int | None, int | None, int] | None = None
        self.digest = 0

    def add(self, packet: Any) -> None:
        """Note the next packet."""
        key = _key(packet)
        self.first = self.first or key
        self.digest = hash((self.digest, key))


class OpenClip:
    """A media file open for reading; use it in a `with` block.

    `video` is the first track of real video or None, `audio` all audio tracks, `start` the seconds at which the clip
    starts on its tracks' clocks. Raises `MediaError` saying why the file cannot be opened.
    """

    def __init__(self, path: Path, sample_id: str) -> None:
        self.path = path
        self.sample_id = sample_id
        self.container: Any = _open(path, sample_id)
        self._find_tracks()
        self._check_index()

    def __enter__(self) -> "OpenClip":
        return self

    def __exit__(self, *_: object) -> None:
        self.container.close()

    def reopen(self) -> None:
        """Open the file anew: the tracks are other objects. Raises `MediaError`."""
        self.container.close()
        self.container = _open(self.path, self.sample_id)
        self._find_tracks()

    def packets(self, tracks: list[Any]) -> Iterator[Any]:
        """Yield the packets of `tracks`, and None for each place where the data cannot be read on."""
        packets = self.container.demux(tracks)
        while True:
            try:
                packet = next(packets)
            except (StopIteration, IndexError):  # PyAV's index error: a damaged file showed a new stream
                return
            except av.error.FFmpegError:
                yield None
                return
            beat()
            if packet.size > 0:  # the rest only flush decoders
                yield packet

    def video_again(self, trace: PacketTrace, reopened: bool = False) -> Iterator[Any]:
        """Go back to the start and return the packets of the video, which have been read before.

        Opens the file again where it cannot go back (it is there already if it was just `reopened`): the tracks are
        other objects then. The packets end in a `NotRewoundError` when they were others than those of `trace`.
        """
        packets = self.packets([self.video]) if reopened else self._rewound(trace)
        return _like(trace, packets)

    def _rewound(self, trace: PacketTrace) -> Iterator[Any]:
        ways: list[tuple[int, dict[str, Any]]] = [
            (self.video.start_time or 0, {"stream": self.video}),
            (
                self.video.start_time or 0,
                {"stream": self.video, "any_frame": True},
            ),  # no key frame at the start
            (0, {"unsupported_byte_offset": True}),  # for those without an index, such as swf
        ]
        for place, way in ways:
            try:
                self.container.seek(place, **way)
            except av.error.FFmpegError:
                continue
            packets = self.packets([self.video])
            packet = next(packets, None)
            if packet is not None and _key(packet) == trace.first:
                return chain([packet], packets)
        self.reopen()
        return self.packets([self.video])

    def _check_index(self) -> None:
        """An index of millions of packets that are not there keeps FFmpeg busy for minutes when it goes back."""
        size = self.path.stat().st_size
        for track in self.container.streams:
            if len(track.index_entries) > size:
                self.container.close()
                reason = f"its index names {len(track.index_entries):,} packets in a file of {size:,} bytes"
                raise MediaError(self.sample_id, reason, "the header is damaged; copy or download it again")

    def _find_tracks(self) -> None:
        tracks = self.container.streams
        self.video: Any = next((each for each in tracks.video if not each.disposition & _NOT_A_MOVIE), None)
        self.audio: list[Any] = list(tracks.audio)
        self.start = (self.container.start_time or 0) / int(av.time_base)


def _key(packet: Any) -> tuple[int | None, int | None, int]:
    return packet.pts, packet.dts, packet.size


def _like(trace: PacketTrace, packets: Iterator[Any]) -> Iterator[Any]:
    found = PacketTrace()
    for packet in packets:
        if packet is not None:
            found.add(packet)
        yield packet
    if found.digest != trace.digest:
        raise NotRewoundError


def _open(path: Path, sample_id: str) -> Any:
    if not path.is_file():
        reason = "the path is a folder" if path.is_dir() else "the file does not exist"
        raise MediaError(sample_id, f"{reason} ({path})", "check the path in the manifest")
    if path.stat().st_size == 0:
        raise MediaError(sample_id, "the file is empty (0 bytes)", "copy or download it again")
    try:
        # an absolute path is never mistaken for a protocol; tags in old encodings must not stop the reading
        container: Any = av.open(os.path.abspath(path), metadata_errors="replace")
    except av.error.EOFError as error:
        reason = "the file ends before any video frame or sound"
        raise MediaError(sample_id, reason, "remove it, or copy or download it again") from error
    except av.error.FFmpegError as error:
        reason = f"not a media file that FFmpeg can open ({error.strerror})"
        raise MediaError(sample_id, reason, "remove it, or copy or download it again") from error
    if container.format.name == "tty":  # FFmpeg draws text files as video
        container.close()
        raise MediaError(sample_id, "not a media file but text", "remove it")
    return container
