"""Key frames of what is no video: of an RGB-D scene, and of a folder of numbered pictures.

Letters: N pictures that there are, F key frames.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from extractors.clip_requests import Picture
from extractors.contract import JSON, Decoded
from extractors.picture_folder import numbered_pictures, read_picture
from extractors.rgbd_scene import open_scene
from extractors.scene_views import view_indices

PictureChoice = Literal["views", "first"]
SCENE, IMAGES = "scene", "images"  # the roles


@dataclass(frozen=True)
class KeyPictures:
    """Pictures that are open for reading.

    Attributes:
        names: of the N pictures, in order.
        tracked: numbers of those whose camera pose is known; all of them where no picture has one.
        read: number of a picture (0 to N - 1) to its pixels; raises `MediaError`.
        attributes: what is known of them.
    """

    names: tuple[str, ...]
    tracked: npt.NDArray[np.int64]
    read: Callable[[int], Picture]
    attributes: dict[str, JSON] = field(default_factory=dict)

    def chosen(self, num_frames: int, choice: PictureChoice) -> npt.NDArray[np.int64]:
        """The numbers (F,) of the key frames.

        "views": those that depth3d takes as views, so that key frame i and view i are one picture: every
        floor(N / F)-th with a pose, and fewer are repeated in turn. "first": the first F, whatever their
        poses, and fewer are filled up with the last; the original release read its folders of pictures so.
        """
        if choice == "views":
            return self.tracked[view_indices(len(self.tracked), num_frames)]
        return np.minimum(np.arange(num_frames), len(self.names) - 1)


@contextmanager
def open_key_pictures(role: str, path: Path, sample_id: str) -> Iterator[KeyPictures]:
    """Open an RGB-D scene (role "scene") or a folder of numbered pictures ("images"). Raises `MediaError`."""
    if role == SCENE:
        with open_scene(path, sample_id) as scene:
            lost: dict[str, JSON] = {"frames_without_pose": len(scene.names) - len(scene.tracked)}
            yield KeyPictures(scene.names, scene.tracked, scene.colour, lost)
    else:
        files = numbered_pictures(path, sample_id)
        names = tuple(file.name for file in files)
        yield KeyPictures(names, np.arange(len(files)), lambda number: read_picture(files[number], sample_id))


def decode_key_pictures(
    role: str,
    path: Path,
    sample_id: str,
    num_frames: int,
    choice: PictureChoice,
    each: Callable[[Picture], Picture],
) -> Decoded:
    """Read F key frames: tensor "pixels" (F, H, W, 3) uint8, what `each` makes of them one by one.

    Pictures have no clock: `timestamps` are NaN. The attributes name the key frames. Raises `MediaError`.
    """
    with open_key_pictures(role, path, sample_id) as pictures:
        chosen = pictures.chosen(num_frames, choice)
        distinct, place = np.unique(chosen, return_inverse=True)
        pixels = np.stack([each(pictures.read(number)) for number in distinct.tolist()])[place]
    return Decoded(
        sample_id,
        {"pixels": pixels},
        np.full(num_frames, np.nan),
        duration=None,
        fps=None,
        n_frames=len(pictures.names),
        attributes={"frames": [pictures.names[number] for number in chosen.tolist()], **pictures.attributes},
    )
