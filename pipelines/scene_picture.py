"""A picture of an RGB-D scene: its points from above and from aside, with the path of the camera."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from extractors.point_cloud import PointCloud
from pipelines.plot_style import COLOURS, INK, drawn

_MAX_POINTS = 60_000  # more only take time: they are smaller than the picture's pixels
_HEAD_ROOM = 0.3  # metres above the cameras where the ceiling, which would hide the room, is cut off
_PATH, _VIEW = COLOURS[5], INK


def draw_scene(
    cloud: PointCloud,
    camera_path: npt.NDArray[np.float64],
    view_places: npt.NDArray[np.float64],
    title: str,
    out: Path,
) -> None:
    """Write a PNG. What lies above the cameras (z is up) is left out.

    Args:
        camera_path: (M, 3), all tracked frames in order.
        view_places: (V, 3), the cameras of the points.
    """
    visible = cloud.places[:, 2] < np.nanmax(view_places[:, 2]) + _HEAD_ROOM
    places, colours = cloud.places[visible], cloud.colours[visible] / 255
    # the same picture every time
    kept = np.random.default_rng(0).permutation(len(places))[:_MAX_POINTS]
    kept = kept[np.argsort(places[kept, 2])]  # higher points are drawn over lower ones
    places, colours = places[kept], colours[kept]
    with drawn(out, 13, 6) as figure:
        figure.suptitle(title)
        above = figure.add_subplot(
            1, 2, 1, title="from above", xlabel="x (m)", ylabel="y (m)", aspect="equal"
        )
        above.scatter(places[:, 0], places[:, 1], s=2, c=colours, linewidths=0)
        above.plot(
            camera_path[:, 0], camera_path[:, 1], color=_PATH, linewidth=1.5, label="path of the camera"
        )
        above.scatter(view_places[:, 0], view_places[:, 1], s=14, c=_VIEW, zorder=3, label="chosen views")
        above.legend(loc="upper right")
        aside = figure.add_subplot(1, 2, 2, projection="3d", xlabel="x (m)", ylabel="y (m)", zlabel="z (m)")
        aside.scatter(*places.T, s=2, c=colours, linewidths=0)
        aside.plot(*camera_path.T, color=_PATH, linewidth=1.5)
        aside.scatter(*view_places.T, s=14, c=_VIEW)
        aside.set_box_aspect(np.ptp(places, axis=0) + 0.1)  # one metre is as long in every direction
