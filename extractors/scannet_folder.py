"""A scene in the layout that ScanNet's exporter writes.

    <scene>/color/0.jpg, 1.jpg, ...      depth/0.png, ... (16 bit)      pose/0.txt, ... (4 x 4)
    <scene>/intrinsic/intrinsic_depth.txt (4 x 4)
    <scene>/<scene>.txt with a line "axisAlignment = 16 numbers", or axis_alignment.txt (4 x 4): optional

A frame is a number that has all three files; others are passed over.
"""

import re
from pathlib import Path

import numpy as np

from extractors.errors import MediaError
from extractors.picture_folder import opened_picture, read_picture
from extractors.rgbd_scene import DepthPicture, Matrix, RgbdScene

COLOUR, DEPTH, POSE, INTRINSIC = "color", "depth", "pose", "intrinsic"
FOLDERS = (COLOUR, DEPTH, POSE, INTRINSIC)
INTRINSIC_FILE = "intrinsic_depth.txt"
ALIGNMENT_FILE = "axis_alignment.txt"
_SUFFIXES = {COLOUR: (".jpg", ".jpeg", ".png"), DEPTH: (".png",), POSE: (".txt",)}
_DEPTH_MODES = ("I;16", "I;16B", "I")  # Pillow's names of 16 bits in a PNG
_ALIGNMENT = re.compile(r"^\s*axisAlignment\s*=(.*)$", re.MULTILINE)
_MAX_TEXT = 65536  # bytes; a matrix has some hundred
_AGAIN = "export the scene again"


def is_scene_folder(path: Path) -> bool:
    """Say whether a folder is laid out as a scene."""
    return all((path / name).is_dir() for name in FOLDERS)


def read_folder(path: Path, sample_id: str) -> RgbdScene:
    """List the frames and read the matrices. Raises `MediaError`."""
    missing = [name for name in FOLDERS if not (path / name).is_dir()]
    if missing:
        raise MediaError(sample_id, f"the scene has no folder {missing[0]!r} ({path})", _AGAIN)
    files = {kind: _numbered(path / kind, suffixes, sample_id) for kind, suffixes in _SUFFIXES.items()}
    numbers = sorted(files[COLOUR].keys() & files[DEPTH].keys() & files[POSE].keys())
    if not numbers:
        raise MediaError(sample_id, f"no frame has color, depth and pose ({path})", _AGAIN)
    colours, depths = ([files[kind][number] for number in numbers] for kind in (COLOUR, DEPTH))
    return RgbdScene(
        names=tuple(map(str, numbers)),
        poses=np.stack([_matrix(files[POSE][number], sample_id) for number in numbers]),
        intrinsic=_matrix(path / INTRINSIC / INTRINSIC_FILE, sample_id),
        axis_alignment=_alignment(path, sample_id),
        colour=lambda index: read_picture(colours[index], sample_id, _AGAIN),
        depth=lambda index: _read_depth(depths[index], sample_id),
    )


def _numbered(folder: Path, suffixes: tuple[str, ...], sample_id: str) -> dict[int, Path]:
    """The files of a folder that are named by a number, by that number."""
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in suffixes and path.stem.isdecimal():
            number = int(path.stem)
            if number in found:
                reason = f"{found[number].name} and {path.name} in {folder.name} are both frame {number}"
                raise MediaError(sample_id, reason, "remove one of them")
            found[number] = path
    return found


def _read_depth(path: Path, sample_id: str) -> DepthPicture:
    """(H, W) uint16."""
    with opened_picture(path, ("PNG",), sample_id, _AGAIN) as image:
        mode, values = image.mode, np.asarray(image)
    if mode not in _DEPTH_MODES or values.min() < 0 or values.max() > np.iinfo(np.uint16).max:
        reason = f"{path.parent.name}/{path.name} is no 16-bit picture of depths"
        raise MediaError(sample_id, reason, _AGAIN)
    return values.astype(np.uint16)


def _alignment(path: Path, sample_id: str) -> Matrix | None:
    if (path / ALIGNMENT_FILE).is_file():
        return _matrix(path / ALIGNMENT_FILE, sample_id)
    about = path / f"{path.name}.txt"
    if not about.is_file():
        return None
    line = _ALIGNMENT.search(_text(about, sample_id))
    return None if line is None else _numbers(line[1], about, sample_id)


def _matrix(path: Path, sample_id: str) -> Matrix:
    if not path.is_file():
        raise MediaError(sample_id, f"there is no {path.parent.name}/{path.name}", _AGAIN)
    return _numbers(_text(path, sample_id), path, sample_id)


def _text(path: Path, sample_id: str) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_TEXT).decode(errors="replace")
    except OSError as error:
        reason = f"{path.parent.name}/{path.name} cannot be read ({error.strerror})"
        raise MediaError(sample_id, reason, "check its permissions") from error


def _numbers(text: str, path: Path, sample_id: str) -> Matrix:
    """Sixteen numbers as (4, 4); "-inf" and "nan" are numbers."""
    try:
        return np.array(text.split(), dtype=np.float64).reshape(4, 4)
    except ValueError as error:
        reason = f"{path.parent.name}/{path.name} does not hold the 16 numbers of a matrix"
        raise MediaError(sample_id, reason, _AGAIN) from error
