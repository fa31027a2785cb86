"""What a manifest says of a sample's media: a hash of their content, length, rate, frames and sound.

Paths are by role: "video", "scene" and "exo/<camera>" (`extractors.contract.Sample`).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from extractors.errors import MediaError
from extractors.exo import ROLE as EXO
from extractors.media_info import probe
from extractors.rgbd_scene import open_scene
from extractors.scannet_folder import ALIGNMENT_FILE, COLOUR, DEPTH, FOLDERS


@dataclass(frozen=True)
class MediaFacts:
    """None where a thing is unknown or has no meaning."""

    duration: float | None = None
    fps: float | None = None
    n_frames: int | None = None
    audio_streams: int | None = None


def media_facts(paths: Mapping[str, Path], sample_id: str) -> MediaFacts:
    """Those of the clip, else of the scene, else of the first outside camera that can be used.

    Raises MediaError when that is not usable.
    """
    if "video" in paths:
        return _clip_facts(paths["video"], sample_id)
    if "scene" in paths:
        with open_scene(paths["scene"], sample_id) as scene:
            return MediaFacts(n_frames=len(scene.names))
    reasons = []
    for role, path in sorted(paths.items()):
        try:
            return _clip_facts(path, sample_id)
        except MediaError as error:
            reasons.append(f"{role}: {error.reason}")
    hint = "leave it out, or replace its files"
    raise MediaError(sample_id, f"none of its media can be used ({'; '.join(reasons)})", hint)


def content_hash(paths: Mapping[str, Path]) -> str:
    """sha256 of the one media file; of several, that of their roles and hashes.

    A missing outside camera counts as such. A scene's folder is hashed by the names and sizes of its pictures
    and the content of its matrices: thousands of pictures would take minutes. Raises OSError.
    """
    hashes = {
        role: None if role.startswith(EXO) and not path.exists() else _hash(path)
        for role, path in paths.items()
    }
    if len(hashes) == 1 and None not in hashes.values():
        return str(next(iter(hashes.values())))
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()


def _clip_facts(path: Path, sample_id: str) -> MediaFacts:
    info = probe(path, sample_id)
    return MediaFacts(info.duration, info.fps, info.n_frames, info.audio_streams)


def _hash(path: Path) -> str:
    return _scene_hash(path) if path.is_dir() else _file_hash(path)


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _scene_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    alignments = [folder / ALIGNMENT_FILE, folder / f"{folder.name}.txt"]
    files = [path for name in FOLDERS if (folder / name).is_dir() for path in (folder / name).iterdir()]
    for path in sorted([*files, *(path for path in alignments if path.is_file())]):
        if path.is_file():
            is_picture = path.parent.name in (COLOUR, DEPTH)
            content = str(path.stat().st_size) if is_picture else _file_hash(path)
            digest.update(json.dumps([path.relative_to(folder).as_posix(), content]).encode())
    return digest.hexdigest()
