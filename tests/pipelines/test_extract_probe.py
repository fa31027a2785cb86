"""Probing real clips in real processes, with accidents."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from flaky_extractor import FlakyExtractor

from pipelines.extract_probe import Probe, choose_rows, probe, usable_rows
from pipelines.manifest import Manifest
from store.records import SampleRow

IDS = ("bad-numbers", "good", "kills-decoder", "kills-encoder", "trips-decoder", "zero-good")


def manifest_of(clip: Path, ids: tuple[str, ...]) -> Manifest:
    media = json.dumps({"video": clip.name})
    rows = [
        asdict(SampleRow("d", name, None, media, duration=float(number), audio_streams=1))
        for number, name in enumerate(ids)
    ]
    return Manifest(pa.Table.from_pylist(rows), clip.parent, "d")


@pytest.fixture(scope="module")
def probed(clips: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Probe:
    """Two samples that can be done, the first of all being one of those that cannot, and four accidents."""
    flaky = FlakyExtractor(tmp_path_factory.mktemp("graves"))
    return probe(flaky, manifest_of(clips["bigbuckbunny.mp4"], IDS), len(IDS), "cpu")


def test_what_can_be_done_is_measured(probed: Probe) -> None:
    assert [sample.sample_id for sample in probed.samples] == ["good", "zero-good"]
    assert [sample.duration for sample in probed.samples] == [1.0, 5.0]  # the manifest's
    for sample in probed.samples:
        assert sample.decode_seconds > 0 < sample.encode_seconds
        # mels of 4 windows, and 4 steps of 16 bfloat16 with their times
        assert 4 * 128 * 204 * 4 < sample.decoded_bytes < 4 * 128 * 204 * 4 + 2000
        assert sample.stored_bytes == 4 * 16 * 2 + 4 * 8
    for peak in (probed.decode_peak_bytes, probed.encode_peak_bytes):
        assert 2**26 < peak < 2**32
    assert (probed.channel, probed.device, probed.gpu_peak_bytes) == ("audio", "cpu", 0)


def test_accidents_are_reported_and_end_nothing(probed: Probe) -> None:
    found = {failure.sample_id: (failure.stage, failure.message) for failure in probed.failures}
    assert found == {
        "kills-decoder": ("decode", "its process died; check the file, and whether the memory was enough"),
        "trips-decoder": ("decode", "ZeroDivisionError: a library tripped"),
        "kills-encoder": ("encode", "its process died; check the file, and whether the memory was enough"),
        "bad-numbers": ("encode", "bad-numbers: holds NaN; check the weights"),
    }


def test_the_chosen_are_spread_over_the_durations() -> None:
    durations = np.random.default_rng(0).permutation(np.arange(101.0))
    rows = [{"sample_id": f"{d}", "duration": d, "n_frames": None} for d in durations]
    assert [row["duration"] for row in choose_rows(rows, 5)] == [0, 25, 50, 75, 100]
    assert [row["duration"] for row in choose_rows(rows, 1)] == [0]
    assert len(choose_rows(rows, 1000)) == 101
    assert choose_rows([], 5) == []
    scenes = [{"sample_id": f"{n}", "duration": None, "n_frames": n} for n in (30, 10, 20)]
    assert [row["n_frames"] for row in choose_rows(scenes, 2)] == [10, 30]


def test_only_usable_samples_are_asked(clips: dict[str, Path]) -> None:
    manifest = manifest_of(clips["bigbuckbunny.mp4"], ("a", "b", "c"))
    rows = manifest.table.to_pylist()
    rows[0]["error"] = "the file is empty"
    rows[1]["audio_streams"] = 0
    changed = Manifest(
        pa.Table.from_pylist(
            rows,
            manifest.table.schema.set(
                manifest.table.schema.get_field_index("error"), pa.field("error", pa.string())
            ),
        ),
        manifest.root,
        "d",
    )
    assert [row["sample_id"] for row in usable_rows(changed, "audio")] == ["c"]
    assert [row["sample_id"] for row in usable_rows(changed, "dense")] == ["b", "c"]
