"""The files of `takes` and `rooms` as the extractors read them: which pictures, whose colours, at which places."""

import json
from pathlib import Path

import numpy as np
import pytest

from extractors.back_projection import patch_pixels
from extractors.config import Depth3dConfig, ExoConfig, FramesConfig
from extractors.contract import Sample
from extractors.depth3d import Depth3dExtractor
from extractors.exo import ExoExtractor
from extractors.key_pictures import decode_key_pictures
from extractors.scannet_folder import is_scene_folder
from tasks import sidecue, sidecue_rooms
from tasks.sidecue_world import COLOURS

CONFIG = sidecue.SideCueConfig(splits={"train": 4}, worlds=("takes", "rooms"), seed=2)
GREYS = 25  # how much a painted surface's channels differ after the video's compression at most


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    sidecue.make(folder, CONFIG, workers=1)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def samples(root: Path, world: sidecue.WorldName) -> list[tuple[sidecue.Clip, Sample]]:
    """The drawn clips beside their files, as the annotations name them."""
    listed = {
        entry["sample_id"]: entry["media"]
        for entry in json.loads((root / "annotations" / "train.json").read_text())
    }
    return [
        (clip, Sample(clip.sample_id, "sidecue", {r: root / p for r, p in listed[clip.sample_id].items()}))
        for clip in sidecue.draw_clips(CONFIG, world, "train")
    ]


def test_the_same_seed_gives_the_same_files_and_another_seed_others(root: Path, tmp_path: Path) -> None:
    sidecue.make(tmp_path / "again", CONFIG, workers=2)
    assert contents(tmp_path / "again") == contents(root)
    sidecue.make(tmp_path / "other", CONFIG.model_copy(update={"seed": 3}), workers=2)
    other = contents(tmp_path / "other")
    drawn = [name for name in other if name.endswith((".mp4", ".png")) or "/pose/" in name]
    assert len(drawn) == 4 * (2 + 3 * sidecue_rooms.NUM_VIEWS)
    assert all(other[name] != contents(root)[name] for name in drawn)


def test_the_exo_extractor_sees_what_the_box_hides(root: Path) -> None:
    extractor = ExoExtractor(ExoConfig(weights="random:0", num_frames=5))
    for clip, sample in samples(root, "takes"):
        decoded = extractor.decode(sample)
        assert decoded.attributes == {"cameras": ["behind"], "missing_cameras": {}}
        pixels = decoded.tensors["pixels"][0].astype(int)  # (5, H, W, 3)
        for name, colour in COLOURS.items():
            shown = (abs(pixels - colour).max(axis=-1) < GREYS).mean(axis=(1, 2))
            if name == clip.answers["behind_colour"]:
                assert (shown > 0.05).all()  # large in each frame
            else:
                assert (shown < 0.002).all(), name


def test_depth3d_finds_both_balls_where_they_are(root: Path) -> None:
    config = Depth3dConfig(weights="random:0", embedding="random:0", num_views=sidecue_rooms.NUM_VIEWS)
    extractor = Depth3dExtractor(config)
    for clip, sample in samples(root, "rooms"):
        decoded = extractor.decode(sample)
        assert decoded.attributes["frames"] == [str(number) for number in range(sidecue_rooms.NUM_VIEWS)]
        centres = decoded.tensors["centres"].reshape(-1, 3)
        for x, y, z, radius in sidecue_rooms.balls(clip):
            on_ball = abs(np.linalg.norm(centres - (x, y, z), axis=1) - radius) < 0.01
            assert on_ball.sum() >= sidecue_rooms.NUM_VIEWS
        size = extractor.tower.config.image_size
        places = patch_pixels(size, extractor.tower.grid)
        shown = decoded.tensors["pixels"][:, places[:, None], places].reshape(-1, 3)
        for name in clip.ball_colours:
            assert (abs(shown.astype(int) - COLOURS[name]).max(axis=-1) < GREYS).any()


def test_key_frames_of_a_room_are_its_views(root: Path) -> None:
    for _, sample in samples(root, "rooms"):
        scene = sample.path("scene")
        assert is_scene_folder(scene)
        frames = FramesConfig(base="", num_frames=sidecue_rooms.NUM_VIEWS)
        decoded = decode_key_pictures(
            "scene", scene, sample.sample_id, frames.num_frames, frames.scene_frames, lambda picture: picture
        )
        assert decoded.attributes["frames"] == [str(number) for number in range(sidecue_rooms.NUM_VIEWS)]
        assert (
            len(np.unique(decoded.tensors["pixels"].reshape(len(decoded.tensors["pixels"]), -1), axis=0)) > 4
        )
