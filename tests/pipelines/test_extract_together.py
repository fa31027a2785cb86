"""Several channels of a dataset in one extraction."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from flaky_extractor import TINY
from pave_process import invoke

from extractors.config import DenseConfig, FramesConfig
from pipelines.config import (
    SMALL_RANDOM_AUDIO,
    ChannelEncoders,
    ExtractAudioConfig,
    ExtractDenseConfig,
    ExtractFramesConfig,
    ExtractTogetherConfig,
)
from pipelines.errors import PipelineError
from pipelines.extract import extract, extract_together
from pipelines.extract_settings import together_settings
from store import FeatureStore

GOLDEN_BASE = Path(__file__).parents[1] / "golden" / "pave_patch" / "checkpoint_case" / "base_hf"
DENSE = DenseConfig(weights="random:0")
FRAMES = FramesConfig(base=str(GOLDEN_BASE), num_frames=4)


@pytest.fixture
def folder(tmp_path: Path, clips: dict[str, Path]) -> Path:
    """A clip with sound, one without, and a file that is no clip."""
    (tmp_path / "clips").mkdir()
    for name in ("bigbuckbunny.mp4", "bikes.mp4"):
        shutil.copy(clips[name], tmp_path / "clips")
    (tmp_path / "clips" / "text.mp4").write_text("no video")
    return tmp_path / "clips"


@pytest.mark.usefixtures("running_ray")
def test_together_is_each_alone_and_a_failure_is_one_channels(folder: Path, tmp_path: Path) -> None:
    shared = {"videos": folder, "dataset": "real", "max_failure_fraction": 0.5}
    together = FeatureStore.open(tmp_path / "together")
    config = ExtractTogetherConfig(
        store=together.url,
        channels=ChannelEncoders(audio=TINY, dense=DENSE, frames=FRAMES),
        **shared,
    )
    extract("audio", ExtractAudioConfig(store=together.url, encoder=TINY, **shared))  # was done before
    report = extract_together(config)

    counts = {item.channel: (item.already_done, item.done, len(item.failed)) for item in report.reports}
    assert counts == {"audio": (1, 0, 0), "dense": (0, 2, 1), "frames": (0, 2, 1)}
    alone = FeatureStore.open(tmp_path / "alone")
    extract("dense", ExtractDenseConfig(store=alone.url, encoder=DENSE, **shared))
    extract("frames", ExtractFramesConfig(store=alone.url, encoder=FRAMES, **shared))
    for channel in ("dense", "frames"):
        ours, theirs = (store.snapshot().feature_set("real", channel) for store in (together, alone))
        assert ours.sample_ids == theirs.sample_ids
        for sample_id in theirs.sample_ids:
            values, expected = ours[sample_id].values, theirs[sample_id].values
            np.testing.assert_array_equal(values.view(np.uint16), expected.view(np.uint16))
            np.testing.assert_array_equal(ours[sample_id].timestamps, theirs[sample_id].timestamps)
    sql = "SELECT channel, sample_id, error_type FROM failures WHERE channel <> 'audio' ORDER BY ALL"
    assert together.query(sql).equals(alone.query(sql))
    assert together.verify().ok
    assert [item.done for item in extract_together(config).reports] == [0, 0, 0]


@pytest.mark.usefixtures("running_ray")
def test_the_command_takes_several_channels(folder: Path, tmp_path: Path) -> None:
    command = ("extract", "dense,audio", "--videos", folder, "--store", tmp_path / "store")
    result = invoke(*command, "--max-failure-fraction", "0.5", "--set", "channels.audio.out_dim=32")
    assert result.exit_code == 0, result.output
    assert result.output.count("random weights") == 2
    assert "clips/dense/" in result.output
    assert "3 samples, 0 were done, 1 done now" in result.output  # audio
    features = FeatureStore.open(tmp_path / "store").snapshot().feature_set("clips", "audio")
    assert features["bigbuckbunny.mp4"].values.shape[1:] == (1, 32)


def test_settings_of_several_channels(tmp_path: Path) -> None:
    options = {"videos": tmp_path, "base": "org/base", "embedding": "random:7"}
    config = together_settings(
        ["frames", "depth3d", "audio"], None, options, ["channels.audio.weights=a.pth"]
    )
    assert config.channels.given().keys() == {"frames", "depth3d", "audio"}
    assert config.channels.frames == FramesConfig(base="org/base")
    assert config.channels.depth3d is not None
    assert config.channels.depth3d.embedding == "random:7"
    # weights of a file have the published sizes, a random tower is small
    assert config.channels.audio is not None
    assert (config.channels.audio.weights, config.channels.audio.num_blocks) == ("a.pth", 12)
    small = together_settings(["dense", "audio"], None, {"videos": tmp_path})
    assert small.channels.audio == SMALL_RANDOM_AUDIO


@pytest.mark.parametrize(
    ("channels", "options", "message"),
    [
        (("audio", "dense"), {"weights": "x"}, r"^--weights may be for audio or dense; give --set channels"),
        (("audio", "dense"), {"base": "x"}, "^--base is for frames, not for audio or dense$"),
        (("audio", "frames"), {}, "^the channel frames needs a base"),
        (("audio", "audio"), {}, "names a channel twice$"),
    ],
)
def test_options_that_do_not_fit(
    channels: tuple[str, ...], options: dict[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(PipelineError, match=message):
        together_settings(channels, None, {"videos": tmp_path, **options})
    with pytest.raises(PipelineError, match="has settings of exo, which is not extracted"):
        together_settings(["audio", "dense"], None, {}, ["channels.exo.weights=x"])
