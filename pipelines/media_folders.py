"""What lies in a folder of media: videos, RGB-D scenes, folders of pictures, or takes of several cameras.

A sample's id is its path from the folder, with the ending: one clip may be there in several containers. Hidden
files and folders are passed over.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, TypeAlias

from pydantic import Field

from extractors.contract import EXO_ROLE as EXO
from extractors.picture_folder import PICTURE_SUFFIXES
from extractors.rgbd_scene import HDF5_SUFFIXES
from extractors.scannet_folder import is_scene_folder
from pipelines.config import MediaFolders, Settings, checked
from pipelines.errors import ManifestError, PipelineError

VIDEO_SUFFIXES = frozenset(
    {".3g2", ".3gp", ".asf", ".avi", ".divx", ".f4v", ".flv", ".gif", ".m1v", ".m2ts", ".m2v", ".m4v", ".mkv"}
    | {".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogg", ".ogv", ".rm", ".swf", ".ts", ".vob", ".webm"}
    | {".wmv"}
)
TAKE_FILE = "take.json"
_Camera: TypeAlias = Annotated[str, Field(min_length=1)]


@dataclass(frozen=True)
class MediaItem:
    """A sample before its media are looked at; `media` maps a role to a POSIX path below the media's root."""

    sample_id: str
    split: str | None
    media: Mapping[str, str]


@dataclass(frozen=True)
class FoundMedia:
    """What was found below `root`, an absolute folder; `name` is that of the folder that was given."""

    root: Path
    name: str
    items: tuple[MediaItem, ...]


class TakeFile(Settings):
    """The file `take.json` of a take: where its cameras' videos are, from the take's folder.

    A camera whose file does not exist is a missing camera.
    """

    exo: dict[_Camera, str] = Field(min_length=1, description="outside cameras: id -> video")
    video: str | None = Field(
        default=None, description="the video of the key frames, such as the ego camera's"
    )


def find_media(folders: MediaFolders) -> FoundMedia:
    """The samples of the one folder that is given. Raises ManifestError when there are none."""
    if folders.videos is not None:
        return find_videos(folders.videos)
    if folders.scenes is not None:
        return find_scenes(folders.scenes)
    if folders.images is not None:
        return find_images(folders.images)
    assert folders.takes is not None  # checked by the configurations
    return find_takes(folders.takes)


def find_videos(videos: Path) -> FoundMedia:
    """The video files of a folder and its subfolders, by their endings; or the one file given.

    One file is found as if it were alone in its folder. Raises ManifestError when there are none.
    """
    if videos.is_file():
        return _found(videos.parent, [(videos, {"video": videos.name})])
    paths = [path for _, files in _walk(videos) for path in files if path.suffix.lower() in VIDEO_SUFFIXES]
    if not paths:
        kinds = " ".join(sorted(VIDEO_SUFFIXES))
        raise ManifestError(f"no videos in {videos}; give a folder with files that end in one of {kinds}")
    return _found(videos, [(path, {"video": _below(path, videos)}) for path in sorted(paths)])


def find_scenes(scenes: Path) -> FoundMedia:
    """The RGB-D scenes of a folder and its subfolders: folders in ScanNet's layout, and HDF5 files.

    One scene is found as if it were alone in its folder. Raises ManifestError when there are none.
    """
    scenes = scenes.absolute()
    if scenes.is_file() or is_scene_folder(scenes):
        return _found(scenes.parent, [(scenes, {"scene": scenes.name})])
    paths: list[Path] = []
    for folders, files in _walk(scenes):
        laid_out = [folder for folder in folders if is_scene_folder(folder)]
        paths += laid_out + [path for path in files if path.suffix.lower() in HDF5_SUFFIXES]
        folders[:] = [folder for folder in folders if folder not in laid_out]
    if not paths:
        raise ManifestError(
            f"no scenes in {scenes}; a scene is a folder with color, depth, pose and intrinsic, or a .h5 file"
        )
    return _found(scenes, [(path, {"scene": _below(path, scenes)}) for path in sorted(paths)])


