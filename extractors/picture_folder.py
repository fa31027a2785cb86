"""A folder of numbered pictures: the frames of a clip that were exported one by one.

    <folder>/0.jpg, 1.jpg, ...      or frame_0001.png, ...: the number is what the name ends with

Pictures are sorted by number, not by name. Other files, hidden files and folders are passed over.
"""

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from extractors.clip_requests import Picture
from extractors.errors import MediaError
from extractors.rgbd_scene import check_picture

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
# what Pillow raises on damaged files
_UNREADABLE = (
    *(OSError, SyntaxError, ValueError, EOFError),
    *(Image.DecompressionBombError, Image.DecompressionBombWarning),
)
_NUMBER = re.compile(r"[0-9]+$")
_AGAIN = "export the pictures again"


def picture_files(folder: Path) -> list[Path]:
    """The pictures of a folder by their endings, in no order. Raises OSError."""
    return [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    ]


def numbered_pictures(folder: Path, sample_id: str) -> list[Path]:
    """The pictures of a folder in the order of their numbers.

    Raises `MediaError` when it is no folder, has no pictures, or a picture has no number or that of another.
    """
    if not folder.is_dir():
        reason = "no folder of pictures" if folder.exists() else "the folder does not exist"
        raise MediaError(sample_id, f"{reason} ({folder})", "give a folder of numbered pictures")
    try:
        files = picture_files(folder)
    except OSError as error:
        reason = f"the folder cannot be listed ({error.strerror})"
        raise MediaError(sample_id, reason, "check its permissions") from error
    found: dict[int, Path] = {}
    for path in sorted(files):
        number = _NUMBER.search(path.stem)
        if number is None:
            reason = f"the name of {path.name} does not end with a number"
            raise MediaError(sample_id, reason, "name the pictures 0.jpg, 1.jpg, ..., or move it away")
        if int(number[0]) in found:
            reason = f"{found[int(number[0])].name} and {path.name} are both number {int(number[0])}"
            raise MediaError(sample_id, reason, "remove one of them")
        found[int(number[0])] = path
    if not found:
        kinds = " ".join(sorted(PICTURE_SUFFIXES))
        raise MediaError(sample_id, f"the folder has no pictures ({folder})", f"give one with {kinds}")
    return [found[number] for number in sorted(found)]


def read_picture(path: Path, sample_id: str, hint: str = _AGAIN) -> Picture:
    """(H, W, 3) uint8; grey becomes RGB, transparency is dropped, EXIF's rotation is not applied.

    Raises `MediaError` for files that are no picture of 8-bit colours or of a size that no camera takes.
    """
    with opened_picture(path, ("JPEG", "PNG"), sample_id, hint) as image:
        if image.mode.startswith("I"):  # 16 bits, of which the conversion makes white
            reason = f"{path.parent.name}/{path.name} has no 8-bit colours, but numbers such as depths"
            raise MediaError(sample_id, reason, hint)
        return np.asarray(image.convert("RGB"))


@contextmanager
def opened_picture(path: Path, formats: Sequence[str], sample_id: str, hint: str) -> Iterator[Image.Image]:
    """A picture of a size that cameras have. Raises `MediaError`, also for what its reading in the body raises.

    Args: formats: Pillow's names of what it may be; on some others Pillow runs another program.
    """
    name = f"{path.parent.name}/{path.name}"
    try:
        with warnings.catch_warnings():
            # a size of which Pillow only warns is refused here too
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(path, formats=list(formats))
        with image:
            check_picture((image.height, image.width), sample_id, name, hint)
            yield image
    except _UNREADABLE as error:
        raise MediaError(sample_id, f"{name} cannot be read as a picture", hint) from error
