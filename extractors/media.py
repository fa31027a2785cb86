"""Reading sound and key frames out of media files with PyAV (FFmpeg).

Rules:
- Headers lie: frames and durations are counted from packets and decoded frames.
- Pictures attached to sound (cover art) are not video.
- What a damaged file still gives is used, unless more than `MAX_BROKEN` of its packets cannot be decoded.
- Every failure is a `MediaError` with a reason for people; files are always closed; FFmpeg stays silent.
"""

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

import av
import av.audio.frame
import av.error
import av.stream
import numpy as np
import numpy.typing as npt

from extractors.errors import MediaError, MissingTrackError

Picture: TypeAlias = npt.NDArray[np.uint8]  # (height, width, 3) RGB
Indices: TypeAlias = npt.NDArray[np.int64]
Made = TypeVar("Made")  # out of a picture

MAX_BROKEN = 0.1  # share of packets
MAX_PIXELS = 2**26  # of a picture; 8K has half of it
MAX_RATE_ERROR = 0.01  # relative difference of the header's frame rate to the packets' times
REENCODE = "convert it with: ffmpeg -i IN -c:v libx264 -c:a aac OUT.mp4"
_NOT_A_MOVIE = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails


@dataclass(frozen=True)
class MediaInfo:
    """What a file holds, found by reading its packets without decoding them.

    `duration` is in seconds. `n_frames` counts video packets (0 without video); `fps` (frames per second),
    `width` and `height` (pixels as coded) are None without video or without a decoder for it.
    """

    duration: float
    fps: float | None
    n_frames: int
    width: int | None
    height: int | None
    audio_streams: int
    container: str


@dataclass(frozen=True)
class ChosenFrames(Generic[Made]):
    """Chosen frames of a clip: `frames` (what was made of F pictures), `timestamps` (F,) in seconds from the
    clip's start (NaN when the file knows no times), and the clip's rate, decoded frame count and duration in
    seconds."""

    frames: list[Made]
    timestamps: npt.NDArray[np.float64]
    fps: float | None
    n_frames: int
    duration: float


KeyFrames: TypeAlias = ChosenFrames[Picture]


def key_frame_indices(num_decoded: int, num_frames: int) -> Indices:
    """Return (num_frames,) indices evenly over `num_decoded` frames, first and last included; they repeat
    when there are fewer frames than asked for. The truncated float64 ramp is the original release's rule."""
    return np.linspace(0, num_decoded - 1, num_frames, dtype=np.int64)


def probe(path: Path, sample_id: str) -> MediaInfo:
    """Describe a media file from its packets.

    Raises `MediaError` when the file is missing, empty, no media file, or holds neither video frames nor
    sound. A file without video, or without sound, is fine.
    """
    with _opened(path, sample_id) as container:
        video = _video_streams(container)
        counted = [*video[:1], *container.streams.audio]
        count = dict.fromkeys((stream.index for stream in counted), 0)
        first: dict[int, float] = {}
        last: dict[int, float] = {}
        for packet in _packets(container, counted):
            if packet is None or packet.is_discard:
                continue
            index = packet.stream.index
            count[index] += 1
            if packet.pts is not None and packet.time_base is not None:
                start = float(packet.pts * packet.time_base)
                end = start + float((packet.duration or 0) * packet.time_base)
                first[index] = min(first.get(index, start), start)
                last[index] = max(last.get(index, end), end)
        if not any(count.values()):
            raise MediaError(sample_id, "the file holds no video frames and no sound", "remove or replace it")

        n_frames = count[video[0].index] if video else 0
        decoder = video[0].codec_context if video else None
        fps = None
        if n_frames:
            span = last.get(video[0].index, 0.0) - first.get(video[0].index, 0.0)
            fps = _frame_rate(video[0], n_frames, span)
        duration = max(last.values(), default=0.0) - _start_time(container)
        if duration <= 0.0:  # raw streams carry no times
            duration = n_frames / fps if fps else (container.duration or 0) / av.time_base
        return MediaInfo(
            duration=duration,
            fps=fps,
            n_frames=n_frames,
            width=decoder.width if decoder else None,
            height=decoder.height if decoder else None,
            audio_streams=len(container.streams.audio),
            container=container.format.name,
        )


