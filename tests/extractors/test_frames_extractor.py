"""The channel `frames` on real clips: the contract, the golden numbers, the layouts of a base."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from extractor_contract import ExtractorContract
from extractor_goldens import GOLDEN, golden_cases, read_case
from hub_cache import FakeHub
from safetensors.torch import load_file, save_file
from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration, LlavaOnevisionModel

from extractors.config import FramesConfig
from extractors.contract import Decoded, Sample
from extractors.errors import MediaError, MissingTrackError, WeightsError
from extractors.frames import FramesExtractor, normalise_pixels
from extractors.vision_base import load_vision_base, pool, read_tensors

BASE = GOLDEN / "pave_patch" / "checkpoint_case" / "base_hf"
SampleOf = Callable[[str], Sample]


def extractor_of(base: str | Path = BASE, **changes: object) -> FramesExtractor:
    """An extractor of few frames on the tiny base."""
    return FramesExtractor(FramesConfig.model_validate({"base": str(base), "num_frames": 3} | changes))


def decoded_of(pixels: np.ndarray) -> Decoded:
    """A decoded sample of (F, H, W, 3) pixels."""
    return Decoded("sample", {"pixels": pixels}, np.arange(float(len(pixels))), len(pixels), 1.0, len(pixels))


class TestFramesExtractor(ExtractorContract):
    clip_names = ("bigbuckbunny.mp4", "bikes.mp4")
    bad_names = ("short.wav", "withcover.mp3", "demo.txt", "demo.ogv")

    def make(self, dtype: str = "float32") -> FramesExtractor:
        return extractor_of(dtype=dtype)


@pytest.mark.golden
@pytest.mark.parametrize(
    "path",
    golden_cases("pave_patch/checkpoint_case*/expected_forward.safetensors"),
    ids=lambda p: p.parent.name,
)
def test_tokens_are_those_of_the_original_model(path: Path) -> None:
    tensors, _ = read_case(path)
    stored = tensors["input.pixel_u8"].permute(0, 1, 3, 4, 2).numpy()  # (B, F, H, W, 3)
    extractor = extractor_of(path.parent / "base_hf", num_frames=stored.shape[1], dtype="float32")
    extractor.load("cpu")
    repeats = extractor.base_config.vision_config.image_size // stored.shape[2]
    batch = [decoded_of(pixels.repeat(repeats, axis=1).repeat(repeats, axis=2)) for pixels in stored]
    features = extractor.encode(batch)
    checked = 0
    for index, found in enumerate(features):
        for name, expected in (
            ("values", tensors.get("expected.query", {index: None})[index]),
            ("visual", tensors.get(f"expected.pooled_projected.sample{index}")),
        ):
            if expected is not None:
                checked += 1
                torch.testing.assert_close(found.tensors[name], expected, rtol=1e-5, atol=1e-5)
    vision = load_vision_base(
        read_tensors(extractor.config.base, extractor.base_config), extractor.base_config
    )
    for index, decoded in enumerate(batch):
        expected = tensors.get(f"expected.vision_features.sample{index}")
        if expected is not None:
            checked += 1
            with torch.inference_mode():
                tokens = vision.features(normalise_pixels(decoded.tensors["pixels"]))
            torch.testing.assert_close(tokens, expected, rtol=1e-5, atol=1e-5)
    assert checked


@pytest.mark.golden
@pytest.mark.parametrize("path", golden_cases("pave_patch/assembly_pool*.safetensors"), ids=lambda p: p.stem)
def test_pooling_is_that_of_the_original_and_of_transformers(path: Path) -> None:
    """Bilinear only: no released patch pools by average or maximum, and neither does the extractor."""
    tensors, _ = read_case(path)
    prefix = "expected.bilinear.side"
    sides = [int(name.removeprefix(prefix)) for name in tensors if name.startswith(prefix)]
    assert sides
    for side in sides:
        tokens = tensors[f"input.side{side}"]  # (F, side side, C)
        torch.testing.assert_close(pool(tokens), tensors[f"{prefix}{side}"], rtol=1e-5, atol=1e-5)
        config = LlavaOnevisionConfig.from_pretrained(BASE)
        config.vision_config.image_size = side * config.vision_config.patch_size
        with torch.device("meta"):
            model = LlavaOnevisionModel(config)
        torch.testing.assert_close(pool(tokens), model.apply_pooling(tokens), rtol=1e-6, atol=1e-6)


def test_tokens_are_those_of_the_base_in_transformers(sample_of: SampleOf) -> None:
    extractor = extractor_of(dtype="float32")
    extractor.load("cpu")
    decoded = extractor.decode(sample_of("bikes.mp4"))
    features = extractor.encode([decoded])[0]
    base = LlavaOnevisionForConditionalGeneration.from_pretrained(BASE).eval()
    with torch.inference_mode():
        pixels = normalise_pixels(decoded.tensors["pixels"])[None]
        expected = base.model.get_video_features(
            pixels, vision_feature_layer=-1, vision_feature_select_strategy="full", output_hidden_states=True
        )
    visual = features.tensors["visual"].flatten(0, 1)
    # transformers appends one newline token, which is no key-frame token
    torch.testing.assert_close(visual, expected.pooler_output[0, :-1], rtol=1e-5, atol=1e-5)
    query = pool(expected.hidden_states[-1])
    torch.testing.assert_close(features.tensors["values"], query, rtol=1e-5, atol=1e-5)


def test_decoded_frames_are_small_and_know_the_clip(sample_of: SampleOf) -> None:
    decoded = extractor_of(num_frames=6).decode(sample_of("bikes.mp4"))
    pixels = decoded.tensors["pixels"]
    assert (pixels.shape, pixels.dtype) == ((6, 384, 384, 3), np.uint8)
    np.testing.assert_allclose(decoded.timestamps, np.array([0, 49, 99, 149, 199, 249]) / 25, atol=1e-6)
    assert (decoded.duration, decoded.fps, decoded.n_frames) == (10.0, 25.0, 250)


def test_video_that_is_missing_or_damaged_is_named(sample_of: SampleOf) -> None:
    with pytest.raises(MissingTrackError, match=r"^withcover\.mp3: no video track; "):
        extractor_of().decode(sample_of("withcover.mp3"))
    with pytest.raises(MediaError, match=r"^demo\.ogv: \d+ of \d+ video packets cannot be decoded; "):
        extractor_of().decode(sample_of("demo.ogv"))


def test_more_frames_than_run_at_once_are_the_same_frames() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, size=(35, 384, 384, 3), dtype=np.uint8)
    extractor = extractor_of(num_frames=35, dtype="float32")
    extractor.load("cpu")
    whole, end = extractor.encode([decoded_of(pixels), decoded_of(pixels[32:])])
    for name in ("values", "visual"):
        assert torch.equal(whole.tensors[name][32:], end.tensors[name])


@pytest.fixture
def saved_again(tmp_path: Path) -> dict[str, Path]:
    """The base as transformers 5 saves it, whole and in shards, and with names as it has them in memory."""
    model = LlavaOnevisionForConditionalGeneration.from_pretrained(BASE)
    folders = {name: tmp_path / name for name in ("whole", "shards", "memory")}
    model.save_pretrained(folders["whole"])
    model.save_pretrained(folders["shards"], max_shard_size="40KB")
    folders["memory"].mkdir()
    shutil.copy(BASE / "config.json", folders["memory"])
    save_file(model.state_dict(), folders["memory"] / "model.safetensors")
    return folders


def test_every_layout_of_a_base_is_the_same_base(saved_again: dict[str, Path]) -> None:
    expected = extractor_of().spec
    assert [tensor.dim for tensor in expected.tensors] == [8, 24]
    for folder in saved_again.values():
        assert extractor_of(folder).spec.fingerprint() == expected.fingerprint()


def test_only_the_shards_of_vision_and_projector_are_read(saved_again: dict[str, Path]) -> None:
    folder = saved_again["shards"]
    shards = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    needed = {shard for name, shard in shards.items() if "vision_tower" in name or "projector" in name}
    unneeded = set(shards.values()) - needed
    assert unneeded
    for shard in unneeded:
        (folder / shard).unlink()
    extractor_of(folder).load("cpu")
    (folder / min(needed)).unlink()
    with pytest.raises(WeightsError, match=f"there is no {min(needed)} in the base"):
        extractor_of(folder).load("cpu")


@pytest.fixture
def changed_base(tmp_path: Path) -> Callable[..., Path]:
    """Copy the base with changed config values or tensors."""

    def change(tensors: dict[str, torch.Tensor | None] | None = None, **values: object) -> Path:
        folder = tmp_path / f"base{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        config = json.loads((BASE / "config.json").read_text()) | values
        (folder / "config.json").write_text(json.dumps(config))
        merged = load_file(BASE / "model.safetensors") | (tensors or {})
        save_file(
            {name: value for name, value in merged.items() if value is not None}, folder / "model.safetensors"
        )
        return folder

    return change


def test_the_feature_layer_of_the_config_is_honoured(changed_base: Callable[..., Path]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, size=(2, 384, 384, 3), dtype=np.uint8)
    base = LlavaOnevisionForConditionalGeneration.from_pretrained(BASE).eval()
    with torch.inference_mode():
        states = base.model.vision_tower(normalise_pixels(pixels), output_hidden_states=True).hidden_states
    fingerprints = set()
    for layer in (-1, -2, 1, 0):
        extractor = extractor_of(changed_base(vision_feature_layer=layer), dtype="float32")
        extractor.load("cpu")
        values = extractor.encode([decoded_of(pixels)])[0].tensors["values"]
        torch.testing.assert_close(values, pool(states[layer]), rtol=1e-5, atol=1e-5)
        fingerprints.add(extractor.spec.fingerprint())
    assert len(fingerprints) == 3  # -2 and 1 are the same layer of two


def test_the_fingerprint_is_that_of_the_numbers(changed_base: Callable[..., Path]) -> None:
    name = "vision_tower.vision_model.encoder.layers.0.mlp.fc1.bias"
    other = {name: load_file(BASE / "model.safetensors")[name] + 1e-3}
    unused = {
        "vision_tower.vision_model.post_layernorm.bias": torch.full((8,), 7.0),
        "language_model.lm_head.weight": torch.zeros(272, 24),
    }
    fingerprint = extractor_of().spec.fingerprint()
    assert extractor_of(changed_base(unused)).spec.fingerprint() == fingerprint
    vision = json.loads((BASE / "config.json").read_text())["vision_config"]
    others = [
        extractor_of(changed_base(other)),
        extractor_of(changed_base(vision_config=vision | {"num_attention_heads": 4})),
        extractor_of(changed_base(projector_hidden_act="relu")),
        extractor_of(num_frames=4),
        extractor_of(dtype="float32"),
    ]
    assert len({fingerprint, *(extractor.spec.fingerprint() for extractor in others)}) == 6


def test_bases_that_do_not_fit_are_refused(changed_base: Callable[..., Path], tmp_path: Path) -> None:
    bias = "multi_modal_projector.linear_1.bias"
    not_json = changed_base()
    (not_json / "config.json").write_text("{")
    vision = {"model_type": "clip_vision_model"}
    broken = {"model_type": "siglip_vision_model", "hidden_size": 8, "num_attention_heads": 3}
    cases = {
        changed_base({bias: None}): f"missing: {bias}",
        changed_base({bias: torch.ones(3)}): f"wrong shape: {bias}",
        changed_base(vision_feature_layer=[-1, 0]): "only one whole vision feature layer",
        changed_base(vision_feature_select_strategy="default"): "only one whole vision feature layer",
        changed_base(vision_feature_layer=-9): "vision_feature_layer -9 is not among its 3 states",
        changed_base(vision_config=vision): "must be SigLIP, not clip_vision_model",
        changed_base(vision_config=broken): "makes no model .*num_heads",
        changed_base(vision_feature_layer="last"): "makes no model .*vision_feature_layer",
        changed_base(model_type="llava"): "config of 'llava', not llava_onevision",
        not_json: "is no JSON",
        tmp_path / "nothing": r"no config\.json in the base",
    }
    for base, reason in cases.items():
        with pytest.raises(WeightsError, match=reason) as caught:
            extractor_of(base).load("cpu")
        assert "\n" not in str(caught.value)


def test_a_base_comes_from_the_hub(hub: FakeHub, saved_again: dict[str, Path]) -> None:
    folder = saved_again["shards"]
    shards = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    needed = {shard for name, shard in shards.items() if "vision_tower" in name or "projector" in name}
    files = [folder / name for name in ("config.json", "model.safetensors.index.json", *needed)]
    hub.publish("llava-hf/llava-onevision-tiny", files)
    extractor, local = extractor_of("llava-hf/llava-onevision-tiny"), extractor_of()
    extractor.load("cpu")
    assert extractor.spec.fingerprint() == local.spec.fingerprint()
    assert extractor.spec.licence == "Apache-2.0 (LLaVA-OneVision base)"
    assert local.spec.licence == "unknown"
    with pytest.raises(WeightsError, match=r"^no config\.json in the base 'org/nothing'; "):
        extractor_of("org/nothing").load("cpu")
