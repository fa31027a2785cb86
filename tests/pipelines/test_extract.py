"""Extraction with a real Ray: every sample ends in the store or in `failures`, and nothing is done twice."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from flaky_extractor import TINY
from ml_dtypes import bfloat16
from odd_media import write_nothing, write_text, write_video_without_frames

from extractors.audio import AudioExtractor
from extractors.config import FramesConfig
from extractors.contract import Sample
from extractors.errors import UnknownChannelError
from extractors.frames import FramesExtractor
from pipelines.config import ExtractAudioConfig, ExtractConfig, ExtractFramesConfig
from pipelines.errors import ExtractionFailedError, ManifestError, PipelineError
from pipelines.extract import ExtractReport, extract
from store import FeatureStore

GOLDEN_BASE = Path(__file__).parents[1] / "golden" / "pave_patch" / "checkpoint_case" / "base_hf"
WITH_SOUND = ("bigbuckbunny.mp4", "demo.mp4", "demo.swf", "demo.webm")
SILENT = ("bikes.mp4", "demo.gif")
UNUSABLE = ("frameless.mp4", "nothing.mp4", "text.mp4")


def audio_config(store: Path, videos: Path, **changes: object) -> ExtractAudioConfig:
    return ExtractAudioConfig(store=str(store), videos=videos, encoder=TINY, **{"dataset": "real", **changes})


def fill(folder: Path, clips: dict[str, Path]) -> Path:
    folder.mkdir()
    for name in (*WITH_SOUND, *SILENT):
        shutil.copy(clips[name], folder)
    write_text(folder / "text.mp4")
    write_nothing(folder / "nothing.mp4")
    write_video_without_frames(folder / "frameless.mp4")
    return folder


@pytest.fixture(scope="module")
def extracted(
    tmp_path_factory: pytest.TempPathFactory, clips: dict[str, Path], running_ray: str
) -> tuple[Path, Path, ExtractReport]:
    """A folder of clips, the store after one extraction of it, and that extraction's report."""
    root = tmp_path_factory.mktemp("extracted")
    folder = fill(root / "clips", clips)
    report = extract("audio", audio_config(root / "store", folder, max_failure_fraction=0.5))
    return folder, root / "store", report


