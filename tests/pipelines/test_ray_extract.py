"""The Ray pipeline under accidents: dead workers, libraries that trip, places that cannot be written."""

from pathlib import Path

import numpy as np
import pytest
import torch
from flaky_extractor import FlakyExtractor, UnloadableExtractor

from extractors.audio import AudioExtractor
from extractors.contract import Extractor, Sample
from extractors.errors import WeightsError
from pipelines.config import ExecutionConfig
from pipelines.extract_stages import Failure, WorkItem
from pipelines.ray_extract import Job, part_size, run, task_size
from store import FeatureSetRecord, FeatureStore, StoreError, TensorLayout

SPECIAL = ("kills-decoder", "kills-encoder", "trips-decoder", "bad-numbers")


def record_of(extractor: Extractor) -> FeatureSetRecord:
    (values,) = extractor.spec.tensors
    return FeatureSetRecord(
        dataset="flaky",
        channel="audio",
        extractor="flaky",
        version="1",
        fingerprint=extractor.spec.fingerprint(),
        tensors=(TensorLayout(values.name, values.tokens, values.dim, values.dtype),),
        rate_hz=1.0,
        licence="none",
        config={},
    )


def work(world: Path, names: list[str]) -> list[WorkItem]:
    paths = sorted((world / "train").glob("*.mp4"))[: len(names)]
    return [
        WorkItem(name, {"video": str(path)}, f"hash of {name}", 7.0)
        for name, path in zip(names, paths, strict=True)
    ]


@pytest.mark.usefixtures("running_ray")
def test_accidents_cost_what_they_must_and_nothing_else(world: Path, tmp_path: Path) -> None:
    extractor = FlakyExtractor(tmp_path)
    record = record_of(extractor)
    store = FeatureStore.open(tmp_path / "store")
    store.register(record)
    items = work(world, [*SPECIAL, *(f"clip-{number:02d}" for number in range(20))])

    finished = list(run(Job(extractor, record, store.location), items, ExecutionConfig(part_samples=4)))

    assert (tmp_path / "encoder").exists()
    failures = {failure.sample_id: failure for news in finished for failure in news.failures}
    assert failures == {
        "kills-decoder": Failure(
            "kills-decoder",
            "WorkerDiedError",
            "2 workers died of it; check the file, and whether the memory was enough",
            permanent=False,
        ),
        "trips-decoder": Failure(
            "trips-decoder", "ZeroDivisionError", "ZeroDivisionError: a library tripped", permanent=False
        ),
        "bad-numbers": Failure(
            "bad-numbers", "ExtractorError", "bad-numbers: holds NaN; check the weights", permanent=True
        ),
    }
    parts = [part for news in finished for part in news.parts]
    store.commit(parts)
    assert all(len(part.rows) <= 4 for part in parts)
    assert store.verify().ok
    features = store.snapshot().feature_set("flaky", "audio")
    assert features.sample_ids == sorted({item.sample_id for item in items} - set(failures))
    plain = AudioExtractor(extractor.config)
    plain.load("cpu")
    for item in items:
        if item.sample_id not in failures:
            sample = Sample(item.sample_id, "flaky", {"video": Path(item.media["video"])})
            (expected,) = plain.encode([plain.decode(sample)])
            stored = features[item.sample_id].values
            np.testing.assert_array_equal(
                stored.view(np.uint16), expected.tensors["values"].view(torch.uint16).numpy()
            )
    hashes = store.query("SELECT sample_id, source_hash FROM features").to_pylist()
    assert all(row["source_hash"] == f"hash of {row['sample_id']}" for row in hashes)


@pytest.mark.usefixtures("running_ray")
def test_errors_of_the_workers_come_out_as_they_are(world: Path, tmp_path: Path) -> None:
    items = work(world, ["clip-00", "clip-01"])
    unloadable = UnloadableExtractor()
    store = FeatureStore.open(tmp_path / "store")
    with pytest.raises(WeightsError, match=r"^there is no weights file tower.pth; check the path$"):
        list(run(Job(unloadable, record_of(unloadable), store.location), items, ExecutionConfig()))
    (store.location.folder / "parts" / "flaky").write_text("a file is in the way")
    extractor = FlakyExtractor(tmp_path)
    with pytest.raises(StoreError, match=r"^cannot write a part at .*parts/flaky.* the free space there$"):
        list(run(Job(extractor, record_of(extractor), store.location), items, ExecutionConfig()))


def items_of(count: int, duration: float | None) -> list[WorkItem]:
    return [WorkItem(str(number), {}, None, duration) for number in range(count)]


def test_sizes_of_tasks_and_parts() -> None:
    record = record_of(FlakyExtractor(Path()))  # 32 bytes a second
    execution = ExecutionConfig(part_samples=100, part_bytes=32 * 60 * 10)
    assert task_size(items_of(1000, 7.0)) == 8  # about a minute
    assert task_size(items_of(1000, 3600.0)) == 1
    assert task_size(items_of(1000, 0.1)) == 16
    assert task_size(items_of(20, 7.0)) == 2  # enough pieces to see progress
    assert task_size(items_of(1, None)) == 1
    assert part_size(record, items_of(10_000, 60.0), execution) == 10  # by bytes
    assert part_size(record, items_of(10_000, 1.0), execution) == 96  # by number, in whole tasks
    assert part_size(record, items_of(10_000, 36_000.0), execution) == 1
    assert part_size(record, items_of(160, 7.0), execution) == 8  # enough pieces
