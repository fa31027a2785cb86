"""Tiny real media: clips with and without sound, rooms, and files that only look like them."""

import json
from pathlib import Path

import numpy as np
import small_media
from small_scenes import room_scene, write_scene

from tasks.sidecue_video import write_video
from tasks.sidecue_world import FPS, SAMPLE_RATE

SECONDS, SIZE = 3, 64
MISSING = "No such file or directory"
BROKEN = "not a media file"


def write_clip(path: Path, seed: int = 0) -> None:
    """Three seconds of a moving pattern with a tone, H.264 and AAC."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    pattern = np.kron(rng.integers(0, 256, (8, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    frames = np.stack([np.roll(pattern, 2 * number, axis=1) for number in range(SECONDS * FPS)])
    time = np.arange(SECONDS * SAMPLE_RATE) / SAMPLE_RATE
    write_video(path, frames, (0.3 * np.sin(2 * np.pi * (220 + 55 * seed) * time)).astype(np.float32))


def write_silent_clip(path: Path) -> None:
    """A clip without a sound track."""
    path.parent.mkdir(parents=True, exist_ok=True)
    small_media.write_video(path, SECONDS * FPS, codec="libx264", fps=FPS)


def write_broken_clip(path: Path) -> None:
    """What a failed download leaves: a page of text under the clip's name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("<html>Too many requests</html>")


def write_room(path: Path) -> None:
    """Two RGB-D views in ScanNet's exported layout."""
    write_scene(path, **room_scene(2, (48, 64)), colour_suffix=".jpg")


def write_room_without_poses(path: Path) -> None:
    """A room whose camera was never found, as some of ScanNet's frames are."""
    arrays = room_scene(2, (48, 64)) | {"poses": [np.full((4, 4), -np.inf)] * 2}
    write_scene(path, **arrays, colour_suffix=".jpg")


def write_annotations(root: Path, name: str, content: object) -> None:
    """A JSON file of the folder annotations/."""
    path = root / "annotations" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
