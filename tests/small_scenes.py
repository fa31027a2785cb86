"""Small RGB-D scenes on disk: in ScanNet's exported layout, and as one HDF5 file."""

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
from PIL import Image


def write_scene(
    path: Path,
    colours: Sequence[np.ndarray],
    depths: Sequence[np.ndarray],
    poses: Sequence[np.ndarray],
    intrinsic: np.ndarray,
    alignment: np.ndarray | None = None,
    numbers: Sequence[int] | None = None,
    colour_suffix: str = ".png",
) -> Path:
    """Write a scene folder; frame i has the number `numbers[i]`."""
    for name in ("color", "depth", "pose", "intrinsic"):
        (path / name).mkdir(parents=True)
    numbers = range(len(colours)) if numbers is None else numbers
    for number, colour, depth, pose in zip(numbers, colours, depths, poses, strict=True):
        Image.fromarray(colour).save(path / "color" / f"{number}{colour_suffix}")
        Image.fromarray(depth.astype(np.uint16)).save(path / "depth" / f"{number}.png", compress_level=1)
        np.savetxt(path / "pose" / f"{number}.txt", pose, fmt="%.17g")
    np.savetxt(path / "intrinsic" / "intrinsic_depth.txt", intrinsic, fmt="%.17g")
    if alignment is not None:
        row = " ".join(f"{number:.17g}" for number in alignment.ravel())
        (path / f"{path.name}.txt").write_text(
            f"sceneType = Bedroom\naxisAlignment = {row}\ncolorWidth = 1\n"
        )
    return path


def write_scene_hdf5(
    path: Path,
    colours: Sequence[np.ndarray],
    depths: Sequence[np.ndarray],
    poses: Sequence[np.ndarray],
    intrinsic: np.ndarray,
    alignment: np.ndarray | None = None,
) -> Path:
    """Write the same arrays into one file."""
    with h5py.File(path, "w") as file:
        file["color"] = np.stack(colours)
        file["depth"] = np.stack(depths).astype(np.uint16)
        file["pose"] = np.stack(poses)
        file["intrinsic/intrinsic_depth"] = intrinsic
        if alignment is not None:
            file["axis_alignment"] = alignment
    return path


ROOM = np.array(
    [[-2.0, 2.5], [-1.8, 2.2], [0.0, 2.6]]
)  # metres: the walls across x, across y, floor and ceiling
WALL_COLOURS = np.uint8(
    [[200, 60, 60], [60, 200, 60], [60, 60, 200], [200, 200, 60], [90, 90, 90], [250] * 3]
)


def camera_intrinsic(size: tuple[int, int]) -> np.ndarray:
    """ScanNet's depth camera, for pictures of (height, width) pixels."""
    height, width = size
    focal = 577.87 * width / 640
    return np.array(
        [[focal, 0, (width - 1) / 2, 0], [0, focal, (height - 1) / 2, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    )


def camera_pose(place: np.ndarray, towards: np.ndarray) -> np.ndarray:
    """The pose, camera to world, of a camera that looks at a point and is held upright (z is up)."""
    forward = (towards - place) / np.linalg.norm(towards - place)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(forward, right), forward, place], axis=1)
    return pose


def room_poses(count: int) -> list[np.ndarray]:
    """Cameras on a small circle that look outwards, in turn down and up."""
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    tilts = [(-0.3, 0.35)[number % 2] for number in range(count)]
    directions = [np.array([np.cos(a), np.sin(a), tilt]) for a, tilt in zip(angles, tilts, strict=True)]
    places = [np.array([0.2, 0.1, 1.4]) - 0.4 * direction * [1, 1, 0] for direction in directions]
    return [
        camera_pose(place, place + direction) for place, direction in zip(places, directions, strict=True)
    ]


def room_view(pose: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """What a camera sees in the room: (H, W, 3) colours and (H, W) depths in millimetres.

    Along the ray of each pixel the nearest of the six planes is hit; its depth is along the camera's axis.
    """
    rows, columns = np.mgrid[: size[0], : size[1]]
    pixels = np.stack([columns, rows, np.ones(size)], axis=-1)
    rays = pixels @ np.linalg.inv(camera_intrinsic(size)[:3, :3]).T
    directions = rays @ pose[:3, :3].T  # of depth 1
    with np.errstate(divide="ignore"):
        hits = (ROOM.T[:, None, None] - pose[:3, 3]) / directions  # (2, H, W, 3)
    hits = np.where(hits > 0, hits, np.inf).transpose(1, 2, 3, 0).reshape(*size, 6)
    walls = hits.argmin(axis=-1)
    checks = (
        16 * rows // size[1] + 16 * columns // size[1]
    ) % 2  # a pattern, so that no two views look alike
    colours = WALL_COLOURS[walls] // (1 + checks[..., None]).astype(np.uint8)
    return colours, np.rint(hits.min(axis=-1) * 1000)


def room_scene(count: int, size: tuple[int, int] = (480, 640)) -> dict[str, object]:
    """The arrays of a scene in the room, as `write_scene` takes them."""
    poses = room_poses(count)
    views = [room_view(pose, size) for pose in poses]
    return {
        "colours": [colour for colour, _ in views],
        "depths": [depth for _, depth in views],
        "poses": poses,
        "intrinsic": camera_intrinsic(size),
    }
