"""The channel `depth3d` against the numbers of LLaVA-3D."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from extractor_goldens import golden_cases, read_case
from safetensors.torch import save_file
from small_scenes import write_scene, write_scene_hdf5
from transformers import CLIPImageProcessorPil

from extractors.back_projection import back_project, back_project_pixels, patch_pixels
from extractors.config import Depth3dConfig
from extractors.contract import Sample
from extractors.depth3d import Depth3dExtractor, normalise_pixels
from extractors.rgbd_scene import open_scene
from extractors.scene_views import (
    SceneViews,
    crop_colour,
    crop_depth,
    crop_intrinsic,
    depth_size,
    read_views,
    view_indices,
)

pytestmark = pytest.mark.golden
SCENES = golden_cases("extractors/scene3d*.safetensors")
CLIP_SIZES = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act"),
    *("layer_norm_eps",),
)


def close(found: np.ndarray | torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    """Compare within the tolerance that the golden data suggest."""
    torch.testing.assert_close(
        torch.as_tensor(found, dtype=torch.float32), expected.float(), rtol=0, atol=tolerance
    )


class Case:
    """One golden scene: its tensors, its sizes, and its checkpoints and pictures written to disk."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.tensors, metadata = read_case(path)
        self.config = json.loads(metadata["config"])
        self.num_views, _, self.size, _ = self.tensors["proc.images"].shape
        self.grid = self.tensors["clip.patch_features"].shape[-1]
        self.folder = folder
        self._write_checkpoints()

    def _write_checkpoints(self) -> None:
        clip = {name.removeprefix("param.clip."): value for name, value in self.tensors.items()}
        clip = {name: value for name, value in clip.items() if name.startswith("vision_model.")}
        (self.folder / "clip").mkdir()
        save_file(
            clip | {"visual_projection.weight": torch.ones(2, 2)}, self.folder / "clip" / "model.safetensors"
        )
        sizes = {name: self.config[name] for name in CLIP_SIZES if name in self.config}
        vision = sizes | {"image_size": self.size, "patch_size": self.config["patch"]}
        values = {"model_type": "clip", "vision_config": vision}  # as published: beside a text tower
        (self.folder / "clip" / "config.json").write_text(json.dumps(values))
        names = [name for name in self.tensors if name.startswith("param.video_tower.")]
        checkpoint = {
            f"model.video_tower.{name.removeprefix('param.')}": self.tensors[name] for name in names
        }
        torch.save(
            checkpoint | {"model.norm.weight": torch.ones(3)},
            self.folder / "pytorch_model-00001-of-00002.bin",
        )
        index = {
            "weight_map": dict.fromkeys(checkpoint, "pytorch_model-00001-of-00002.bin")
            | {"lm_head.weight": "pytorch_model-00002-of-00002.bin"}
        }
        (self.folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))

    def extractor(self) -> Depth3dExtractor:
        config = Depth3dConfig(
            weights=str(self.folder / "clip"),
            embedding=str(self.folder),
            num_views=self.num_views,
            depth_scale=self.config["depth_scale"],
            dtype="float32",
        )
        return Depth3dExtractor(config)

    def scene(self) -> dict[str, object]:
        return {
            "colours": self.tensors["scene.rgb_uint8"].numpy(),
            "depths": self.tensors["scene.depth_mm_int32"].numpy().astype(np.uint16),
            "poses": self.tensors["scene.pose_cam_to_world"].numpy(),
            "intrinsic": self.tensors["scene.depth_intrinsic"].numpy(),
            "alignment": self.tensors["scene.axis_align"].numpy(),
        }


@pytest.fixture(params=SCENES, ids=lambda path: path.stem)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    return Case(request.param, tmp_path)


@pytest.fixture
def views(case: Case) -> SceneViews:
    write_scene(case.folder / "scene", **case.scene())
    with open_scene(case.folder / "scene", "s") as scene:
        return read_views(scene, "s", case.num_views, case.size, case.config["depth_scale"])


def test_pictures_and_cameras_are_prepared_as_the_original_does(case: Case, views: SceneViews) -> None:
    close(normalise_pixels(views.colours), case.tensors["proc.images"], 1e-5)
    close(views.depths, case.tensors["proc.depth_m"], 1e-6)
    close(views.intrinsics, case.tensors["proc.intrinsics"], 1e-5)
    close(views.poses, case.tensors["proc.poses"], 1e-5)


