"""The channel `audio` on real clips: the contract, its identity, where weights come from."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from extractor_contract import ExtractorContract
from hub_cache import FakeHub
from pydantic import ValidationError
from safetensors.torch import save_file

from extractors.audio import AudioExtractor, tower_size
from extractors.config import AudioConfig
from extractors.contract import Sample
from extractors.errors import MediaError, MissingTrackError, WeightsError
from extractors.imagebind_audio import random_tower

SMALL = {"embed_dim": 32, "num_blocks": 2, "num_heads": 4, "out_dim": 24}
SampleOf = Callable[[str], Sample]


def extractor_of(weights: str | Path = "random:7", **changes: object) -> AudioExtractor:
    """A small extractor."""
    return AudioExtractor(AudioConfig.model_validate({"weights": str(weights), **SMALL, **changes}))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A small checkpoint in the published layout."""
    path = tmp_path / "imagebind_huge.pth"
    tower = dict(random_tower(7, tower_size(extractor_of().config)).state_dict())
    torch.save({"modality_heads.vision.0.bias": torch.ones(2)} | tower, path)
    return path


class TestAudioExtractor(ExtractorContract):
    clip_names = ("bigbuckbunny.mp4", "demo.webm")
    bad_names = ("bikes.mp4", "short.wav", "demo.txt")

    def make(self, dtype: str = "float32") -> AudioExtractor:
        return extractor_of(dtype=dtype)


def test_a_step_is_a_second_and_the_centre_of_its_window(sample_of: SampleOf) -> None:
    decoded = extractor_of().decode(sample_of("bigbuckbunny.mp4"))
    assert decoded.tensors["mel"].shape == (4, 1, 128, 204)
    assert decoded.tensors["mel"].dtype == np.float32
    assert decoded.timestamps.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert decoded.duration == pytest.approx(5.312)
    assert (decoded.fps, decoded.n_frames) == (None, None)


def test_sound_that_is_missing_or_too_short_is_named(sample_of: SampleOf) -> None:
    with pytest.raises(MissingTrackError, match=r"^bikes\.mp4: no audio track; "):
        extractor_of().decode(sample_of("bikes.mp4"))
    with pytest.raises(MediaError, match=r"^short\.wav: audio of 1\.3 s is shorter than the 2 s window; "):
        extractor_of().decode(sample_of("short.wav"))
    with pytest.raises(MissingTrackError, match="no audio track 1, the file has 1"):
        extractor_of(stream=1).decode(sample_of("bigbuckbunny.mp4"))


def test_a_file_of_weights_gives_what_its_tower_gives(sample_of: SampleOf, checkpoint: Path) -> None:
    from_file, from_seed = extractor_of(checkpoint), extractor_of()
    decoded = from_seed.decode(sample_of("bigbuckbunny.mp4"))
    for extractor in (from_file, from_seed):
        extractor.load("cpu")
    one, two = (extractor.encode([decoded])[0].tensors["values"] for extractor in (from_file, from_seed))
    assert torch.equal(one, two)
    torch.testing.assert_close(one.float().norm(dim=2), torch.full((4, 1), 20.0), rtol=0.01, atol=0)


def test_the_fingerprint_is_that_of_the_numbers(checkpoint: Path, tmp_path: Path) -> None:
    fingerprint = extractor_of(checkpoint).spec.fingerprint()
    copy = tmp_path / "copy" / "audio.safetensors"
    copy.parent.mkdir()
    tensors = torch.load(checkpoint, weights_only=True)
    save_file(tensors, copy)
    assert extractor_of(copy).spec.fingerprint() == fingerprint

    name = "modality_heads.audio.2.weight"
    save_file(tensors | {name: tensors[name] + 1e-3}, copy)
    others = [
        extractor_of(copy),
        extractor_of(checkpoint, dtype="float32"),
        extractor_of(checkpoint, stream=1),
        extractor_of(checkpoint, num_heads=2),
        extractor_of("random:7"),
        extractor_of("random:8"),
    ]
    assert len({fingerprint, *(other.spec.fingerprint() for other in others)}) == 7


def test_the_device_is_not_part_of_the_fingerprint() -> None:
    one, two = extractor_of(), extractor_of()
    one.load("cpu")
    assert one.spec == two.spec
    assert str(Path.cwd()) not in str(one.spec)


def test_the_licence_is_that_of_the_weights(checkpoint: Path) -> None:
    assert extractor_of(checkpoint).spec.licence == "CC-BY-NC-SA 4.0"
    assert extractor_of().spec.licence == "none (random weights)"


def test_the_defaults_are_the_published_model_s() -> None:
    spec = AudioExtractor(AudioConfig(weights="random:0")).spec
    assert (spec.tensors[0].tokens, spec.tensors[0].dim, spec.tensors[0].dtype) == (1, 1024, "bfloat16")
    assert spec.rate_hz == 1.0


@pytest.mark.parametrize(
    "change", [{"num_heads": 5}, {"dtype": "int8"}, {"stream": -1}, {"batch_size": 4}, {"num_blocks": 0}]
)
def test_wrong_settings_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        extractor_of(**change)


def test_missing_weights_are_named(tmp_path: Path) -> None:
    for extractor in (extractor_of(tmp_path / "none.pth"), extractor_of("weights/none.pth")):
        with pytest.raises(WeightsError, match=r"there is no weights file .*none\.pth"):
            extractor.load("cpu")


def test_weights_come_from_the_hub(hub: FakeHub, checkpoint: Path) -> None:
    hub.publish("org/imagebind", [checkpoint])
    extractor = extractor_of("org/imagebind")
    extractor.load("cpu")
    assert extractor.spec == extractor_of(checkpoint).spec
    with pytest.raises(
        WeightsError, match=r"^'org/nothing' is no file here and no hub model with imagebind_huge"
    ):
        extractor_of("org/nothing").load("cpu")
