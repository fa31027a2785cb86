"""The channel `depth3d`: the contract, layouts of scenes and checkpoints, and what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from extractor_contract import ExtractorContract, SampleOf, same_bits
from hub_cache import FakeHub
from PIL import Image
from safetensors.torch import load_file, save_file
from small_scenes import room_poses, room_scene, write_scene, write_scene_hdf5
from transformers import CLIPVisionConfig, CLIPVisionModel

from extractors.config import Depth3dConfig
from extractors.contract import Sample
from extractors.depth3d import Depth3dExtractor
from extractors.errors import MediaError, WeightsError
from extractors.position_embedding_3d import random_embedding

SMALL = (48, 64)  # pixels of the pictures
WIDTH = 8


def extractor_of(**changes: object) -> Depth3dExtractor:
    """An extractor of few views with random weights."""
    values = {"weights": "random:0", "embedding": "random:1", "num_views": 2, "dtype": "float32"}
    return Depth3dExtractor(Depth3dConfig.model_validate(values | changes))


def sample_in(path: Path) -> Sample:
    return Sample(path.name, "scenes", {"scene": path})


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder, the same kind of scene in one file with other pictures, and two that cannot be used."""
    folder = tmp_path_factory.mktemp("scenes")
    arrays = room_scene(4, SMALL)
    write_scene(folder / "folder", **arrays, colour_suffix=".jpg")
    backwards = {name: arrays[name][::-1] for name in ("colours", "depths", "poses")}
    write_scene_hdf5(folder / "file.h5", **arrays | backwards)
    (folder / "empty").mkdir()
    (folder / "text.h5").write_text("no HDF5")
    return folder


@pytest.fixture
def sample_of(scenes: Path) -> SampleOf:
    return lambda name: sample_in(scenes / name)


class TestDepth3dExtractor(ExtractorContract):
    clip_names = ("folder", "file.h5")
    bad_names = ("empty", "text.h5", "absent")
    role = "scene"
    times = "none"

    def make(self, dtype: str = "float32") -> Depth3dExtractor:
        return extractor_of(dtype=dtype)


def test_frames_are_numbers_that_have_all_files_and_a_finite_pose(tmp_path: Path) -> None:
    poses = room_poses(8)
    poses[3] = np.full((4, 4), -np.inf)
    poses[5][0, 3] = np.nan
    numbers = [0, 2, 10, 20, 100, 101, 200, 1000]  # by number, not by name
    scene = write_scene(tmp_path / "scene", **room_scene(8, SMALL) | {"poses": poses}, numbers=numbers)
    (scene / "depth" / "101.png").unlink()
    (scene / "color" / "7.jpg").touch()  # no other file of that number
    (scene / "color" / "notes.png").touch()
    decoded = extractor_of(num_views=3).decode(sample_in(scene))
    # tracked: 0, 2, 10, 100, 200, 1000; every second of them
    assert decoded.attributes == {
        "frames": ["0", "10", "200"],
        "frames_without_pose": 1,
        "axis_aligned": False,
    }
    assert decoded.n_frames == 7
    few = extractor_of(num_views=8).decode(sample_in(scene))
    assert few.attributes["frames"] == ["0", "2", "10", "100", "200", "1000", "0", "2"]
    for name in ("pixels", "centres"):
        np.testing.assert_array_equal(few.tensors[name][6:], few.tensors[name][:2])


def test_depth_is_in_the_units_that_were_given(scenes: Path) -> None:
    metres, quarters = (
        extractor_of(depth_scale=scale).decode(sample_in(scenes / "folder")) for scale in (1000, 4000)
    )
    places = np.stack(room_poses(4))[[0, 2], None, :3, 3]
    np.testing.assert_allclose(
        quarters.tensors["centres"] - places, (metres.tensors["centres"] - places) / 4, atol=1e-6
    )