def test_pixels_and_patches_land_where_the_original_puts_them(case: Case, views: SceneViews) -> None:
    world = back_project(views.depths, views.intrinsics, views.poses)
    close(world, case.tensors["geom.world_per_pixel"], 1e-5)
    pixels = patch_pixels(case.size, case.grid)
    patches = case.tensors["geom.world_per_patch"]
    close(world[:, pixels[:, None], pixels], patches, 1e-5)
    depths = views.depths[:, pixels[:, None], pixels]
    close(back_project_pixels(depths, pixels, pixels, views.intrinsics, views.poses), patches, 1e-5)


def test_back_projection_alone(case: Case) -> None:
    depth, intrinsics, poses = (
        case.tensors[f"unproject.{name}"].numpy() for name in ("depth_m", "intrinsics", "poses")
    )
    assert (depth == 0).any()
    found = back_project(depth, intrinsics, poses)
    close(found, case.tensors["unproject.world"], 1e-5)
    centres = np.broadcast_to(poses[..., None, None, :3, 3], found.shape)
    np.testing.assert_array_equal(found[depth == 0], centres[depth == 0])


def test_features_from_a_folder_and_from_hdf5_are_those_of_the_original(case: Case) -> None:
    write_scene(case.folder / "scene", **case.scene())
    write_scene_hdf5(case.folder / "scene.h5", **case.scene())
    extractor = case.extractor()
    extractor.load("cpu")
    samples = [Sample(name, "d", {"scene": case.folder / name}) for name in ("scene", "scene.h5")]
    expected = case.tensors["cached_feature"].reshape(case.num_views, case.grid**2, -1)
    patches = case.tensors["geom.world_per_patch"].reshape(case.num_views, case.grid**2, 3)
    for features in extractor.encode([extractor.decode(sample) for sample in samples]):
        values, centres = features.tensors["values"], features.tensors["centres"]
        close(values, expected, 1e-4)
        close(centres, patches, 1e-5)
        rows = values.reshape(case.num_views, case.grid, case.grid, -1)
        close(rows.permute(3, 0, 1, 2), case.tensors["loader_cthw"], 1e-4)
        assert torch.isnan(torch.from_numpy(features.timestamps)).all()
        assert features.attributes["axis_aligned"] is True


def test_tower_and_embedding_alone(case: Case) -> None:
    extractor = case.extractor()
    extractor.load("cpu")
    assert extractor._modules is not None
    tower, embedding = extractor._modules
    with torch.inference_mode():
        tokens = tower(case.tensors["proc.images"])  # (V, P, C)
        places = embedding(case.tensors["geom.world_per_patch"])
    close(tokens, case.tensors["clip.patch_features"].flatten(2).transpose(1, 2), 1e-4)
    close(places, case.tensors["pe.embedding"], 1e-4)


@pytest.mark.parametrize(
    "path", golden_cases("extractors/scene3d_frame_indices*.json"), ids=lambda path: path.stem
)
def test_views_are_chosen_as_the_original_does(path: Path) -> None:
    for case in json.loads(path.read_text()):
        assert view_indices(case["available"], case["num_frames"]).tolist() == case["indices"], case


@pytest.mark.parametrize(
    "path", golden_cases("extractors/scene3d_geometry*.json"), ids=lambda path: path.stem
)
def test_depth_pictures_are_cut_as_the_original_does(path: Path) -> None:
    for case in json.loads(path.read_text()):
        width, height, crop = case["width"], case["height"], case["crop"]
        assert list(depth_size(width, height, crop)) == case["resized_wh"], case
        found = crop_intrinsic(np.array(case["intrinsic_in"]), width, height, crop)
        np.testing.assert_allclose(found, case["intrinsic_out"], rtol=1e-12, atol=1e-9)
        columns, rows = np.meshgrid(np.arange(width, dtype=np.uint16), np.arange(height, dtype=np.uint16))
        for numbers, axis, name in ((columns, 1, "source_cols_every16"), (rows, 0, "source_rows_every16")):
            kept = crop_depth(numbers, crop, 1.0)
            assert kept.shape == (crop, crop)
            assert kept.take(0, axis=1 - axis)[::16].tolist() == case[name], case


@pytest.mark.parametrize(("height", "width"), [(60, 81), (40, 61), (97, 53), (33, 48), (30, 30)])
def test_colours_are_prepared_as_clip_s_own_processor_does(height: int, width: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, size=(height, width, 3), dtype=np.uint8)
    for size in (28, 84):
        processor = CLIPImageProcessorPil(
            size={"shortest_edge": size}, crop_size={"height": size, "width": size}
        )
        expected = processor(picture, return_tensors="pt")["pixel_values"]
        assert torch.equal(normalise_pixels(crop_colour(picture, size)[None]), expected)
