"""Several extractions in one call."""

import json
import shutil
from pathlib import Path

import pytest
from flaky_extractor import TINY
from pave_process import invoke

from pipelines.config import ChannelEncoders, ExtractTogetherConfig
from pipelines.errors import ExtractionFailedError
from pipelines.extract_all import ExtractAllConfig, extract_all
from store import FeatureStore


@pytest.mark.usefixtures("running_ray")
def test_one_that_fails_leaves_the_others_alone(tmp_path: Path, clips: dict[str, Path]) -> None:
    (tmp_path / "good").mkdir()
    (tmp_path / "broken").mkdir()
    shutil.copy(clips["bigbuckbunny.mp4"], tmp_path / "good")
    (tmp_path / "broken" / "text.mp4").write_text("no video")
    store = str(tmp_path / "store")
    extractions = [
        ExtractTogetherConfig(store=store, videos=tmp_path / name, channels=ChannelEncoders(audio=TINY))
        for name in ("broken", "good")
    ]
    with pytest.raises(
        ExtractionFailedError, match=r"^1 of 2 extractions failed.*audio of \S+broken: none of the 1 "
    ):
        extract_all(ExtractAllConfig(extractions=tuple(extractions)))
    assert FeatureStore.open(store).snapshot().feature_set("good", "audio").sample_ids == ["bigbuckbunny.mp4"]

    recipe = tmp_path / "all.yaml"
    recipe.write_text(json.dumps({"extractions": [extractions[1].model_dump(mode="json")]}))
    again = invoke("extract-all", recipe)
    assert again.exit_code == 0, again.stderr
    assert "1 samples, 1 were done, 0 done now" in again.stdout
    recipe.write_text('{"extractions": []}')
    nothing = invoke("extract-all", recipe)
    assert nothing.exit_code == 1
    assert "extractions: " in nothing.stderr
