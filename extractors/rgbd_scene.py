"""An RGB-D scene: colour and depth pictures, one camera pose for each, in ScanNet's conventions.

It comes from a folder in ScanNet's exported layout (`extractors.scannet_folder`) or from one HDF5 file with the
same arrays (`extractors.scannet_hdf5`). Opening reads the poses; pictures are read one by one when asked for.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from extractors.clip_requests import Picture
from extractors.errors import MediaError

DepthPicture: TypeAlias = npt.NDArray[np.uint16]  # (height, width), 0 where there was no reading
Matrix: TypeAlias = npt.NDArray[np.float64]

HDF5_SUFFIXES = frozenset({".h5", ".hdf5"})
MAX_PIXELS = 64_000_000  # of one picture; no camera has more
MAX_ELONGATION = 8  # long side to short side
MAX_INTRINSIC = 1e6  # pixels; a focal length is not less than MIN_FOCAL
MIN_FOCAL = 1e-3


@dataclass(frozen=True)
class RgbdScene:
    """A scene that is open for reading.

    Attributes:
        names: of the N frames, in order.
        poses: (N, 4, 4), camera to world, metres; not finite where the tracking was lost.
        intrinsic: (4, 4) of the depth camera, in pixels of the depth pictures.
        axis_alignment: (4, 4) from the world to its axis-aligned version, None where that is unknown.
        colour, depth: frame number (0 to N - 1) to its picture; both raise `MediaError`.
    """

    names: tuple[str, ...]
    poses: Matrix
    intrinsic: Matrix
    axis_alignment: Matrix | None
    colour: Callable[[int], Picture]
    depth: Callable[[int], DepthPicture]

    @property
    def tracked(self) -> npt.NDArray[np.int64]:
        """The numbers of the frames whose pose is finite."""
        return np.flatnonzero(np.isfinite(self.poses).all(axis=(1, 2)))

    @property
    def alignment(self) -> Matrix:
        """(4, 4), `axis_alignment` or the identity."""
        return np.eye(4) if self.axis_alignment is None else self.axis_alignment

    @property
    def camera_path(self) -> Matrix:
        """(M, 3) the camera's places in the axis-aligned world, of the tracked frames in order."""
        with np.errstate(over="ignore", invalid="ignore"):  # of absurd poses, which the views would refuse
            return (self.alignment @ self.poses[self.tracked])[:, :3, 3]


@contextmanager
def open_scene(path: Path, sample_id: str) -> Iterator[RgbdScene]:
    """Open a scene: a folder or an HDF5 file; it is closed at the end.

    Raises `MediaError` when it is missing, not laid out as a scene, or has no frame with a finite pose.
    """
    from extractors.scannet_folder import read_folder
    from extractors.scannet_hdf5 import opened_hdf5

    if path.is_dir():
        yield _checked(read_folder(path, sample_id), sample_id)
    elif path.is_file() and path.suffix.lower() in HDF5_SUFFIXES:
        with opened_hdf5(path, sample_id) as scene:
            yield _checked(scene, sample_id)
    else:
        reason = "neither a folder nor an HDF5 file" if path.exists() else "the scene does not exist"
        raise MediaError(
            sample_id, f"{reason} ({path})", "give a folder in ScanNet's exported layout or a .h5 file"
        )


def check_picture(
    shape: tuple[int, ...], sample_id: str, what: str, hint: str = "export the scene again"
) -> None:
    """Raise `MediaError` for a picture (height, width, ...) that no camera takes, before it is read."""
    height, width = shape[:2]
    if not 0 < height * width <= MAX_PIXELS or max(height, width) > MAX_ELONGATION * min(height, width):
        raise MediaError(sample_id, f"{what} has {width} x {height} pixels", hint)


def _checked(scene: RgbdScene, sample_id: str) -> RgbdScene:
    # the first says no to NaN too
    sane = (np.abs(scene.intrinsic) < MAX_INTRINSIC).all()
    if not sane or (np.abs(scene.intrinsic.diagonal()[:2]) < MIN_FOCAL).any():
        raise MediaError(sample_id, "the depth camera's intrinsics are no camera matrix", "export it again")
    if scene.axis_alignment is not None and not np.isfinite(scene.axis_alignment).all():
        raise MediaError(sample_id, "the axis alignment is not finite", "export it again, or remove it")
    if len(scene.tracked) == 0:
        found = f"none of its {len(scene.names)} frames has a finite pose"
        raise MediaError(sample_id, found, "leave it out, or export it again")
    return scene
