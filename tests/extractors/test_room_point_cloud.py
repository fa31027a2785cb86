"""A room of known size, rendered to pictures on disk: the points that are made of them lie on its walls."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_scenes import ROOM, camera_pose, room_scene, write_scene, write_scene_hdf5

from extractors.back_projection import back_project
from extractors.config import Depth3dConfig
from extractors.contract import Sample
from extractors.depth3d import Depth3dExtractor
from extractors.point_cloud import PointCloud, disagreement, point_cloud, write_ply
from extractors.rgbd_scene import open_scene
from extractors.scene_views import SceneViews, read_views

NUM_VIEWS = 12
WALLS = ROOM.reshape(6)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The room in a world that is turned and moved; its axis alignment turns it back."""
    scene = room_scene(NUM_VIEWS)
    turn = camera_pose(np.array([3.0, -1.0, 0.5]), np.array([1.0, 2.0, 1.5]))
    poses = [turn @ pose for pose in scene["poses"]]  # type: ignore[attr-defined]
    path = tmp_path_factory.mktemp("scenes") / "room"
    arrays = scene | {"poses": poses, "alignment": np.linalg.inv(turn)}
    return write_scene(path, **arrays, colour_suffix=".jpg")


@pytest.fixture(scope="module")
def views(room: Path) -> SceneViews:
    with open_scene(room, "room") as scene:
        return read_views(scene, "room", NUM_VIEWS, 336, 1000)


def wall_of(places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest of the six walls of each place, and the distance to it in metres."""
    distances = np.abs(places[:, :, None] - ROOM).reshape(-1, 6)
    return distances.argmin(axis=1), distances.min(axis=1)


def test_every_wall_is_where_it_is_within_a_centimetre(views: SceneViews) -> None:
    cloud = point_cloud(views)
    assert len(cloud.places) == NUM_VIEWS * 336 * 336
    wall, distance = wall_of(cloud.places.astype(np.float64))
    assert distance.max() < 0.01
    for number, place in enumerate(WALLS):
        on_it = cloud.places[wall == number][:, number // 2]
        assert len(on_it) > 1000
        assert np.median(on_it) == pytest.approx(place, abs=0.003)
    # and has the colour that was painted on it
    red = cloud.colours[wall == 0].mean(axis=0)
    assert red[0] > 2 * red[1]


def test_the_centres_of_the_features_lie_on_the_walls_too(room: Path) -> None:
    extractor = Depth3dExtractor(Depth3dConfig(weights="random:0", embedding="random:0", num_views=NUM_VIEWS))
    centres = extractor.decode(Sample("room", "d", {"scene": room})).tensors["centres"]
    assert centres.shape == (NUM_VIEWS, 576, 3)
    assert wall_of(centres.reshape(-1, 3).astype(np.float64))[1].max() < 0.01


def test_views_that_belong_together_agree_and_others_do_not(views: SceneViews) -> None:
    agreeing = disagreement(views)
    assert agreeing is not None
    assert agreeing < 0.01
    moved = views.poses.copy()
    moved[::2, :3, 3] += [0.2, 0.1, 0.0]
    assert disagreement(replace(views, poses=moved)) > 0.05  # type: ignore[operator]
    swapped = replace(views, poses=np.roll(views.poses, 1, axis=0))
    assert disagreement(swapped) > 0.1  # type: ignore[operator]
    alone = replace(views, frames=np.zeros(NUM_VIEWS, np.int64))
    assert disagreement(alone) is None


def test_pixels_without_depth_and_repeated_views_give_no_points(views: SceneViews) -> None:
    depths = views.depths.copy()
    depths[0, :100] = 0
    frames = views.frames.copy()
    frames[-1] = frames[0]
    holed = replace(views, depths=depths, frames=frames)
    cloud = point_cloud(holed, step=2)
    assert len(cloud.places) == (NUM_VIEWS - 1) * 168 * 168 - 50 * 168
    assert wall_of(cloud.places.astype(np.float64))[1].max() < 0.01
    # as the original has it, they lie on the camera's centre
    world = back_project(depths, views.intrinsics, views.poses)
    np.testing.assert_allclose(world[0, 99, 7], views.poses[0, :3, 3], rtol=1e-6)


def test_hdf5_and_folder_are_the_same_scene(room: Path, tmp_path: Path) -> None:
    with open_scene(room, "room") as scene:
        numbers = range(len(scene.names))
        path = write_scene_hdf5(
            tmp_path / "room.hdf5",
            [scene.colour(number) for number in numbers],
            [scene.depth(number) for number in numbers],
            list(scene.poses),
            scene.intrinsic,
            scene.axis_alignment,
        )
        with open_scene(path, "room") as copy:
            one, two = (read_views(each, "room", 4, 84, 1000) for each in (scene, copy))
    for name in ("frames", "colours", "depths", "intrinsics", "poses"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


def test_a_ply_file_holds_every_point(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cloud = PointCloud(
        rng.normal(size=(7, 3)).astype(np.float32), rng.integers(0, 256, (7, 3), dtype=np.uint8)
    )
    write_ply(cloud, tmp_path / "cloud.ply")
    header, _, body = (tmp_path / "cloud.ply").read_bytes().partition(b"end_header\n")
    lines = header.decode().splitlines()
    assert lines[:3] == ["ply", "format binary_little_endian 1.0", "element vertex 7"]
    types = {"float": "<f4", "uchar": "u1"}
    fields = [line.split()[1:] for line in lines[3:]]
    assert [name for _, name in fields] == ["x", "y", "z", "red", "green", "blue"]
    points = np.frombuffer(body, [(name, types[kind]) for kind, name in fields])
    np.testing.assert_array_equal(np.stack([points[name] for name in "xyz"], axis=1), cloud.places)
    colours = np.stack([points[name] for name in ("red", "green", "blue")], axis=1)
    np.testing.assert_array_equal(colours, cloud.colours)
