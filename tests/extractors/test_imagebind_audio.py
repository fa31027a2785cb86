"""The audio tower against the original's numbers, and reading its checkpoint."""

import json
import pickle
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from extractor_goldens import golden_cases, read_case
from safetensors.torch import save_file
from torch import Tensor

from extractors.errors import WeightsError
from extractors.imagebind_audio import ImageBindAudio, TowerSize, audio_tensors, load_tower, random_tower
from extractors.mel import mel_windows
from extractors.weights import tensors_hash

SMALL = TowerSize(embed_dim=32, num_blocks=2, num_heads=4, out_dim=24)

golden = pytest.mark.golden
each_case = pytest.mark.parametrize(
    "path", golden_cases("extractors/audio_tower*.safetensors"), ids=lambda path: path.stem
)


def case_tower(path: Path) -> tuple[ImageBindAudio, dict[str, Tensor]]:
    """Return a case's tower and its tensors."""
    tensors, metadata = read_case(path)
    config = json.loads(metadata["config"])
    same_names = [field.name for field in fields(TowerSize) if field.name != "out_dim"]
    size = TowerSize(out_dim=config["out_embed_dim"], **{name: config[name] for name in same_names})
    parameters = {name.removeprefix("param."): tensors[name] for name in tensors if name.startswith("param.")}
    return load_tower(parameters, size), tensors


@golden
@each_case
def test_the_tower_s_numbers_are_the_original_s(path: Path) -> None:
    tower, tensors = case_tower(path)
    with torch.inference_mode():
        tokens = tower.modality_preprocessors["audio"](tensors["input"])
        head = tower.modality_heads["audio"](tower.modality_trunks["audio"](tokens))
        output = tower(tensors["input"])
    torch.testing.assert_close(tokens, tensors["tokens_in"], rtol=0, atol=1e-5)
    torch.testing.assert_close(head, tensors["head_out"], rtol=0, atol=1e-4)
    torch.testing.assert_close(output, tensors["output"], rtol=0, atol=1e-4)
    assert (output.bfloat16() == tensors["output_bf16"]).float().mean() > 0.99


@golden
@pytest.mark.parametrize(
    "path", golden_cases("extractors/audio_tower_real_shapes*.json"), ids=lambda path: path.stem
)
def test_the_default_size_has_the_published_names_and_shapes(path: Path) -> None:
    about = json.loads(path.read_text())
    with torch.device("meta"):
        tower = ImageBindAudio(TowerSize())
    shapes = {name: list(tensor.shape) for name, tensor in tower.state_dict().items()}
    assert shapes == about["tensors"]
    assert len(shapes) == 177
    assert [name for name, _ in tower.named_buffers()] == about["buffers"]


@pytest.fixture
def published() -> dict[str, Tensor]:
    """A small checkpoint in the published layout, with tensors of other modalities."""
    tower = random_tower(3, SMALL).state_dict()
    others = ("modality_trunks.vision.blocks.0.norm_1.weight", "modality_heads.text.proj.1.weight")
    return {name: torch.ones(3) for name in others} | dict(tower)


@pytest.mark.parametrize("name", ["imagebind_huge.pth", "imagebind.safetensors"])
def test_only_the_audio_branch_is_read(tmp_path: Path, published: dict[str, Tensor], name: str) -> None:
    path = tmp_path / name
    torch.save(published, path) if path.suffix == ".pth" else save_file(published, path)
    tensors = audio_tensors(path)
    assert tensors.keys() == random_tower(3, SMALL).state_dict().keys()
    assert tensors_hash(tensors) == tensors_hash(random_tower(3, SMALL).state_dict())
    mel = torch.randn(2, 1, 128, 204)
    with torch.inference_mode():
        torch.testing.assert_close(load_tower(tensors, SMALL)(mel), random_tower(3, SMALL)(mel))


def test_half_precision_weights_run_in_float32(published: dict[str, Tensor]) -> None:
    halves = {name: tensor.half() for name, tensor in published.items() if ".audio." in name}
    tower = load_tower(halves, SMALL)
    assert {tensor.dtype for tensor in tower.state_dict().values()} == {torch.float32}