def find_images(images: Path) -> FoundMedia:
    """The folders that hold pictures themselves, below a folder; what lies in them is not searched further.

    One such folder is found as if it were alone in its folder. Raises ManifestError when there are none.
    """
    images = images.absolute()
    if images.is_dir() and _holds_pictures(list(images.iterdir())):
        return _found(images.parent, [(images, {"images": images.name})])
    paths: list[Path] = []
    for folders, files in _walk(images):
        if files and _holds_pictures(files):
            paths.append(files[0].parent)
            folders.clear()
    if not paths:
        kinds = " ".join(sorted(PICTURE_SUFFIXES))
        raise ManifestError(f"no pictures in {images}; give a folder of folders with numbered {kinds}")
    return _found(images, [(path, {"images": _below(path, images)}) for path in sorted(paths)])


def find_takes(takes: Path) -> FoundMedia:
    """The takes of a folder and its subfolders: each folder with a `take.json`, or else with videos.

    Without `take.json` each video is a camera, named by its file without the ending. One take is found as if
    it were alone in its folder. Raises ManifestError when there are none, or a take is not as it must be.
    """
    takes = takes.absolute()
    found = _take(takes, takes.parent)
    if found is not None:
        return _found(takes.parent, [(takes, found)])
    sources = []
    for folders, _ in _walk(takes):
        cameras = {folder: _take(folder, takes) for folder in folders}
        sources += [(folder, media) for folder, media in cameras.items() if media is not None]
        folders[:] = [folder for folder in folders if cameras[folder] is None]
    if not sources:
        raise ManifestError(f"no takes in {takes}; a take is a folder with videos or a {TAKE_FILE}")
    return _found(takes, sorted(sources, key=lambda source: source[0]))


def _take(folder: Path, root: Path) -> dict[str, str] | None:
    """The media of a take by role, None for a folder that is none."""
    if not folder.is_dir():
        return None
    place = PurePosixPath(_below(folder, root))
    if (folder / TAKE_FILE).is_file():
        take = _read_take(folder / TAKE_FILE)
        ego = {} if take.video is None else {"video": str(place / take.video)}
        return ego | {f"{EXO}{camera}": str(place / path) for camera, path in take.exo.items()}
    media: dict[str, str] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file() and not path.name.startswith("."):
            role = f"{EXO}{_text(path.stem)}"
            if role in media:
                raise ManifestError(f"{media[role]} and {path.name} are one camera; remove one of them")
            media[role] = str(place / path.name)
    return media or None


def _read_take(path: Path) -> TakeFile:
    try:
        content = json.loads(path.read_bytes())
        return checked(TakeFile, content if isinstance(content, dict) else {"exo": content}, str(path))
    except (ValueError, OSError) as error:
        raise ManifestError(f"{path} cannot be read as JSON ({' '.join(str(error).split())})") from error
    except PipelineError as error:
        raise ManifestError(f"{error}; mend it or remove it") from error


def _holds_pictures(paths: Sequence[Path]) -> bool:
    return any(
        path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".") and path.is_file()
        for path in paths
    )


def _walk(folder: Path) -> Iterator[tuple[list[Path], list[Path]]]:
    """Per folder its subfolders, of which those are visited that are left in the list, and its files."""
    if not folder.is_dir():
        raise ManifestError(f"there is no file or folder {folder}; check the path")
    for place, names, files in os.walk(folder):
        folders = [Path(place, name) for name in sorted(names) if not name.startswith(".")]
        yield folders, [Path(place, name) for name in sorted(files) if not name.startswith(".")]
        names[:] = [path.name for path in folders]


def _below(path: Path, root: Path) -> str:
    return path.absolute().relative_to(root.absolute()).as_posix()


def _found(root: Path, sources: list[tuple[Path, dict[str, str]]]) -> FoundMedia:
    items = tuple(MediaItem(_text(_below(path, root)), None, media) for path, media in sources)
    return FoundMedia(root.absolute(), root.resolve().name, items)


def _text(name: str) -> str:
    """A name that is no text keeps its bytes in the path; ids must be text."""
    return name.encode(errors="backslashreplace").decode()
