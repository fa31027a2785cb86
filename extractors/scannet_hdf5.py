"""A scene in one HDF5 file, with the arrays of ScanNet's exported layout.

    color (N, H, W, 3) uint8      depth (N, h, w) uint16      pose (N, 4, 4)
    intrinsic/intrinsic_depth (4, 4)      axis_alignment (4, 4): optional

Nothing outside of the file is opened: links and datasets that live in other files are refused.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from extractors.errors import MediaError
from extractors.rgbd_scene import Matrix, RgbdScene, check_picture

COLOUR, DEPTH, POSE = "color", "depth", "pose"
INTRINSIC, ALIGNMENT = "intrinsic/intrinsic_depth", "axis_alignment"
MAX_FRAMES = 100_000  # an hour of a depth camera; the poses are read at once
MAX_CHUNK = 2**28  # bytes, unpacked: what is read and held for one picture
_AGAIN = "write the file again"
# what h5py raises on damaged or foreign content
_UNREADABLE = (OSError, RuntimeError, ValueError, TypeError, LookupError, AttributeError)


@contextmanager
def opened_hdf5(path: Path, sample_id: str) -> Iterator[RgbdScene]:
    """Open the file and read the matrices; pictures can be read until the end. Raises `MediaError`."""
    import h5py

    try:
        file = h5py.File(path, "r")
    except _UNREADABLE as error:
        raise MediaError(sample_id, "the file cannot be opened as HDF5", _AGAIN) from error
    with file:
        colour = _dataset(file, COLOUR, (None, None, None, 3), np.uint8, sample_id)
        count = colour.shape[0]
        depth = _dataset(file, DEPTH, (count, None, None), np.uint16, sample_id)
        for name, dataset in ((COLOUR, colour), (DEPTH, depth)):
            check_picture(dataset.shape[1:3], sample_id, name)
        if not 0 < count <= MAX_FRAMES:
            raise MediaError(sample_id, f"the file has {count} frames", _AGAIN)
        aligned = _link(file, ALIGNMENT, sample_id) is not None
        yield RgbdScene(
            names=tuple(map(str, range(count))),
            poses=_matrices(file, POSE, (count, 4, 4), sample_id),
            intrinsic=_matrices(file, INTRINSIC, (4, 4), sample_id),
            axis_alignment=_matrices(file, ALIGNMENT, (4, 4), sample_id) if aligned else None,
            colour=lambda index: _read(colour, index, COLOUR, sample_id),
            depth=lambda index: _read(depth, index, DEPTH, sample_id),
        )


def _matrices(file: Any, name: str, shape: tuple[int, ...], sample_id: str) -> Matrix:
    matrices = _read(_dataset(file, name, shape, None, sample_id), ..., name, sample_id)
    return matrices.astype(np.float64)


def _read(dataset: Any, index: Any, name: str, sample_id: str) -> npt.NDArray[Any]:
    try:
        values: npt.NDArray[Any] = dataset[index]
    except _UNREADABLE as error:
        where = f" of frame {index}" if isinstance(index, int) else ""
        raise MediaError(sample_id, f"the dataset {name!r}{where} cannot be read", _AGAIN) from error
    return values


def _dataset(
    file: Any, name: str, shape: tuple[int | None, ...], dtype: type[Any] | None, sample_id: str
) -> Any:
    """A dataset of this file; None in `shape` is any size, a `dtype` of None any kind of real number."""
    import h5py

    if _link(file, name, sample_id) is None:
        raise MediaError(sample_id, f"the file has no dataset {name!r}", _AGAIN)
    try:
        found = file[name]
        if not isinstance(found, h5py.Dataset) or found.external or found.is_virtual:
            raise MediaError(sample_id, f"{name!r} is no dataset that is kept in this file", _AGAIN)
        fits = len(found.shape or ()) == len(shape) and all(
            wanted in (None, size) for wanted, size in zip(shape, found.shape, strict=True)
        )
        right_type = found.dtype == dtype if dtype is not None else found.dtype.kind in "fiu"
    except _UNREADABLE as error:
        raise MediaError(sample_id, f"the dataset {name!r} cannot be opened", _AGAIN) from error
    if not fits or not right_type:
        wanted_shape = " x ".join("any" if size is None else str(size) for size in shape)
        wanted_type = "numbers" if dtype is None else dtype.__name__
        reason = f"the dataset {name!r} is {found.dtype} {found.shape}, not {wanted_type} ({wanted_shape})"
        raise MediaError(sample_id, reason, _AGAIN)
    if found.chunks is not None and math.prod(found.chunks) * found.dtype.itemsize > MAX_CHUNK:
        reason = f"the dataset {name!r} has chunks of {found.chunks} numbers"
        raise MediaError(sample_id, reason, "write it with chunks of one frame")
    return found


def _link(file: Any, name: str, sample_id: str) -> Any:
    """The hard link of a name, None where there is nothing; every step to it must be one too."""
    import h5py

    steps = name.split("/")
    link = None
    for depth in range(1, len(steps) + 1):
        try:
            link = file.get("/".join(steps[:depth]), getlink=True)
        except _UNREADABLE as error:
            raise MediaError(sample_id, "the file cannot be listed", _AGAIN) from error
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            raise MediaError(sample_id, f"{name!r} is reached by a link", "copy the data into this file")
    return link
