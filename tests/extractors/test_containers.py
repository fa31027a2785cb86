"""One clip of a minute in 21 containers: each gives features or says honestly why not."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from extractor_goldens import GOLDEN

from extractors.audio import AudioExtractor
from extractors.config import AudioConfig, DenseConfig, FramesConfig
from extractors.contract import Sample
from extractors.dense import DenseExtractor
from extractors.errors import MediaError, MissingTrackError
from extractors.frames import FramesExtractor

SampleOf = Callable[[str], Sample]

# formats without sound, and Theora of a kind that FFmpeg decodes to a quarter only
SILENT = {"gif", "m1v"}
UNDECODABLE = {"ogg", "ogv"}
QUICK = ("mp4", "mpg", "swf", "gif", "ogg")
SLOW = (
    *("3g2", "3gp", "asf", "avi", "f4v", "flv", "m1v", "m4v", "mkv", "mov", "mpeg", "ogv", "rm", "vob"),
    *("webm", "wmv"),
)
each_container = pytest.mark.parametrize(
    "ending", [*QUICK, *(pytest.param(ending, marks=pytest.mark.slow) for ending in SLOW)]
)


@pytest.fixture(scope="module")
def audio() -> AudioExtractor:
    extractor = AudioExtractor(
        AudioConfig(weights="random:1", embed_dim=32, num_blocks=1, num_heads=4, out_dim=16)
    )
    extractor.load("cpu")
    return extractor


@pytest.fixture(scope="module")
def frames() -> FramesExtractor:
    base = GOLDEN / "pave_patch" / "checkpoint_case" / "base_hf"
    extractor = FramesExtractor(FramesConfig(base=str(base), num_frames=4))
    extractor.load("cpu")
    return extractor


@pytest.fixture(scope="module")
def dense() -> DenseExtractor:
    extractor = DenseExtractor(DenseConfig(weights="random:1", dtype="float32"))
    extractor.load("cpu")
    return extractor


@each_container
def test_sound(sample_of: SampleOf, audio: AudioExtractor, ending: str) -> None:
    sample = sample_of(f"demo.{ending}")
    if ending in SILENT:
        with pytest.raises(MissingTrackError, match="no audio track"):
            audio.decode(sample)
        return
    features = audio.encode([audio.decode(sample)])[0]
    assert features.tensors["values"].shape == (59, 1, 16)
    assert features.timestamps.tolist() == list(range(1, 60))
    assert features.duration == pytest.approx(60.1, abs=0.15)


@pytest.fixture(scope="module")
def shown(clips: dict[str, Path], frames: FramesExtractor) -> np.ndarray:
    """The key frames of the mp4, in numbers that can be subtracted."""
    sample = Sample("reference", "clips", {"video": clips["demo.mp4"]})
    return frames.decode(sample).tensors["pixels"].astype(np.float32)


@each_container
def test_pictures(sample_of: SampleOf, frames: FramesExtractor, shown: np.ndarray, ending: str) -> None:
    sample = sample_of(f"demo.{ending}")
    if ending in UNDECODABLE:
        with pytest.raises(MediaError, match="1074 of 1440 video packets cannot be decoded"):
            frames.decode(sample)
        return
    decoded = frames.decode(sample)
    features = frames.encode([decoded])[0]
    length = 5 if ending == "gif" else 60
    assert features.n_frames == (120 if ending == "gif" else 1441)
    assert features.duration == pytest.approx(length, abs=0.25)
    np.testing.assert_allclose(features.timestamps, length * np.arange(4) / 3, atol=0.1)
    if ending != "gif":  # it shows other seconds
        difference = np.abs(decoded.tensors["pixels"] - shown).mean(axis=(1, 2, 3))
        assert difference.max() < 12
        assert shown.std(axis=(1, 2, 3)).max() > 30


@pytest.fixture(scope="module")
def seen(clips: dict[str, Path], dense: DenseExtractor) -> torch.Tensor:
    """The dense features of the mp4."""
    decoded = dense.decode(Sample("reference", "clips", {"video": clips["demo.mp4"]}))
    return dense.encode([decoded])[0].tensors["values"]


@each_container
def test_dense_frames(sample_of: SampleOf, dense: DenseExtractor, seen: torch.Tensor, ending: str) -> None:
    sample = sample_of(f"demo.{ending}")
    if ending in UNDECODABLE:
        with pytest.raises(MediaError, match="1074 of 1440 video packets cannot be decoded"):
            dense.decode(sample)
        return
    values = dense.encode([dense.decode(sample)])[0].tensors["values"]
    assert values.shape == (8 if ending == "gif" else 120, 5, 64)
    if ending != "gif":  # it shows other seconds
        mean = seen.mean(dim=(0, 1))  # what all frames have in common says nothing
        similarity = torch.cosine_similarity(values - mean, seen - mean, dim=2)
        assert similarity.mean() > 0.99


def test_every_container_is_tested(clips: dict[str, object]) -> None:
    found = {name.removeprefix("demo.") for name in clips if name.startswith("demo.")} - {"txt"}
    assert found == {*QUICK, *SLOW}
