"""Small media files, written for one test each."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from extractors.clip_reader import read_one
from extractors.clip_requests import SoundRequest, Waveform


def write_video(
    path: Path,
    num_frames: int,
    codec: str = "ffv1",
    fps: int = 25,
    rotation: int = 0,
    options: dict[str, str] | None = None,
    title: str = "",
    scale: int = 1,
) -> Path:
    """Write 64 x 48 pictures, times `scale`, of eight bars: seven show the bits of its number, the last is white."""
    with av.open(str(path), "w") as container:
        if title:
            container.metadata["title"] = title
        stream = container.add_stream(codec, rate=fps, options=options or {})
        width, height = 64 * scale, 48 * scale
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        if rotation:
            stream.set_display_rotation(rotation)
        container.start_encoding()  # writes the header even when there are no frames
        for index in range(num_frames):
            bars = [255 * (index >> bit & 1) for bit in range(7)] + [255]
            row = np.repeat(np.uint8(bars), width // 8)
            picture = np.broadcast_to(row[None, :, None], (height, width, 3)).copy()
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def shown_number(picture: np.ndarray) -> int:
    """Read the number of a frame that `write_video` wrote."""
    bars = picture.mean(axis=(0, 2)).reshape(8, -1).mean(axis=1) > 127
    return int(sum(2**bit for bit in range(7) if bars[bit]))


def write_sound(path: Path, tracks: list[np.ndarray], rate: int, codec: str, sample_format: str) -> Path:
    """Write packed sound; each track is (channels, n) in the number type of `sample_format`."""
    with av.open(str(path), "w") as container:
        layouts = {1: "mono", 2: "stereo", 6: "5.1"}
        streams = []
        for samples in tracks:
            stream = container.add_stream(codec, rate=rate)
            stream.layout = layouts[len(samples)]
            streams.append(stream)
        for stream, samples in zip(streams, tracks, strict=True):
            packed = np.ascontiguousarray(samples.T).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(packed, format=sample_format, layout=layouts[len(samples)])
            frame.sample_rate, frame.pts = rate, 0
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return path


def read_sound(path: Path, sample_id: str, stream: int = 0) -> tuple[Waveform, int]:
    """Read a whole audio track alone: the waveform and its samples per second."""
    return read_one(path, sample_id, SoundRequest(stream, lambda waveform, rate: (waveform, rate)))
