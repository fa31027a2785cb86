"""Key frames of RGB-D scenes and of folders of numbered pictures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from extractor_contract import open_files
from extractor_goldens import GOLDEN
from PIL import Image
from small_media import write_video
from small_scenes import room_poses, room_scene, write_scene, write_scene_hdf5

from extractors.config import Depth3dConfig, FramesConfig
from extractors.contract import Decoded, Sample
from extractors.depth3d import Depth3dExtractor
from extractors.errors import MediaError
from extractors.frames import FramesExtractor, key_frame_pixels

BASE = GOLDEN / "pave_patch" / "checkpoint_case" / "base_hf"
SMALL = (12, 16)


def extractor_of(num_frames: int, **changes: object) -> FramesExtractor:
    return FramesExtractor(FramesConfig(base=str(BASE), num_frames=num_frames, **changes))


def decoded(role: str, path: Path, num_frames: int, **changes: object) -> Decoded:
    return extractor_of(num_frames, **changes).decode(Sample("s", "d", {role: path}))


def write_pictures(folder: Path, names: Sequence[str]) -> list[np.ndarray]:
    """Write pictures of one colour each, losslessly where the name ends in .png; what they show."""
    folder.mkdir(exist_ok=True)
    shown = [np.full((*SMALL, 3), 10 * number, np.uint8) for number in range(len(names))]
    for name, pixels in zip(names, shown, strict=True):
        Image.fromarray(pixels).save(folder / name, quality=100)
    return shown


def test_pictures_are_in_the_order_of_their_numbers_cut_or_filled_up_with_the_last(tmp_path: Path) -> None:
    shown = write_pictures(tmp_path / "p", ["frame_2.png", "10.jpg", "0100.PNG", "7.jpeg"])
    (tmp_path / "p" / "notes.txt").touch()
    few, more = (decoded("images", tmp_path / "p", number) for number in (2, 6))
    in_order = ["frame_2.png", "7.jpeg", "10.jpg", "0100.PNG"]
    assert few.attributes == {"frames": in_order[:2]}
    assert more.attributes == {"frames": [*in_order, *in_order[-1:] * 2]}
    assert (few.n_frames, few.duration, few.fps) == (4, None, None)
    assert np.isnan(few.timestamps).all()
    np.testing.assert_array_equal(few.tensors["pixels"], key_frame_pixels([shown[0], shown[3]], 384))
    np.testing.assert_array_equal(more.tensors["pixels"][3:], key_frame_pixels([shown[2]] * 3, 384))
    spread = decoded("images", tmp_path / "p", 2, image_frames="views")
    assert spread.attributes == {"frames": ["frame_2.png", "10.jpg"]}


@pytest.mark.parametrize("num_frames", [2, 3, 8])
def test_the_key_frames_of_a_scene_are_the_views_of_depth3d(tmp_path: Path, num_frames: int) -> None:
    poses = room_poses(7)
    poses[1] = np.full((4, 4), -np.inf)
    arrays = room_scene(7, SMALL) | {"poses": poses}
    scenes = [write_scene(tmp_path / "scene", **arrays), write_scene_hdf5(tmp_path / "scene.h5", **arrays)]
    depth3d = Depth3dExtractor(Depth3dConfig(weights="random:0", embedding="random:1", num_views=num_frames))
    for scene in scenes:
        found = decoded("scene", scene, num_frames)
        views = depth3d.decode(Sample("s", "d", {"scene": scene}))
        assert found.attributes["frames"] == views.attributes["frames"]
        assert (found.attributes["frames_without_pose"], found.n_frames) == (1, 7)
        pictures = [arrays["colours"][int(name)] for name in found.attributes["frames"]]
        np.testing.assert_array_equal(found.tensors["pixels"], key_frame_pixels(pictures, 384))
    first = decoded("scene", scenes[0], num_frames, scene_frames="first")
    assert first.attributes["frames"] == [str(min(number, 6)) for number in range(num_frames)]


def test_a_video_goes_before_a_scene_and_a_scene_before_pictures(tmp_path: Path) -> None:
    write_pictures(tmp_path / "p", ["0.jpg"])
    media = {"images": tmp_path / "p", "scene": write_scene(tmp_path / "scene", **room_scene(3, SMALL))}
    extractor = extractor_of(2)
    assert "frames_without_pose" in extractor.decode(Sample("s", "d", media)).attributes
    media["video"] = write_video(tmp_path / "clip.mkv", 5)
    np.testing.assert_allclose(extractor.decode(Sample("s", "d", media)).timestamps, [0.0, 0.16])
    media["video"].write_text("broken")
    with pytest.raises(MediaError, match="not a media file"):  # nothing takes its place
        extractor.decode(Sample("s", "d", media))


def test_the_choice_of_pictures_is_in_the_fingerprint_only_where_it_is_another() -> None:
    default = extractor_of(2).spec
    assert not default.identity.keys() & {"scene_frames", "image_frames"}  # older feature sets stay the same
    others = [extractor_of(2, scene_frames="first").spec, extractor_of(2, image_frames="views").spec]
    assert len({spec.fingerprint() for spec in (default, *others)}) == 3


def test_pictures_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    def folder(name: str, **files: bytes | Image.Image) -> Path:
        (tmp_path / name).mkdir()
        for file, content in files.items():
            path = tmp_path / name / file.replace("_", ".")
            if isinstance(content, bytes):
                path.write_bytes(content)
            else:
                content.save(path)
        return tmp_path / name

    good = Image.new("RGB", (16, 12))
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    whole = (folder("whole", **{"0_png": noise}) / "0.png").read_bytes()
    cases = {
        r"the folder does not exist \(.*absent\)": tmp_path / "absent",
        r"no folder of pictures \(.*0\.png\)": tmp_path / "whole" / "0.png",
        r"the folder has no pictures \(.*none\)": folder("none"),
        r"the name of cover\.jpg does not end with a number": folder(
            "cover", **{"0_png": good, "cover_jpg": good}
        ),
        r"01\.png and 1\.png are both number 1": folder("two", **{"01_png": good, "1_png": good}),
        r"text/0\.jpg cannot be read as a picture": folder("text", **{"0_jpg": b"\xff\xd8 no picture"}),
        r"half/3\.png cannot be read as a picture": folder("half", **{"3_png": whole[: len(whole) // 2]}),
        r"thin/0\.png has 2 x 400 pixels": folder("thin", **{"0_png": Image.new("RGB", (2, 400))}),
        r"depth/0\.png has no 8-bit colours": folder("depth", **{"0_png": Image.new("I;16", (16, 12), 7)}),
        r"wide/0\.png has 9000 x 8000 pixels": folder("wide", **{"0_png": Image.new("1", (9000, 8000))}),
        r"bomb/0\.png cannot be read": folder("bomb", **{"0_png": Image.new("1", (20000, 10000))}),
    }
    before = open_files()
    for reason, path in cases.items():
        with pytest.raises(MediaError, match=f"^s: {reason}.*; ") as caught:
            decoded("images", path, 2)
        assert "\n" not in str(caught.value)
    broken = write_scene_hdf5(tmp_path / "scene.h5", **room_scene(2, SMALL) | {"intrinsic": np.zeros((4, 4))})
    with pytest.raises(MediaError, match="no camera matrix"):
        decoded("scene", broken, 2)
    assert open_files() == before
