"""Small whole media, to be mutated: real clips cut short, written files, a scene and a take."""

import io
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import av
import numpy as np
from PIL import Image
from small_media import write_sound, write_video
from small_scenes import room_scene, write_scene, write_scene_hdf5

SECONDS = 2.4  # a window of sound needs two
CUT = ("mp4", "mov", "3gp", "mkv", "webm", "avi", "flv", "asf", "mpg")  # of demo.*, packets copied
STARTS = {"demo.rm": 160_000, "demo.swf": 100_000, "demo.gif": 40_000, "demo.m1v": 80_000}  # bytes
WHOLE = ("carphone_distorted.mp4", "withcover.mp3")
MP4, MATROSKA = (".mp4", ".mov", ".3gp"), (".mkv", ".webm")


def write_clips(folder: Path, clips: Mapping[str, Path]) -> dict[str, Path]:
    """Write media files, of less than 300 kB each; by name."""
    written = [cut(clips[f"demo.{ending}"], folder / f"demo.{ending}") for ending in CUT]
    written.append(cut(clips["bigbuckbunny.mp4"], folder / "bunny.mp4", seconds=0.3))
    for name, size in (*STARTS.items(), *((name, 60_000) for name in WHOLE if name in clips)):
        written.append(folder / name)
        written[-1].write_bytes(clips[name].read_bytes()[:size])
    written.append(write_video(folder / "frames.mp4", 50, "libx264"))
    written.append(write_video(folder / "lossless.mkv", 20, "ffv1"))
    written.append(write_video(folder / "pictures.avi", 20, "mjpeg", options={"color_range": "pc"}))
    wave = np.random.default_rng(5).normal(0, 4000, (2, 20_000)).astype(np.int16)
    written.append(write_sound(folder / "sound.wav", [wave], 8000, "pcm_s16le", "s16"))
    written.append(write_sound(folder / "sound.flac", [wave], 8000, "flac", "s16"))
    return {path.name: path for path in written}


def write_scenes(folder: Path) -> dict[str, Path]:
    """Write one small scene as a folder and as a file."""
    arrays = room_scene(3, (48, 64)) | {"alignment": np.eye(4)}
    return {
        "scene": write_scene(folder / "scene", **arrays, colour_suffix=".jpg"),
        "scene.h5": write_scene_hdf5(folder / "scene.h5", **arrays),
    }


def cut(source: Path, target: Path, seconds: float = SECONDS) -> Path:
    """Copy the packets of the first seconds into a file of the same kind."""
    with av.open(str(source)) as whole, av.open(str(target), "w") as short:
        copies = {stream.index: short.add_stream_from_template(stream) for stream in whole.streams}
        for packet in whole.demux():
            if packet.dts is not None and packet.dts * packet.time_base < seconds:
                packet.stream = copies[packet.stream.index]
                short.mux(packet)
    return target


@cache
def blank_picture(width: int, height: int, mode: str = "L") -> bytes:
    """A PNG of zeros: small, and large when it is read."""
    file = io.BytesIO()
    Image.new(mode, (width, height)).save(file, "PNG", compress_level=9)
    return file.getvalue()
