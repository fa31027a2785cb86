"""Looking at an RGB-D scene as the channel `depth3d` sees it, to judge whether poses and depths agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from extractors.point_cloud import disagreement, point_cloud, write_ply
from extractors.rgbd_scene import open_scene
from extractors.scene_views import read_views
from pipelines.config import InspectSceneConfig, Settings
from pipelines.scene_picture import draw_scene

IMAGE_SIZE = 336  # of the published tower: what it does not see is left out
_SUSPICIOUS = 0.1  # metres; real scenes have some centimetres


class SceneReport(Settings):
    """What `inspect_scene` found and wrote.

    `disagreement` is the median difference between two views of the same place in metres, None where no two
    views overlap; `low` and `high` are the corners of the box around all points, in metres.
    """

    sample_id: str
    cloud: Path
    picture: Path
    num_frames: int
    num_without_pose: int
    num_views: int
    num_points: int
    depth_coverage: float
    disagreement: float | None
    axis_aligned: bool
    low: tuple[float, float, float]
    high: tuple[float, float, float]

    def summary(self) -> str:
        """A few lines for people."""
        size = " x ".join(f"{high - low:.2f}" for low, high in zip(self.low, self.high, strict=True))
        world = "axis-aligned" if self.axis_aligned else "no axis alignment was given"
        return "\n".join(
            [
                f"{self.sample_id}: {self.num_frames} frames, {self.num_without_pose} without a pose, "
                f"{self.num_views} views",
                f"{self.num_points} points, {self.depth_coverage:.0%} of the pixels have depth, "
                f"{size} m ({world})",
                self.agreement(),
                f"point cloud {self.cloud}, picture {self.picture}",
            ]
        )

    def agreement(self) -> str:
        """One line: how well poses and depths fit each other."""
        if self.disagreement is None:
            return "no two views overlap, so poses and depths cannot be compared"
        centimetres = 100 * self.disagreement
        warning = "; do poses and depths belong together?" if self.disagreement > _SUSPICIOUS else ""
        return f"two views of a place differ by {centimetres:.1f} cm in the median{warning}"


def inspect_scene(config: InspectSceneConfig, sample_id: str) -> SceneReport:
    """Write `points.ply` and `scene.png` of a scene into the folder `config.out`.

    Raises MediaError when the scene cannot be used, OSError when nothing can be written there.
    """
    with open_scene(config.scene, sample_id) as scene:
        views = read_views(scene, sample_id, config.num_views, IMAGE_SIZE, config.depth_scale)
        path = scene.camera_path
        num_frames, num_tracked = len(scene.names), len(scene.tracked)
        axis_aligned = scene.axis_alignment is not None
    cloud = point_cloud(views, config.step)
    report = SceneReport(
        sample_id=sample_id,
        cloud=config.out / "points.ply",
        picture=config.out / "scene.png",
        num_frames=num_frames,
        num_without_pose=num_frames - num_tracked,
        num_views=len(np.unique(views.frames)),
        num_points=len(cloud.places),
        depth_coverage=float((views.depths > 0).mean()),
        disagreement=disagreement(views),
        axis_aligned=axis_aligned,
        low=tuple(cloud.places.min(axis=0).tolist()),
        high=tuple(cloud.places.max(axis=0).tolist()),
    )
    config.out.mkdir(parents=True, exist_ok=True)
    write_ply(cloud, report.cloud)
    title = f"{sample_id}: {report.agreement()}"
    draw_scene(cloud, path, views.poses[:, :3, 3], title, report.picture)
    return report
