"""`pave extract` killed halfway and run again gives the store of an undisturbed run."""

import json
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from flaky_extractor import TINY
from pave_process import start_pave

from pipelines.config import ExtractAudioConfig, PrepareConfig
from pipelines.extract import extract
from pipelines.manifest import prepare
from store import FeatureStore

SECONDS_TO_START = 90  # Ray and its workers, on a busy machine


def committed(store: Path) -> int:
    """The number of commits of features so far."""
    return len(list((store / "catalog" / "_delta_log").glob("*.json"))) - 1


def test_a_killed_extraction_goes_on_where_it_was(world: Path, tmp_path: Path, running_ray: str) -> None:
    prepare(PrepareConfig(task="sidecue", root=world, out=tmp_path))
    manifest = tmp_path / "manifest.parquet"
    undisturbed = FeatureStore.open(tmp_path / "undisturbed")
    extract("audio", ExtractAudioConfig(store=undisturbed.url, manifest=manifest, encoder=TINY))

    recipe = tmp_path / "audio.yaml"
    execution = {"commit_seconds": 0, "part_samples": 2}
    recipe.write_text(json.dumps({"execution": execution, "encoder": TINY.model_dump()}))
    command = ("extract", "audio", "--manifest", manifest, "--store", "broken", "--config", recipe)

    first = start_pave(tmp_path, *command)
    waited_until = time.monotonic() + SECONDS_TO_START
    while committed(tmp_path / "broken") < 1 and first.poll() is None and time.monotonic() < waited_until:
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=SECONDS_TO_START)
    assert first.returncode == -signal.SIGKILL
    broken = FeatureStore.open(tmp_path / "broken", create=False)
    assert broken.verify().ok
    halfway = len(broken.snapshot().feature_set("sidecue", "audio"))
    assert 0 < halfway < 32

    second = start_pave(tmp_path, *command, RAY_ADDRESS=running_ray)  # and on a cluster, for that matter
    output, errors = second.communicate(timeout=SECONDS_TO_START)
    assert second.returncode == 0, errors
    assert f"32 samples, {halfway} were done, {32 - halfway} done now" in output
    assert "Traceback" not in errors
    assert broken.verify().ok

    for table in ("features", "samples", "failures"):
        columns = "* EXCLUDE (part, row0, row1, commit_seq)" if table == "features" else "*"
        sql = f"SELECT {columns} FROM {table} ORDER BY ALL"
        assert broken.query(sql).equals(undisturbed.query(sql)), table
    ours, theirs = (store.snapshot().feature_set("sidecue", "audio") for store in (broken, undisturbed))
    for sample_id in theirs:
        np.testing.assert_array_equal(
            ours[sample_id].values.view(np.uint16), theirs[sample_id].values.view(np.uint16)
        )
        np.testing.assert_array_equal(ours[sample_id].timestamps, theirs[sample_id].timestamps)


@pytest.mark.slow
def test_an_interrupted_extraction_says_so_and_keeps_its_work(world: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "audio.yaml"
    recipe.write_text(json.dumps({"execution": {"commit_seconds": 0}, "encoder": TINY.model_dump()}))
    videos = tmp_path / "videos"  # of so many clips that it goes on for seconds after its first commit
    videos.mkdir()
    for clip in world.rglob("*.mp4"):
        for copy in range(20):
            (videos / f"{clip.parent.name}-{clip.stem}-{copy}.mp4").hardlink_to(clip)
    run = start_pave(tmp_path, "extract", "audio", "--videos", videos, "--store", "store", "--config", recipe)
    waited_until = time.monotonic() + SECONDS_TO_START
    while committed(tmp_path / "store") < 1 and run.poll() is None and time.monotonic() < waited_until:
        time.sleep(0.02)
    run.send_signal(signal.SIGINT)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "Traceback" not in errors
    assert errors.splitlines()[-1].startswith("interrupted; what was finished is kept")
    assert FeatureStore.open(tmp_path / "store", create=False).verify().ok
