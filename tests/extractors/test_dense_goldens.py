"""The dense channel's frames, pixels, towers and pooling against the original's numbers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from extractor_goldens import GOLDEN, golden_cases, read_case
from torch import Tensor

from extractors.config import VideoTowerSize
from extractors.dense_frames import dense_frame_indices
from extractors.dense_pixels import CLIP_MEAN, CLIP_STD, crop_geometry, pick, squares
from extractors.languagebind_video import VideoTower, pool_tokens
from extractors.video_tower_source import load_video_tower, size_of_config, tower_tensors

golden = pytest.mark.golden


def each_case(pattern: str) -> pytest.MarkDecorator:
    """Run a test with each case file of a pattern; there must be some."""
    return pytest.mark.parametrize("path", golden_cases(pattern), ids=lambda path: path.stem)


def tower_of(tensors: dict[str, Tensor], size: VideoTowerSize) -> VideoTower:
    """The tower of a case's parameters."""
    parameters = {name.removeprefix("param."): tensors[name] for name in tensors if name.startswith("param.")}
    return load_video_tower(tower_tensors(parameters, size), size)


def flat_frames(pixel_values: Tensor) -> Tensor:
    """The original's chunks (K, 3, t, H, W) as frames (K * t, 3, H, W)."""
    return pixel_values.transpose(1, 2).flatten(0, 1)


def squares_of(pictures: np.ndarray, image_size: int) -> Tensor:
    """The tower's input (N, 3, S, S) of pictures (N, H, W, 3)."""
    picked = torch.from_numpy(np.stack([pick(picture, image_size).pixels for picture in pictures]))
    assert picked[0].numel() <= 4 * 3 * image_size**2  # bytes that float32 would have
    return squares(picked, pictures.shape[1:3], image_size)


@golden
@each_case("extractors/dense_frame_indices*.json")
def test_the_same_frames_are_chosen(path: Path) -> None:
    cases: list[dict[str, Any]] = json.loads(path.read_text())
    assert cases
    for case in cases:
        # the original's second decoder knows no minimum
        min_frames = None if case["fallback"] else case["min_frames"]
        found = dense_frame_indices(case["num_frames"], case["fps"], min_frames)
        assert found.tolist() == case["indices"], case
        assert len(found) == case["count"]


@golden
def test_sizes_are_rounded_after_a_quotient_of_floats() -> None:
    # 61 * 224 / 28 is 488; the quotient first, in float64, ends just below it (SPEC, resize).
    assert crop_geometry(28, 61, 224).width == 487


@each_case("extractors/dense_resize_geometry*.json")
def test_pictures_get_the_same_size_and_crop(path: Path) -> None:
    cases: list[dict[str, Any]] = json.loads(path.read_text())
    assert cases
    for case in cases:
        found = crop_geometry(case["height"], case["width"], min(case["resized"]))
        assert [found.height, found.width] == case["resized"], case
        assert (found.top, found.left) == (case["crop_top"], case["crop_left"]), case


@golden
@each_case("extractors/dense_preprocess_*.safetensors")
def test_pixels_are_the_original_s(path: Path) -> None:
    tensors, _ = read_case(path)
    expected = tensors["pixel_values_sub"].transpose(0, 1)  # (F, 3, h, w)
    image_size = VideoTowerSize().image_size
    step = -(-image_size // expected.shape[2])
    found = squares_of(tensors["frames_uint8"].numpy(), image_size)
    torch.testing.assert_close(found[:, :, ::step, ::step], expected, rtol=0, atol=1e-5)


@golden
@each_case("extractors/dense_tower_languagebind*.safetensors")
def test_languagebind_s_tower_from_frames_to_features(path: Path) -> None:
    tensors, metadata = read_case(path)
    config = json.loads(metadata["config"])
    size = size_of_config("languagebind", {"vision_config": config}, path.name)
    frames = tensors["frames_uint8"].numpy()
    indices = dense_frame_indices(len(frames), config["fps"], chunk=size.num_frames)
    assert indices.tolist() == config["indices"]
    pixels = squares_of(frames[indices], size.image_size)
    torch.testing.assert_close(pixels, flat_frames(tensors["pixel_values"]), rtol=0, atol=1e-5)
    with torch.inference_mode():
        tokens = tower_of(tensors, size)(pixels)
    torch.testing.assert_close(tokens[0], tensors["hidden_layer_m2_chunk0_frame0"], rtol=0, atol=1e-4)
    torch.testing.assert_close(pool_tokens(tokens), tensors["pooled"], rtol=0, atol=1e-4)


@golden
@each_case("extractors/dense_tower_clip*.safetensors")
def test_a_plain_clip_tower(path: Path) -> None:
    tensors, metadata = read_case(path)
    size = size_of_config("clip", {"vision_config": json.loads(metadata["config"])}, path.name)
    with torch.inference_mode():
        tokens = tower_of(tensors, size)(tensors["pixel_values"])
    torch.testing.assert_close(tokens[0], tensors["hidden_m2_frame0"], rtol=0, atol=1e-4)
    torch.testing.assert_close(pool_tokens(tokens), tensors["pooled"], rtol=0, atol=1e-4)


@golden
@pytest.mark.parametrize(
    "path", sorted(GOLDEN.glob("extractors/dense_tower_real_shapes*.json")), ids=lambda path: path.stem
)
def test_the_default_size_has_the_published_names_and_shapes(path: Path) -> None:
    published: dict[str, list[int]] = json.loads(path.read_text())["tensors"]
    with torch.device("meta"):
        # with one layer more, that of the checkpoint which is never run is made too
        one_more = VideoTowerSize(num_hidden_layers=VideoTowerSize().num_hidden_layers + 1)
        made = VideoTower(one_more).state_dict()
    shapes = {f"vision_model.{name}": list(tensor.shape) for name, tensor in made.items()}
    norm = {name: shape for name, shape in published.items() if ".post_layernorm." in name}
    assert shapes | norm == published
    assert len(norm) == 2


@pytest.mark.parametrize(
    ("height", "width"), [(1, 7), (48, 64), (225, 224), (224, 224), (359, 641), (1147, 751), (1080, 1920)]
)
def test_pixels_are_those_of_torch_s_interpolation(height: int, width: int) -> None:
    picture = np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    geometry = crop_geometry(height, width, 224)
    scaled = torch.from_numpy(picture).permute(2, 0, 1).float() / 255
    normalised = (scaled - torch.tensor(CLIP_MEAN)[:, None, None]) / torch.tensor(CLIP_STD)[:, None, None]
    whole = F.interpolate(
        normalised[None], (geometry.height, geometry.width), mode="bilinear", align_corners=False
    )
    expected = whole[0, :, geometry.top :, geometry.left :][:, :224, :224]
    torch.testing.assert_close(squares_of(picture[None], 224)[0], expected, rtol=0, atol=1e-5)