def test_weights_that_do_not_fit_are_listed(published: dict[str, Tensor]) -> None:
    tensors = {name: tensor for name, tensor in published.items() if ".audio." in name}
    del tensors["modality_trunks.audio.blocks.1.attn.bias_k"]
    tensors["modality_trunks.audio.blocks.2.norm_1.weight"] = torch.ones(32)
    tensors["modality_heads.audio.2.weight"] = torch.ones(24, 31)
    with pytest.raises(WeightsError) as caught:
        load_tower(tensors, SMALL)
    message = str(caught.value)
    assert "missing: modality_trunks.audio.blocks.1.attn.bias_k" in message
    assert "unexpected: modality_trunks.audio.blocks.2.norm_1.weight" in message
    assert "wrong shape: modality_heads.audio.2.weight (24, 31) instead of (24, 32)" in message
    assert "\n" not in message


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    text, halved, objects, other, number = (tmp_path / f"{name}.pth" for name in "abcde")
    text.write_text("not weights")
    torch.save({"x": torch.ones(1000)}, halved)
    halved.write_bytes(halved.read_bytes()[:2000])
    objects.write_bytes(pickle.dumps({"x": Path("/")}))
    torch.save({"x": torch.ones(3)}, other)
    torch.save(7, number)
    broken = tmp_path / "f.safetensors"
    broken.write_text("not weights")
    cases = {
        text: "no file of plain tensors",
        halved: "no file of plain tensors",
        objects: "no file of plain tensors",
        broken: "no file of plain tensors",
        other: "has no ImageBind audio branch",
        number: "holds no dict of tensors",
        tmp_path / "nothing.pth": "there is no weights file",
    }
    for path, reason in cases.items():
        with pytest.raises(WeightsError, match=reason) as caught:
            audio_tensors(path)
        assert path.name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_the_hash_sees_values_names_types_and_shapes_only() -> None:
    tensors = {"a": torch.arange(6.0), "b": torch.ones(2).bfloat16(), "c": torch.tensor(1.0)}
    found = tensors_hash(tensors)
    assert tensors_hash(dict(reversed(tensors.items()))) == found
    assert tensors_hash(tensors | {"a": torch.arange(12.0)[::2] / 2}) == found
    others = [
        tensors | {"a": torch.arange(6.0).reshape(2, 3)},
        tensors | {"b": torch.ones(2).half()},
        tensors | {"c": torch.tensor(1.0000001)},
        {"a": tensors["a"], "b": tensors["b"], "d": tensors["c"]},
    ]
    assert len({found, *map(tensors_hash, others)}) == 5


def test_random_towers_are_seeded_and_leave_torch_s_seed_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, two, other = (tensors_hash(random_tower(seed, SMALL).state_dict()) for seed in (1, 1, 2))
    assert one == two != other
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)


def test_a_random_tower_hears_a_tone() -> None:
    # the demo relies on it: windows with a short tone lie apart from those with noise only
    rng = np.random.default_rng(0)
    wave = rng.normal(0, 0.01, size=(1, 40 * 16000)).astype(np.float32)
    tone = 0.3 * np.sin(2 * np.pi * 1000 * np.arange(6400) / 16000)
    heard = np.zeros(39, dtype=bool)
    for second in range(2, 38, 4):
        wave[0, second * 16000 + 4000 :][:6400] += tone.astype(np.float32)
        heard[[second - 1, second]] = True
    with torch.inference_mode():
        values = random_tower(1, TowerSize(64, 2, 4, 64))(torch.from_numpy(mel_windows(wave))).numpy()
    difference = values[heard].mean(0) - values[~heard].mean(0)
    score = values @ difference
    middle = (score[heard].mean() + score[~heard].mean()) / 2
    assert ((score > middle) == heard).mean() > 0.9
    np.testing.assert_allclose(np.linalg.norm(values, axis=1), 20, rtol=1e-5)