@pytest.fixture
def copied(extracted: tuple[Path, Path, ExtractReport], tmp_path: Path) -> tuple[Path, Path]:
    """The clips and the store in a place where a test may change them."""
    folder, store, _ = extracted
    shutil.copytree(folder, tmp_path / "clips")
    shutil.copytree(store, tmp_path / "store")
    return tmp_path / "clips", tmp_path / "store"


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails the test when something is extracted."""

    def run(*_: object) -> None:
        pytest.fail("Ray was asked to work")

    monkeypatch.setattr("pipelines.ray_extract.run", run)


def rows(store: Path, sql: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = FeatureStore.open(store, create=False).query(sql).to_pylist()
    return found


def test_every_file_ends_in_the_store_or_in_failures_with_a_reason(
    extracted: tuple[Path, Path, ExtractReport],
) -> None:
    _, store, report = extracted
    assert (report.total, report.done, report.already_done, report.skipped_failures) == (9, 4, 0, 0)
    done = rows(
        store, "SELECT sample_id, dataset, duration, steps, source_hash FROM features ORDER BY sample_id"
    )
    assert [row["sample_id"] for row in done] == sorted(WITH_SOUND)
    failures = {row["sample_id"]: row for row in rows(store, "SELECT * FROM failures")}
    assert sorted(failures) == sorted(SILENT + UNUSABLE)
    for name in SILENT:
        assert failures[name]["error_type"] == "MissingTrackError"
        assert failures[name]["message"] == "no audio track; leave it out or give a file with sound"
    for name, reason in zip(UNUSABLE, ("no video frames", "is empty", "not a media file"), strict=True):
        assert failures[name]["error_type"] == "MediaError"
        assert reason in str(failures[name]["message"])
    assert {(row["permanent"], row["attempt"]) for row in failures.values()} == {(True, 1)}
    assert {failed.sample_id for failed in report.failed} == set(failures)
    assert len(rows(store, "SELECT * FROM samples")) == 9
    assert FeatureStore.open(store).verify().ok


def test_the_features_are_those_of_the_extractor(extracted: tuple[Path, Path, ExtractReport]) -> None:
    folder, store, report = extracted
    extractor = AudioExtractor(TINY)
    extractor.load("cpu")
    features = FeatureStore.open(store).snapshot().feature_set("real", "audio")
    assert features.record.fingerprint == report.fingerprint == extractor.spec.fingerprint()
    assert features.record.config["encoder"] == TINY.model_dump(mode="json")
    for name in WITH_SOUND:
        decoded = extractor.decode(Sample(name, "real", {"video": folder / name}))
        (expected,) = extractor.encode([decoded])
        stored = features[name]
        assert stored.values.dtype == bfloat16
        np.testing.assert_array_equal(
            stored.values.view(np.uint16), expected.tensors["values"].view(torch.uint16).numpy()
        )
        np.testing.assert_array_equal(stored.timestamps, expected.timestamps)


@pytest.mark.usefixtures("no_ray")
def test_a_second_run_does_nothing(extracted: tuple[Path, Path, ExtractReport]) -> None:
    folder, store, first = extracted
    tables = {
        name: len(list((store / name / "_delta_log").glob("*.json"))) for name in ("catalog", "failures")
    }
    report = extract("audio", audio_config(store, folder, max_failure_fraction=0.5))
    assert (report.already_done, report.done, report.failed) == (4, 0, ())
    assert report.skipped_failures == 5
    assert report.version == first.version
    for name, count in tables.items():
        assert len(list((store / name / "_delta_log").glob("*.json"))) == count


def test_changed_files_are_done_again_and_only_they(
    copied: tuple[Path, Path], clips: dict[str, Path]
) -> None:
    folder, store = copied
    shutil.copy(clips["carphone_pristine.mp4"], folder / "demo.swf")  # was fine, has no sound now
    shutil.copy(clips["bigbuckbunny.mp4"], folder / "text.mp4")  # was no clip
    write_text(folder / "nothing.mp4")  # still none, but another
    report = extract("audio", audio_config(store, folder, max_failure_fraction=0.5))
    assert (report.already_done, report.done, report.skipped_failures) == (3, 1, 3)
    assert {failed.sample_id for failed in report.failed} == {"demo.swf", "nothing.mp4"}
    attempts = rows(store, "SELECT attempt FROM failures WHERE sample_id = 'nothing.mp4' ORDER BY time")
    assert len(attempts) == 2
    bunny, text = (
        FeatureStore.open(store).snapshot().feature_set("real", "audio")[name].values
        for name in ("bigbuckbunny.mp4", "text.mp4")
    )
    np.testing.assert_array_equal(bunny.view(np.uint16), text.view(np.uint16))


def test_failures_are_tried_again_when_asked_to(copied: tuple[Path, Path]) -> None:
    folder, store = copied
    report = extract("audio", audio_config(store, folder, max_failure_fraction=0.5, retry_failed=True))
    assert {failed.sample_id for failed in report.failed} == set(SILENT)
    found = rows(store, "SELECT sample_id, max(attempt) AS attempt FROM failures GROUP BY sample_id")
    assert {row["sample_id"]: row["attempt"] for row in found} == {
        **dict.fromkeys(SILENT, 2),
        **dict.fromkeys(UNUSABLE, 1),  # the manifest says so: there is nothing to try
    }


@pytest.mark.usefixtures("no_ray")
def test_too_many_unusable_files_fail_the_run_after_all_is_recorded(copied: tuple[Path, Path]) -> None:
    folder, store = copied
    # 3 of 9, also those known from before; silent files count as fine
    with pytest.raises(ExtractionFailedError) as caught:
        extract("audio", audio_config(store, folder, max_failure_fraction=0.3))
    message = str(caught.value)
    assert message.startswith(
        "3 of 9 samples are unusable, more than the allowed 30%: frameless.mp4: the file"
    )
    assert "(and 2 more)" in message
    assert f'pave store query --store {store} "SELECT * FROM failures"' in message
    assert "\n" not in message


def test_a_run_that_leaves_nothing_fails(tmp_path: Path, clips: dict[str, Path], running_ray: str) -> None:
    config = audio_config(tmp_path / "store", clips["bikes.mp4"], max_failure_fraction=1.0)
    with pytest.raises(
        ExtractionFailedError,
        match=r"none of the 1 samples gave audio features: bikes.mp4: no audio track; leave",
    ):
        extract("audio", config)
    assert len(rows(tmp_path / "store", "SELECT * FROM failures")) == 1


def test_frames_are_stored_with_their_companion(
    tmp_path: Path, clips: dict[str, Path], running_ray: str
) -> None:
    encoder = FramesConfig(base=str(GOLDEN_BASE), num_frames=4)
    config = ExtractFramesConfig(store=str(tmp_path / "store"), videos=clips["bikes.mp4"], encoder=encoder)
    report = extract("frames", config)
    extractor = FramesExtractor(encoder)
    extractor.load("cpu")
    (expected,) = extractor.encode(
        [extractor.decode(Sample("bikes.mp4", "data", {"video": clips["bikes.mp4"]}))]
    )
    found = (
        FeatureStore.open(tmp_path / "store").snapshot().feature_set(report.dataset, "frames")["bikes.mp4"]
    )
    for stored, name in ((found.values, "values"), (found.companions["visual"], "visual")):
        np.testing.assert_array_equal(
            stored.view(np.uint16), expected.tensors[name].view(torch.uint16).numpy()
        )


@pytest.mark.usefixtures("no_ray")
def test_what_is_wrong_is_found_before_a_store_is_made(tmp_path: Path, clips: dict[str, Path]) -> None:
    store = tmp_path / "store"
    with pytest.raises(UnknownChannelError, match=r"choose one of: audio, .*frames"):
        extract("smell", ExtractConfig(store=str(store), videos=tmp_path))
    with pytest.raises(PipelineError, match="give ExtractAudioConfig"):
        extract("audio", ExtractConfig(store=str(store), videos=tmp_path))
    with pytest.raises(ManifestError, match="no videos in"):
        extract("audio", audio_config(store, tmp_path))
    manifest_config = ExtractAudioConfig(store=str(store), manifest=tmp_path / "manifest.parquet")
    with pytest.raises(ManifestError, match="there is no manifest"):
        extract("audio", manifest_config)
    assert not store.exists()


@pytest.mark.slow
def test_all_containers(tmp_path: Path, clips: dict[str, Path], running_ray: str) -> None:
    (tmp_path / "demo").mkdir()
    names = [name for name in clips if name.startswith("demo.")]
    for name in names:
        (tmp_path / "demo" / name).symlink_to(clips[name])
    report = extract("audio", audio_config(tmp_path / "store", tmp_path / "demo"))
    assert (report.total, report.done) == (21, 19)
    assert {failed.sample_id for failed in report.failed} == {"demo.gif", "demo.m1v"}
    steps = rows(tmp_path / "store", "SELECT DISTINCT steps FROM features")
    assert steps == [{"steps": 59}]
