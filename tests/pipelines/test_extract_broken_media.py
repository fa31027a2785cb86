"""Broken clips through the flow itself: each is stored or in `failures` with a typed reason, none is lost."""

from pathlib import Path

from flaky_extractor import TINY
from fuzz_decode import write_sources
from mutated_media import ANY_FILE, SOME_FILES, plan, write

from pipelines.config import ExtractAudioConfig
from pipelines.extract import extract
from pipelines.media_folders import VIDEO_SUFFIXES
from store import FeatureStore

NUM_CLIPS = 60


def test_each_broken_clip_is_stored_or_a_failure(
    tmp_path: Path, clips: dict[str, Path], running_ray: str
) -> None:
    for name in ("sources", "clips"):
        (tmp_path / name).mkdir()
    sources = write_sources(tmp_path / "sources", clips)
    kinds = {*ANY_FILE, *SOME_FILES} - {"mp4 index bomb"}  # which takes a gigabyte
    mutants = [mutant for mutant in plan(200, sources) if mutant.kind in kinds]
    mutants = [mutant for mutant in mutants if Path(mutant.source).suffix in VIDEO_SUFFIXES][:NUM_CLIPS]
    for mutant in mutants:
        (tmp_path / "clips" / f"{mutant.number}").mkdir()
        write(mutant, sources, tmp_path / "clips" / f"{mutant.number}")

    config = ExtractAudioConfig(
        store=str(tmp_path / "store"),
        videos=tmp_path / "clips",
        dataset="broken",
        encoder=TINY,
        max_failure_fraction=1.0,
    )
    report = extract("audio", config)

    store = FeatureStore.open(tmp_path / "store", create=False)
    stored = set(store.query("SELECT sample_id FROM features")["sample_id"].to_pylist())
    failures = store.query("SELECT * FROM failures").to_pylist()
    failed = {row["sample_id"] for row in failures}
    assert stored | failed == {f"{mutant.number}/{mutant.source}" for mutant in mutants}
    assert not stored & failed
    assert (report.total, report.done, len(report.failed)) == (NUM_CLIPS, len(stored), len(failed))
    assert min(len(stored), len(failed)) > 5
    for row in failures:
        assert row["error_type"] in ("MediaError", "MissingTrackError"), row
        assert row["permanent"]
        assert "; " in row["message"]
        assert row["message"].isprintable()
    assert store.verify().ok
