"""`pave inspect depth3d`: a point cloud and a picture of a scene, and one line about how well it fits."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from pave_process import invoke
from PIL import Image
from small_scenes import ROOM, room_scene, write_scene

from pipelines.config import InspectSceneConfig
from pipelines.inspect_scene import inspect_scene
from pipelines.plot_style import COLOURS


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scene = room_scene(12, (240, 320))
    path = tmp_path_factory.mktemp("scenes") / "room"
    return write_scene(path, **scene | {"alignment": np.eye(4)}, colour_suffix=".jpg")


@pytest.fixture
def room(kept: Path, tmp_path: Path) -> Path:
    """A room that a test may change."""
    return Path(shutil.copytree(kept, tmp_path / "room"))


def test_a_scene_becomes_a_point_cloud_and_a_picture(room: Path, tmp_path: Path) -> None:
    (room / "pose" / "5.txt").write_text("-inf " * 16)
    result = invoke("inspect", "depth3d", room, "--out", tmp_path / "out", "--step", 4)
    lines = result.stdout.splitlines()
    assert lines[0] == "room: 12 frames, 1 without a pose, 11 views"
    assert lines[1].startswith(f"{11 * 84 * 84} points, 100% of the pixels have depth, 4.5")
    assert lines[1].endswith("m (axis-aligned)")
    assert lines[2].startswith("two views of a place differ by 0.")
    assert lines[2].endswith(" cm in the median")
    points = (tmp_path / "out" / "points.ply").read_bytes().partition(b"end_header\n")[2]
    assert len(points) == 15 * 11 * 84 * 84
    with Image.open(tmp_path / "out" / "scene.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert min(pixels.shape[:2]) > 500
    path = [int(COLOURS[5][at : at + 2], 16) for at in (1, 3, 5)]  # of the camera
    for colour in ([200, 60, 60], [60, 200, 60], [60, 60, 200], path):
        assert (np.abs(pixels - colour).sum(axis=2) < 40).sum() > 20, colour


def test_the_box_around_the_points_is_the_room(kept: Path, tmp_path: Path) -> None:
    report = inspect_scene(InspectSceneConfig(scene=kept, out=tmp_path), "room")
    np.testing.assert_allclose([report.low, report.high], ROOM.T, atol=0.01)
    assert report.disagreement is not None
    assert report.disagreement < 0.005


def test_poses_of_another_scene_are_noticed(room: Path, tmp_path: Path) -> None:
    poses = sorted((room / "pose").iterdir())
    texts = [path.read_text() for path in poses]
    for path, text in zip(poses, texts[1:] + texts[:1], strict=True):
        path.write_text(text)
    report = inspect_scene(InspectSceneConfig(scene=room, out=tmp_path / "out", step=8), "room")
    assert report.disagreement is not None
    assert report.disagreement > 0.1
    assert "do poses and depths belong together?" in report.summary()


def test_what_cannot_be_looked_at_is_one_line(tmp_path: Path) -> None:
    result = invoke("inspect", "depth3d", tmp_path / "absent", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: absent: the scene does not exist")
    assert not (tmp_path / "out").exists()
    result = invoke("inspect", "depth3d", tmp_path, "--out", tmp_path / "out", "--num-views", 0)
    assert result.stderr.startswith("error: pave inspect depth3d: num_views: Input should be greater than 0")