def read_audio(path: Path, sample_id: str, stream: int = 0) -> tuple[npt.NDArray[np.float32], int]:
    """Decode a whole audio stream: ((channels, n) float32 in [-1, 1], samples per second).

    All channels, native rate. Raises `MissingTrackError` without that stream, and `MediaError` for files
    that cannot be read or decoded or change their rate or channels on the way.
    """
    with _opened(path, sample_id) as container:
        tracks = container.streams.audio
        if not tracks:
            raise MissingTrackError(sample_id, "no audio track", "leave it out or give a file with sound")
        if stream >= len(tracks):
            found = f"no audio track {stream}, the file has {len(tracks)}"
            raise MissingTrackError(sample_id, found, "count the tracks from 0")
        pieces: list[npt.NDArray[np.float32]] = []
        layout = None
        for frame in _decoded(container, tracks[stream], sample_id):
            if frame.format.name not in av.audio.frame.format_dtypes:
                raise MediaError(sample_id, f"sound samples of the type {frame.format.name}", REENCODE)
            pieces.append(_float_samples(frame))
            layout = layout or (frame.sample_rate, len(pieces[0]))
            if layout != (frame.sample_rate, len(pieces[-1])):
                reason = f"the sound changes from {layout[0]} Hz, {layout[1]} channels on the way"
                raise MediaError(sample_id, reason, REENCODE)
    if layout is None or sum(piece.shape[1] for piece in pieces) == 0:
        raise MediaError(sample_id, "the audio track holds no sound", "leave it out or replace the file")
    waveform = np.concatenate(pieces, axis=1)
    if not np.isfinite(waveform).all():
        raise MediaError(sample_id, "the sound holds numbers that are not finite", REENCODE)
    # lossy codecs overshoot full scale a little
    return np.clip(waveform, -1.0, 1.0, out=waveform), layout[0]


def video_info(path: Path, sample_id: str) -> MediaInfo:
    """Describe a file that is to give pictures. Raises what `probe` raises, and `MissingTrackError` without
    video."""
    info = probe(path, sample_id)
    if info.n_frames == 0 and info.width is None:
        raise MissingTrackError(sample_id, "no video track", "leave it out or give a file with video")
    if info.n_frames == 0:
        raise MediaError(sample_id, "the video holds no frames", "remove or replace it")
    return info


def read_key_frames(
    path: Path,
    sample_id: str,
    num_frames: int,
    each: Callable[[Picture], Picture] = lambda picture: picture,
) -> KeyFrames:
    """Decode `num_frames` pictures evenly over the frames that a clip really has (`key_frame_indices`).

    As `read_frames`; raises what `video_info` and `read_frames` raise.
    """
    info = video_info(path, sample_id)
    return read_frames(path, sample_id, info, lambda found: key_frame_indices(found, num_frames), each)


def read_frames(
    path: Path,
    sample_id: str,
    info: MediaInfo,
    choose: Callable[[int], Indices],
    each: Callable[[Picture], Made],
) -> ChosenFrames[Made]:
    """Decode the pictures that `choose` wants: number of frames -> rising indices, which may repeat.

    Every frame is decoded in order, so memory holds the chosen pictures only; `each` is applied to each of
    them as soon as it is decoded, for example to shrink it. Pictures are turned upright as the file says.

    Args: info: the `video_info` of the file.

    Raises `MediaError` for files that cannot be read or decoded.
    """
    indices = choose(info.n_frames)
    pictures, times = _pick_frames(path, sample_id, set(indices.tolist()), each)
    if len(times) != info.n_frames:  # a packet may give no picture, or two: choose again among the real ones
        indices = choose(len(times))
        pictures, times = _pick_frames(path, sample_id, set(indices.tolist()), each)
    frames = [pictures[index] for index in indices.tolist()]
    timestamps = times_of(indices, times, info.fps)
    return ChosenFrames(frames, timestamps, info.fps, len(times), info.duration)


def times_of(indices: Indices, times: Sequence[float], fps: float | None) -> npt.NDArray[np.float64]:
    """The seconds of chosen frames, given those of all frames; by the rate where the file's are unusable."""
    timestamps = np.array(times, dtype=np.float64)[indices]
    if np.isnan(timestamps).any() or np.any(np.diff(timestamps) < 0):
        timestamps = indices / fps if fps else np.full(len(indices), np.nan)
    return timestamps


def decoded_frames(
    path: Path, sample_id: str, threads: bool = False
) -> Generator[tuple[Any, float], None, None]:
    """Decode a whole video: each frame and its seconds from the clip's start (NaN when it has no time).

    The file is closed with the generator. With `threads` FFmpeg uses all cores; the pictures are the same.
    Raises `MediaError` for files that cannot be read or decoded, after the last frame when too many packets
    were broken.
    """
    empty = True
    with _opened(path, sample_id) as container:
        start, stream = _start_time(container), _video_streams(container)[0]
        for frame in _decoded(container, stream, sample_id, threads):
            empty = False
            # not frame.time, which is missing in the last frames that a decoder gives
            known = frame.pts is not None and stream.time_base is not None
            yield frame, float(frame.pts * stream.time_base) - start if known else np.nan
    if empty:
        raise MediaError(sample_id, "no frame of the video can be decoded", REENCODE)


