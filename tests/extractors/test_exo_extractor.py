"""The channel `exo`: the contract, the golden numbers, and cameras that are missing."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from extractor_contract import ExtractorContract, SampleOf, same_bits
from extractor_goldens import golden_cases, read_case
from safetensors.torch import load_file, save_file
from small_media import shown_number, write_video
from transformers import SiglipVisionConfig, SiglipVisionModel

from extractors.config import ExoConfig, Pooling
from extractors.contract import Decoded, Sample
from extractors.errors import MediaError, WeightsError
from extractors.exo import ExoExtractor, interleave, num_tokens, pool
from extractors.key_frames import key_frame_indices

TAKES = {
    "lab": {"cam02": ("b.mkv", 9, 180), "cam01": ("a.mkv", 12, 0)},
    "kitchen": {"gp03": ("a.mkv", 30, 180), "gp01": ("c.mkv", 5, 0), "gp02": ("b.mkv", 12, 0)},
}


def extractor_of(**changes: object) -> ExoExtractor:
    """An extractor of few frames with random weights."""
    values = {"weights": "random:0", "num_frames": 2, "dtype": "float32"}
    return ExoExtractor(ExoConfig.model_validate(values | changes))


@pytest.fixture(scope="module")
def takes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Path]]:
    """Per take its cameras' videos of different lengths."""
    folder = tmp_path_factory.mktemp("takes")
    found: dict[str, dict[str, Path]] = {}
    for take, cameras in TAKES.items():
        (folder / take).mkdir()
        found[take] = {
            camera: write_video(folder / take / name, frames, rotation=rotation)
            for camera, (name, frames, rotation) in cameras.items()
        }
    (folder / "text.mp4").write_text("no video")
    found["broken"] = {"cam01": folder / "text.mp4", "cam02": folder / "absent.mp4"}
    found["ego only"] = {}
    return found


def take_sample(name: str, cameras: dict[str, Path]) -> Sample:
    return Sample(name, "takes", {f"exo/{camera}": path for camera, path in cameras.items()})


@pytest.fixture
def sample_of(takes: dict[str, dict[str, Path]]) -> SampleOf:
    return lambda name: take_sample(name, takes[name])


class TestExoExtractor(ExtractorContract):
    clip_names = ("lab", "kitchen")
    bad_names = ("broken", "ego only")
    role = "exo/..."
    times = "shared"

    def make(self, dtype: str = "float32") -> ExoExtractor:
        return extractor_of(dtype=dtype)


def one_unit(found: torch.Tensor, expected: torch.Tensor) -> None:
    """bfloat16 numbers differ by at most one unit in the last place (or 1e-4 near zero)."""
    assert found.dtype == expected.dtype == torch.bfloat16
    bits = [tensor.contiguous().view(torch.int16).int() for tensor in (found, expected)]
    ordered = [torch.where(number < 0, -(number & 0x7FFF), number) for number in bits]
    close = (found.float() - expected.float()).abs() <= 1e-4
    assert bool(((ordered[0] - ordered[1]).abs() <= 1).logical_or(close).all())


CASES = golden_cases("extractors/exo_*.safetensors")