@pytest.fixture
def broken(tmp_path: Path, scenes: Path) -> Callable[..., Sample]:
    """Copy the folder with one file changed: new bytes, or None to remove it."""

    def change(name: str, content: bytes | None) -> Sample:
        path = tmp_path / f"scene{len(list(tmp_path.iterdir()))}"
        shutil.copytree(scenes / "folder", path)
        (path / name).unlink()
        if content is not None:
            (path / name).write_bytes(content)
        return sample_in(path)

    return change


def picture(path: Path, image: Image.Image) -> bytes:
    image.save(path)
    return path.read_bytes()


def test_scenes_that_cannot_be_used_are_named(
    broken: Callable[..., Sample], scenes: Path, tmp_path: Path
) -> None:
    depth = (scenes / "folder" / "depth" / "0.png").read_bytes()
    cases = {
        r"color/0\.jpg cannot be read as a picture": broken("color/0.jpg", b"\xff\xd8 no picture"),
        r"depth/0\.png cannot be read as a picture": broken("depth/0.png", depth[: len(depth) // 2]),
        r"depth/0\.png is no 16-bit picture": broken(
            "depth/0.png", picture(tmp_path / "8.png", Image.new("L", (64, 48), 7))
        ),
        r"color/0\.jpg has 2 x 400 pixels": broken(
            "color/0.jpg", picture(tmp_path / "thin.png", Image.new("RGB", (2, 400)))
        ),
        r"pose/1\.txt does not hold the 16 numbers": broken("pose/1.txt", b"1 0 0\n0 1"),
        "the pose of frame 2 is no camera pose": broken("pose/2.txt", b"0 " * 15 + b"1"),
        "the pose of frame 0 is no camera pose": broken("pose/0.txt", b"1e300 " * 16),
        "pose of frame 2 is no camera": broken("pose/2.txt", b"1 0 0 0  0 1 0 0  0 0 1 0  0 0 1 0"),
        r"intrinsic/intrinsic_depth\.txt does not hold": broken(
            "intrinsic/intrinsic_depth.txt", b"\xff" * 90
        ),
        r"there is no intrinsic/intrinsic_depth\.txt": broken("intrinsic/intrinsic_depth.txt", None),
        "intrinsics are no camera matrix": broken("intrinsic/intrinsic_depth.txt", b"0 " * 16),
        "the scene has no folder 'color'": sample_in(scenes / "empty"),
        "the file cannot be opened as HDF5": sample_in(scenes / "text.h5"),
        "the scene does not exist": sample_in(scenes / "absent"),
        "neither a folder nor an HDF5 file": sample_in(scenes / "folder" / "pose" / "0.txt"),
    }
    lost = broken("pose/0.txt", b"-inf " * 16)
    for number in (1, 2, 3):
        (lost.path("scene") / "pose" / f"{number}.txt").write_text("nan " * 16)
    dark = broken("depth/0.png", picture(tmp_path / "dark.png", Image.new("I;16", (64, 48))))
    shutil.copy(tmp_path / "dark.png", dark.path("scene") / "depth" / "2.png")
    twice = broken("color/0.jpg", (scenes / "folder" / "color" / "0.jpg").read_bytes())
    shutil.copy(twice.path("scene") / "color" / "0.jpg", twice.path("scene") / "color" / "000.jpg")
    cases |= {
        "none of its 4 frames has a finite pose": lost,
        "no chosen view has any depth": dark,
        r"0\.jpg and 000\.jpg in color are both frame 0|000\.jpg and 0\.jpg in color": twice,
    }
    for reason, sample in cases.items():
        with pytest.raises(MediaError, match=reason) as caught:
            extractor_of().decode(sample)
        assert str(caught.value).startswith(f"{sample.sample_id}: ")
        assert "\n" not in str(caught.value)


def test_hdf5_files_that_are_no_scenes_or_point_elsewhere_are_named(scenes: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.h5"
    shutil.copy(scenes / "file.h5", secret)

    def outside(file: h5py.File) -> None:
        del file["depth"]
        file["depth"] = h5py.ExternalLink(str(secret), "depth")

    def soft(file: h5py.File) -> None:
        file.move("intrinsic", "else")
        file["intrinsic"] = h5py.SoftLink("/else")

    def virtual(file: h5py.File) -> None:
        shape, dtype = file["depth"].shape, file["depth"].dtype
        del file["depth"]
        layout = h5py.VirtualLayout(shape, dtype)
        layout[:] = h5py.VirtualSource(str(secret), "depth", shape)
        file.create_virtual_dataset("depth", layout)

    def replaced(name: str, value: object) -> Callable[[h5py.File], None]:
        def change(file: h5py.File) -> None:
            del file[name]
            file[name] = value

        return change

    changes: dict[str, Callable[[h5py.File], None]] = {
        "'depth' is reached by a link": outside,
        "'intrinsic/intrinsic_depth' is reached by a link": soft,
        "'depth' is no dataset that is kept in this file": virtual,
        "the file has no dataset 'pose'": lambda file: file.__delitem__("pose"),
        r"the dataset 'pose' is float64 \(3, 4, 4\), not numbers \(4 x 4 x 4\)": replaced(
            "pose", np.zeros((3, 4, 4))
        ),
        r"the dataset 'depth' is float32 .*, not uint16": replaced("depth", np.ones((4, 9, 9), np.float32)),
        "the dataset 'pose' is object": replaced("pose", "text"),
        "'color' is no dataset": lambda file: (file.__delitem__("color"), file.create_group("color")),  # type: ignore[dict-item, return-value]
    }
    for number, (reason, change) in enumerate(changes.items()):
        path = tmp_path / f"{number}.h5"
        shutil.copy(scenes / "file.h5", path)
        with h5py.File(path, "r+") as file:
            change(file)
        with pytest.raises(MediaError, match=reason):
            extractor_of().decode(sample_in(path))


@pytest.fixture
def checkpoints(tmp_path: Path) -> dict[str, Path]:
    """A tiny CLIP tower in three layouts, and its position embedding in one file."""
    config = CLIPVisionConfig(
        image_size=84,
        patch_size=14,
        hidden_size=WIDTH,
        intermediate_size=12,
        num_hidden_layers=3,
        num_attention_heads=2,
    )
    torch.manual_seed(0)
    model = CLIPVisionModel(config)
    folders = {name: tmp_path / name for name in ("alone", "whole", "pickled")}
    model.save_pretrained(folders["alone"])
    published = {f"vision_model.{name}": value for name, value in model.state_dict().items()}
    published |= {"text_model.embeddings.position_ids": torch.arange(3), "logit_scale": torch.ones(())}
    for name in ("whole", "pickled"):
        folders[name].mkdir()
        values = {"model_type": "clip", "vision_config": config.to_dict()}
        (folders[name] / "config.json").write_text(json.dumps(values))
    save_file(published, folders["whole"] / "model.safetensors")
    torch.save(published, folders["pickled"] / "pytorch_model.bin")
    embedding = random_embedding(3, WIDTH).state_dict()
    prefix = "model.video_tower.video_tower.positional_embedding."
    folders["embedding"] = tmp_path / "llava-3d.safetensors"
    save_file(
        {prefix + name: value for name, value in embedding.items()} | {"lm_head.weight": torch.ones(2)},
        folders["embedding"],
    )
    return folders


def test_every_layout_of_a_checkpoint_is_the_same_checkpoint(
    checkpoints: dict[str, Path], scenes: Path, hub: FakeHub
) -> None:
    hub.publish("openai/clip-tiny", list(checkpoints["pickled"].iterdir()))
    sources = [str(checkpoints[name]) for name in ("alone", "whole", "pickled")] + ["openai/clip-tiny"]
    results = []
    for weights in sources:
        extractor = extractor_of(weights=weights, embedding=str(checkpoints["embedding"]))
        extractor.load("cpu")
        features = extractor.encode([extractor.decode(sample_in(scenes / "folder"))])[0]
        results.append((extractor.spec, features))
    spec, features = results[0]
    assert [(tensor.tokens, tensor.dim) for tensor in spec.tensors] == [(36, WIDTH), (36, 3)]
    assert spec.licence == "MIT (CLIP), CC-BY-NC-SA 4.0 (LLaVA-3D position embedding)"
    for other_spec, other in results[1:]:
        assert other_spec.fingerprint() == spec.fingerprint()
        assert same_bits(other, features)


def test_the_fingerprint_is_that_of_the_numbers(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    weights, embedding = str(checkpoints["alone"]), str(checkpoints["embedding"])

    def changed(name: str) -> str:
        folder = tmp_path / name.replace("/", "_")
        shutil.copytree(checkpoints["alone"], folder)
        tensors = load_file(folder / "model.safetensors")
        key = next(key for key in tensors if key.endswith(name))
        save_file(tensors | {key: tensors[key] + 1e-3}, folder / "model.safetensors")
        return str(folder)

    def fingerprint(**changes: object) -> str:
        return extractor_of(**{"weights": weights, "embedding": embedding} | changes).spec.fingerprint()

    first = fingerprint()
    assert fingerprint(weights=changed("layers.2.mlp.fc1.bias")) == first  # the last layer is not used
    assert fingerprint(weights=changed("post_layernorm.bias")) == first
    others = [
        fingerprint(weights=changed("layers.1.mlp.fc1.bias")),
        fingerprint(embedding="random:4"),
        fingerprint(embedding="random:5"),
        fingerprint(num_views=3),
        fingerprint(depth_scale=4000.0),
        fingerprint(dtype="float16"),
    ]
    assert len({first, *others}) == 7


def test_checkpoints_that_do_not_fit_are_named(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    def copy(name: str, **values: object) -> str:
        folder = tmp_path / name
        shutil.copytree(checkpoints["alone"], folder)
        config = json.loads((folder / "config.json").read_text()) | values
        (folder / "config.json").write_text(json.dumps(config))
        return str(folder)

    evil = Path(copy("evil"))
    (evil / "model.safetensors").unlink()
    index = {"weight_map": {"embeddings.class_embedding": "../alone/model.safetensors"}}
    (evil / "model.safetensors.index.json").write_text(json.dumps(index))
    bare = Path(copy("bare"))
    (bare / "model.safetensors").unlink()
    embedding = str(checkpoints["embedding"])
    cases = [
        ({"weights": copy("siglip", model_type="siglip_vision_model")}, "is a 'siglip_vision_model' model"),
        ({"weights": copy("heads", num_attention_heads=3)}, "makes no clip tower"),
        ({"weights": copy("shallow", num_hidden_layers=1)}, "fewer than two layers"),
        ({"weights": copy("wide", intermediate_size=16)}, "wrong shape: .*mlp.fc1"),
        ({"weights": str(evil)}, r"there is no \.\./alone/model.safetensors in"),
        ({"weights": str(bare)}, "no folder or hub model with model.safetensors or pytorch_model.bin"),
        ({"weights": str(tmp_path / "nothing")}, r"no config\.json in"),
        ({"weights": str(checkpoints["alone"]), "embedding": str(bare)}, "no folder or hub model with"),
        ({"embedding": embedding}, "wrong shape: position_embedding_head.0.bias"),  # the tower is wider
        (
            {"embedding": str(checkpoints["alone"] / "model.safetensors")},
            "has no 3D position embedding; give the LLaVA-3D checkpoint",
        ),
    ]
    for changes, reason in cases:
        with pytest.raises(WeightsError, match=reason) as caught:
            extractor_of(**changes).load("cpu")
        assert "\n" not in str(caught.value)