def upright(frame: Any) -> Picture:
    """The picture of a decoded frame, turned as the file says."""
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), k=round(frame.rotation / 90)))


def _pick_frames(
    path: Path, sample_id: str, wanted: set[int], each: Callable[[Picture], Made]
) -> tuple[dict[int, Made], list[float]]:
    """Decode the whole video: what `each` makes of the wanted pictures, by index; the seconds of all frames."""
    pictures: dict[int, Made] = {}
    times: list[float] = []
    with closing(decoded_frames(path, sample_id)) as frames:
        for index, (frame, seconds) in enumerate(frames):
            times.append(seconds)
            if index in wanted:
                pictures[index] = each(upright(frame))
    return pictures, times


@contextmanager
def _opened(path: Path, sample_id: str) -> Iterator[Any]:
    """Open a file for reading and close it; raises `MediaError` saying why it cannot be opened."""
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
    with container:
        if container.format.name == "tty":  # FFmpeg draws text files as video
            raise MediaError(sample_id, "not a media file but text", "remove it")
        yield container


def _video_streams(container: Any) -> list[Any]:
    """The streams that are real video: cover art and thumbnails are not."""
    return [stream for stream in container.streams.video if not stream.disposition & _NOT_A_MOVIE]


def _start_time(container: Any) -> float:
    """Seconds at which the clip starts on its streams' clocks."""
    start: int = container.start_time or 0
    return start / int(av.time_base)


def _frame_rate(stream: Any, n_frames: int, span: float) -> float | None:
    """The header's average rate, unless the packets' times, which span `span` seconds, contradict it."""
    measured = n_frames / span if span > 0 else None
    rate = stream.average_rate or stream.guessed_rate
    if rate and (measured is None or abs(float(rate) / measured - 1) <= MAX_RATE_ERROR):
        return float(rate)
    return measured


def _packets(container: Any, streams: list[Any]) -> Iterator[Any]:
    """Yield the packets of `streams`, and None for each place where the data cannot be read on."""
    packets = container.demux(streams)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, IndexError):  # PyAV's index error: a damaged file showed a new stream
            return
        except av.error.FFmpegError:
            yield None
            return
        if packet.size > 0:  # the rest only flush decoders
            yield packet


def _decoded(container: Any, stream: Any, sample_id: str, threads: bool = False) -> Iterator[Any]:
    """Yield all decoded frames of a stream; raises `MediaError` when too many packets are broken."""
    kind = stream.type
    if stream.codec_context is None:
        raise MediaError(sample_id, f"FFmpeg has no decoder for the {kind} track", REENCODE)
    if kind == "video":
        _check_size(stream.codec_context, sample_id)
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}  # for sizes that come later
    # samples are decoded in parallel, one thread each
    stream.thread_type = "AUTO" if threads else "NONE"
    total = broken = 0
    for packet in _packets(container, [stream]):
        total += 1
        try:
            frames = packet.decode() if packet is not None else None
        except av.error.FFmpegError:
            frames = None
        if frames is None:
            broken += 1
            continue
        yield from frames
    try:
        held = stream.decode(None)  # what the decoder still has
    except av.error.FFmpegError:  # it cannot even be opened: no packet was decoded
        held = []
    yield from held
    if broken > MAX_BROKEN * total:
        reason = f"{broken} of {total} {kind} packets cannot be decoded"
        raise MediaError(sample_id, reason, REENCODE)


def _check_size(decoder: Any, sample_id: str) -> None:
    if decoder.width * decoder.height > MAX_PIXELS:
        raise MediaError(sample_id, f"the video has {decoder.width} x {decoder.height} pixels", REENCODE)


def _float_samples(frame: Any) -> npt.NDArray[np.float32]:
    """Return a decoded audio frame as (channels, n) float32; integers are scaled to [-1, 1)."""
    raw = frame.to_ndarray()
    if not frame.format.is_planar:
        raw = raw.reshape(-1, frame.layout.nb_channels).T
    if raw.dtype.kind == "f":
        samples = raw
    elif raw.dtype == np.uint8:
        samples = (raw.astype(np.float32) - 128) / 128
    else:
        samples = raw / float(2 ** (8 * raw.dtype.itemsize - 1))
    return np.asarray(samples, dtype=np.float32)