@pytest.mark.golden
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_tokens_are_those_of_the_original(path: Path, tmp_path: Path) -> None:
    tensors, metadata = read_case(path)
    case = json.loads(metadata["config"])
    parameters = {
        name.removeprefix("param."): value for name, value in tensors.items() if name.startswith("param.")
    }
    save_file(parameters, tmp_path / "model.safetensors")
    sizes = {name: case[name] for name in SiglipVisionConfig().to_dict().keys() & case.keys()}
    values = {"model_type": "siglip", "vision_config": sizes}  # as published: beside a text tower
    (tmp_path / "config.json").write_text(json.dumps(values))

    extractor = extractor_of(weights=str(tmp_path), dtype="bfloat16")
    extractor.load("cpu")
    assert extractor._module is not None
    pooled = []
    with torch.inference_mode():
        for number, camera in enumerate(case["cameras"]):
            tokens = extractor._module(tensors[f"pixel_values.{camera}"])  # (T, P, C)
            if number == 0:
                first = tensors["tower_features_first_frame"]
                torch.testing.assert_close(tokens[0], first, rtol=0, atol=1e-4)
            pooled.append(pool(tokens, "bilinear").to(torch.bfloat16))
            one_unit(pooled[-1], tensors[f"feature_bf16.{camera}"])
    stored = interleave(torch.stack([tensors[f"feature_bf16.{camera}"] for camera in case["cameras"]]))
    expected = tensors["interleaved_cthw_bf16"]  # (C, T * V, rows, columns)
    assert torch.equal(stored, expected.permute(1, 2, 3, 0).flatten(1, 2))
    one_unit(interleave(torch.stack(pooled)), stored)
    marked = torch.arange(len(case["cameras"]) * case["frames_per_camera"])
    slots = interleave(marked.reshape(len(case["cameras"]), -1, 1, 1)).flatten().tolist()
    assert slots == [
        camera * case["frames_per_camera"] + step for step, camera in case["interleave_order_t_camera"]
    ]


@pytest.mark.golden
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
@pytest.mark.parametrize("pooling", ["bilinear", "average", "max"])
def test_pooling_is_that_of_the_original(path: Path, pooling: Pooling) -> None:
    tensors, _ = read_case(path)
    grid = tensors["pool.input"]  # (F, rows, columns, C)
    found = pool(grid.flatten(1, 2), pooling)
    assert found.shape[1] == num_tokens(grid.shape[1], pooling)
    one_unit(found.to(torch.bfloat16), tensors[f"pool.{pooling}_bf16"])
    if pooling == "bilinear":
        torch.testing.assert_close(found, tensors["pool.bilinear_fp32"], rtol=0, atol=1e-6)


def test_slots_hold_the_cameras_in_the_order_of_their_ids(takes: dict[str, dict[str, Path]]) -> None:
    extractor = extractor_of(num_frames=3)
    decoded = extractor.decode(take_sample("kitchen", takes["kitchen"]))
    assert decoded.attributes == {"cameras": ["gp01", "gp02", "gp03"], "missing_cameras": {}}
    pixels = decoded.tensors["pixels"]
    assert pixels.shape == (3, 3, 384, 384, 3)
    lengths = [TAKES["kitchen"][camera][1] for camera in ("gp01", "gp02", "gp03")]
    chosen = [key_frame_indices(length, 3) for length in lengths]
    upright = [pixels[0], pixels[1], pixels[2][:, ::-1, ::-1]]
    for found, expected in zip(upright, chosen, strict=True):
        assert [shown_number(picture) for picture in found] == expected.tolist()
    times = np.repeat(np.mean(chosen, axis=0) / 25, 3)
    np.testing.assert_allclose(decoded.timestamps, times, atol=1e-3)
    assert (decoded.n_frames, decoded.fps) == (30, 25.0)

    extractor.load("cpu")
    values = extractor.encode([decoded])[0].tensors["values"]
    assert values.shape == (9, 196, 64)
    for slot, camera in enumerate(("gp01", "gp02", "gp03")):
        alone = extractor.decode(take_sample("one", {camera: takes["kitchen"][camera]}))
        expected = extractor.encode([alone])[0].tensors["values"]
        assert torch.equal(values[slot::3], expected)


def test_cameras_that_cannot_be_used_are_left_out_and_named(takes: dict[str, dict[str, Path]]) -> None:
    cameras = {**takes["lab"], **{f"old {name}": path for name, path in takes["broken"].items()}}
    decoded = extractor_of().decode(take_sample("lab", cameras))
    assert decoded.attributes["cameras"] == ["cam01", "cam02"]
    missing = decoded.attributes["missing_cameras"]
    assert missing["old cam02"] == "the file does not exist"  # type: ignore[index, call-overload]
    assert "not a media file" in missing["old cam01"]  # type: ignore[index, call-overload, operator]
    extractor = extractor_of()
    extractor.load("cpu")
    whole = extractor.encode([extractor.decode(take_sample("lab", takes["lab"]))])[0]
    features = extractor.encode([decoded])[0]
    assert torch.equal(features.tensors["values"], whole.tensors["values"])
    assert features.attributes == decoded.attributes
    with pytest.raises(
        MediaError, match=r"no outside camera can be used \(cam01: not a .*; cam02: the file"
    ) as e:
        extractor.decode(take_sample("broken", takes["broken"]))
    assert "\n" not in str(e.value)


