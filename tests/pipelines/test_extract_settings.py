"""What `pave extract` makes of a recipe and options."""

import json
from pathlib import Path

import pytest

from extractors.config import AudioConfig
from pipelines.config import SMALL_RANDOM_AUDIO, ExtractAudioConfig, ExtractFramesConfig
from pipelines.errors import PipelineError
from pipelines.extract_settings import extract_settings

VIDEOS = {"videos": Path("clips")}


def test_the_encoder_is_a_small_random_one_unless_weights_are_given() -> None:
    assert extract_settings("audio", None, VIDEOS) == ExtractAudioConfig(**VIDEOS, encoder=SMALL_RANDOM_AUDIO)
    seeded = extract_settings("audio", None, {**VIDEOS, "weights": "random:7"})
    assert seeded.encoder == SMALL_RANDOM_AUDIO.model_copy(update={"weights": "random:7"})
    real = extract_settings("audio", None, {**VIDEOS, "weights": "imagebind_huge.pth"})
    assert real.encoder == AudioConfig(weights="imagebind_huge.pth")  # with ImageBind's sizes


def test_options_override_the_recipe(tmp_path: Path) -> None:
    recipe = tmp_path / "frames.yaml"
    content = {
        "manifest": "m.parquet",
        "store": "here",
        "encoder": {"base": "old", "num_frames": 8},
        "execution": {"part_samples": 3},
    }
    recipe.write_text(json.dumps(content))
    options = {**VIDEOS, "base": "new", "encoders": 2, "retry_failed": True}
    made = extract_settings("frames", recipe, options, ["max_failure_fraction=0.5"])
    assert isinstance(made, ExtractFramesConfig)
    assert (made.videos, made.manifest, made.store) == (Path("clips"), None, "here")
    assert (made.encoder.base, made.encoder.num_frames) == ("new", 8)
    assert (made.execution.encoders, made.execution.part_samples) == (2, 3)
    assert (made.retry_failed, made.max_failure_fraction) == (True, 0.5)


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(PipelineError, match="--num-frames is for frames and exo, not for audio"):
        extract_settings("audio", None, {**VIDEOS, "num_frames": 4})
    with pytest.raises(PipelineError, match="the channel frames needs a base; give --base"):
        extract_settings("frames", None, VIDEOS)
    with pytest.raises(PipelineError, match="give one of videos, scenes, images, takes and manifest"):
        extract_settings("audio", None, {})
