"""The views of an RGB-D scene as one coloured point cloud, and whether poses and depths agree.

Letters: M points, V views, c side of a view in pixels.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from extractors.back_projection import back_project
from extractors.scene_views import SceneViews

_PLY_POINT = np.dtype([("place", "<f4", 3), ("colour", "u1", 3)])
_MIN_PIXELS = 100  # of one view that must land in another, for the pair to count
_CHECK_STEP = 4  # every fourth row and column is enough to judge


@dataclass(frozen=True)
class PointCloud:
    """`places` (M, 3) float32 metres, `colours` (M, 3) uint8."""

    places: npt.NDArray[np.float32]
    colours: npt.NDArray[np.uint8]


def point_cloud(views: SceneViews, step: int = 1) -> PointCloud:
    """Every `step`-th row and column of each distinct view; pixels without depth are left out."""
    chosen = _distinct(views)
    world = back_project(views.depths[chosen], views.intrinsics[chosen], views.poses[chosen])
    seen = views.depths[chosen, ::step, ::step] > 0  # (V, c / step, c / step)
    return PointCloud(world[:, ::step, ::step][seen], views.colours[chosen, ::step, ::step][seen])


def write_ply(cloud: PointCloud, path: Path) -> None:
    """Write the cloud as binary PLY, which MeshLab, Blender, CloudCompare and Open3D read."""
    points = np.empty(len(cloud.places), _PLY_POINT)
    points["place"], points["colour"] = cloud.places, cloud.colours
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"element vertex {len(points)}",
        *(f"property float {axis}" for axis in "xyz"),
        *(f"property uchar {colour}" for colour in ("red", "green", "blue")),
        "end_header\n",
    ]
    path.write_bytes("\n".join(header).encode() + points.tobytes())


def disagreement(views: SceneViews) -> float | None:
    """Median difference in metres between what two views say about the same place; None without overlap.

    Points of a view are seen from each other view, and their depth there is compared with its own reading. A
    point that is hidden there counts too, so that the median of few overlapping pixels says little; poses and
    depths that belong together give some centimetres, others much more.
    """
    chosen = _distinct(views)
    size = views.depths.shape[-1]
    world = back_project(views.depths[chosen], views.intrinsics[chosen], views.poses[chosen])
    world = world[:, ::_CHECK_STEP, ::_CHECK_STEP].astype(np.float64)
    seen = views.depths[chosen, ::_CHECK_STEP, ::_CHECK_STEP] > 0
    differences = []
    for target, view in enumerate(chosen.tolist()):
        to_camera = np.linalg.inv(views.poses[view])
        intrinsic, depth = views.intrinsics[view], views.depths[view]
        for source in range(len(chosen)):
            if source == target:
                continue
            places = world[source][seen[source]] @ to_camera[:3, :3].T + to_camera[:3, 3]  # (M, 3)
            places = places[places[:, 2] > 0]
            columns = np.rint(places[:, 0] / places[:, 2] * intrinsic[0, 0] + intrinsic[0, 2])
            rows = np.rint(places[:, 1] / places[:, 2] * intrinsic[1, 1] + intrinsic[1, 2])
            inside = (columns >= 0) & (columns < size) & (rows >= 0) & (rows < size)
            readings = depth[rows[inside].astype(np.int64), columns[inside].astype(np.int64)]
            compared = np.abs(readings - places[inside, 2])[readings > 0]
            if len(compared) >= _MIN_PIXELS:
                differences.append(compared)
    return float(np.median(np.concatenate(differences))) if differences else None


def _distinct(views: SceneViews) -> npt.NDArray[np.int64]:
    """The first view of each frame: frames repeat where a scene has too few."""
    return np.unique(views.frames, return_index=True)[1]