def test_more_frames_than_run_at_once_are_the_same_frames() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, size=(1, 34, 384, 384, 3), dtype=np.uint8)
    extractor = extractor_of()
    extractor.load("cpu")
    decoded = [
        Decoded("s", {"pixels": part}, np.arange(float(part.shape[1])), 1.0, 1.0, 1)
        for part in (pixels, pixels[:, 32:])
    ]
    whole, end = extractor.encode(decoded)
    assert torch.equal(whole.tensors["values"][32:], end.tensors["values"])


@pytest.fixture
def checkpoints(tmp_path: Path) -> dict[str, Path]:
    """A tiny SigLIP tower alone, and as published beside a text tower."""
    config = SiglipVisionConfig(
        image_size=42,
        patch_size=14,
        hidden_size=8,
        intermediate_size=12,
        num_hidden_layers=3,
        num_attention_heads=2,
    )
    torch.manual_seed(0)
    model = SiglipVisionModel(config)
    folders = {name: tmp_path / name for name in ("alone", "whole")}
    model.save_pretrained(folders["alone"])
    folders["whole"].mkdir()
    published = {f"vision_model.{name}": value for name, value in model.state_dict().items()}
    save_file(published | {"logit_scale": torch.ones(1)}, folders["whole"] / "model.safetensors")
    values = {"model_type": "siglip", "vision_config": config.to_dict()}
    (folders["whole"] / "config.json").write_text(json.dumps(values))
    return folders


def test_every_layout_of_a_checkpoint_is_the_same_checkpoint(
    checkpoints: dict[str, Path], sample_of: SampleOf
) -> None:
    one, two = (extractor_of(weights=str(checkpoints[name])) for name in ("alone", "whole"))
    for extractor in (one, two):
        extractor.load("cpu")
    assert one.spec.fingerprint() == two.spec.fingerprint()
    assert (one.spec.licence, one.spec.tensors[0].tokens, one.spec.tensors[0].dim) == (
        "Apache-2.0 (SigLIP)",
        4,
        8,
    )
    results = [extractor.encode([extractor.decode(sample_of("lab"))])[0] for extractor in (one, two)]
    assert same_bits(*results)


def test_the_fingerprint_is_that_of_the_numbers(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    def changed(name: str) -> str:
        folder = tmp_path / name
        shutil.copytree(checkpoints["whole"], folder)
        tensors = load_file(folder / "model.safetensors")
        key = f"vision_model.{name}"
        save_file(tensors | {key: tensors[key] + 1e-3}, folder / "model.safetensors")
        return str(folder)

    weights = str(checkpoints["whole"])
    first = extractor_of(weights=weights).spec.fingerprint()
    for unused in ("post_layernorm.bias", "head.probe", "encoder.layers.2.mlp.fc2.bias"):
        assert extractor_of(weights=changed(unused)).spec.fingerprint() == first
    others = [
        extractor_of(weights=changed("encoder.layers.1.mlp.fc2.bias")),
        extractor_of(weights=weights, num_frames=3),
        extractor_of(weights=weights, pooling="max"),
        extractor_of(weights=weights, dtype="float16"),
        extractor_of(weights="random:7"),
    ]
    assert len({first, *(extractor.spec.fingerprint() for extractor in others)}) == 6
    clip = json.loads((checkpoints["whole"] / "config.json").read_text()) | {"model_type": "clip"}
    (checkpoints["whole"] / "config.json").write_text(json.dumps(clip))
    with pytest.raises(WeightsError, match="is a 'clip' model, not siglip"):
        extractor_of(weights=weights).load("cpu")
