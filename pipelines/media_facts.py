"""What a manifest says of a sample's media: a hash of their content, length, rate, frames and sound.

Paths are by role: "video", "scene", "images" and "exo/<camera>" (`extractors.contract.Sample`). Each file is looked
at for itself: one that cannot be used says nothing about the others of its sample.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from extractors.errors import MediaError
from extractors.media_info import probe
from extractors.picture_folder import numbered_pictures, picture_files
from extractors.rgbd_scene import open_scene
from extractors.scannet_folder import ALIGNMENT_FILE, FOLDERS

_IN_ORDER = ("video", "scene", "images")  # whose facts are the sample's; the outside cameras come last


@dataclass(frozen=True)
class MediaFacts:
    """None where a thing is unknown or has no meaning."""

    duration: float | None = None
    fps: float | None = None
    n_frames: int | None = None
    audio_streams: int | None = None


@dataclass(frozen=True)
class SampleMedia:
    """What is known of a sample's media.

    Attributes:
        source_hash: sha256 of the one media file; of several, that of their roles and hashes, where one that
            cannot be read counts as such. None when none can be read.
        facts: of the clip, else the scene, else the pictures, else the first outside camera: the first of them
            that can be used.
        errors: role -> why it cannot be used.
        error: why nothing of the sample can be used, None when something can.
    """

    source_hash: str | None
    facts: MediaFacts
    errors: Mapping[str, str]
    error: str | None


def look_at(paths: Mapping[str, Path], sample_id: str) -> SampleMedia:
    """Read all media of a sample, once to hash and once to judge them."""
    hashes: dict[str, str | None] = {}
    facts: dict[str, MediaFacts] = {}
    errors: dict[str, MediaError] = {}
    for role, path in paths.items():
        hashes[role] = None
        try:
            hashes[role] = content_hash(role, path)
            facts[role] = _facts(role, path, sample_id)
        except MediaError as error:
            errors[role] = error
        except OSError as error:
            reason = f"cannot be read ({error.strerror})"
            errors[role] = MediaError(sample_id, reason, "check the path and its permissions")
    best = min(facts, key=_rank, default=None)
    return SampleMedia(
        source_hash=_joined(hashes),
        facts=MediaFacts() if best is None else facts[best],
        errors={role: f"{error.reason}; {error.hint}" for role, error in errors.items()},
        error=_nothing_usable(errors) if best is None else None,
    )


def content_hash(role: str, path: Path) -> str:
    """sha256 of a file; of a folder, that of the names and contents of the files that belong to its role.

    Reads all of them: a scene of 3000 frames (800 MB) takes one to two seconds from memory, and else as long as
    the disk needs. Raises OSError.
    """
    if not path.is_dir():
        return _file_hash(path)
    files = picture_files(path) if role == "images" else _scene_files(path)
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(json.dumps([file.relative_to(path).as_posix(), _file_hash(file)]).encode())
    return digest.hexdigest()


def _rank(role: str) -> tuple[int, str]:
    return (_IN_ORDER.index(role) if role in _IN_ORDER else len(_IN_ORDER), role)


def _nothing_usable(errors: Mapping[str, MediaError]) -> str:
    if not errors:
        return "it has no media; leave it out, or add a file"
    if len(errors) == 1:
        (error,) = errors.values()
        return f"{error.reason}; {error.hint}"
    reasons = "; ".join(f"{role}: {errors[role].reason}" for role in sorted(errors, key=_rank))
    return f"none of its media can be used ({reasons}); leave it out, or replace its files"


def _facts(role: str, path: Path, sample_id: str) -> MediaFacts:
    if role == "scene":
        with open_scene(path, sample_id) as scene:
            return MediaFacts(n_frames=len(scene.names))
    if role == "images":
        return MediaFacts(n_frames=len(numbered_pictures(path, sample_id)))
    info = probe(path, sample_id)
    return MediaFacts(info.duration, info.fps, info.n_frames, info.audio_streams)


def _joined(hashes: Mapping[str, str | None]) -> str | None:
    known = [found for found in hashes.values() if found is not None]
    if len(hashes) == 1 or not known:
        return known[0] if known else None
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _scene_files(folder: Path) -> list[Path]:
    alignments = [folder / ALIGNMENT_FILE, folder / f"{folder.name}.txt"]
    parts = [folder / name for name in FOLDERS if (folder / name).is_dir()]
    return [
        path for path in (*alignments, *(file for part in parts for file in part.iterdir())) if path.is_file()
    ]
