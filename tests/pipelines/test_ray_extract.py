"""The Ray pipeline under accidents: dead workers, libraries that trip, places that cannot be written."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from flaky_extractor import FlakyExtractor, UnloadableExtractor

from extractors.audio import AudioExtractor
from extractors.contract import Extractor, Sample
from extractors.errors import WeightsError
from pipelines.config import ExecutionConfig
from pipelines.extract_rows import Failure, WorkItem
from pipelines.ray_extract import Finished, Job, run, task_size, write_size
from store import FeatureSetRecord, FeatureStore, StoreError, TensorLayout

ACCIDENTS = ("kills-decoder", "kills-encoder", "trips-decoder", "bad-numbers", "stalls", "eats-memory")


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
        WorkItem(name, {"video": str(path)}, f"hash of {name}", 7.0, ("audio",))
        for name, path in zip(names, paths, strict=True)
    ]


def job_of(extractor: Extractor, store: FeatureStore) -> Job:
    record = record_of(extractor)
    store.register(record)
    return Job({"audio": extractor}, {"audio": record}, store.location)


def failures_of(finished: list[Finished]) -> dict[str, Failure]:
    return {failure.sample_id: failure for news in finished for failure in news.failures}


@pytest.mark.usefixtures("running_ray")
def test_accidents_cost_what_they_must_and_nothing_else(world: Path, tmp_path: Path) -> None:
    extractor = FlakyExtractor(tmp_path)
    store = FeatureStore.open(tmp_path / "store")
    items = work(world, [*ACCIDENTS, *(f"clip-{number:02d}" for number in range(18))])
    execution = ExecutionConfig(part_samples=4, stall_seconds=3, decode_memory_bytes=2**31)

    finished = list(run(job_of(extractor, store), items, execution))

    assert (tmp_path / "kills-encoder").exists()
    failures = failures_of(finished)
    expected = {
        "kills-decoder": (
            "WorkerDiedError",
            "2 workers died of it; check the file, and whether the memory was enough",
            False,
        ),
        "trips-decoder": ("ZeroDivisionError", "ZeroDivisionError: a library tripped", False),
        "bad-numbers": ("ExtractorError", "bad-numbers: holds NaN; check the weights", True),
        "stalls": (
            "StalledError",
            "it gave nothing for 3 s; check the file and the disk it is on, or raise execution.stall_seconds",
            False,
        ),
        "eats-memory": (
            "MemoryError",
            "MemoryError:; raise execution.decode_memory_bytes if the file is sound",
            False,
        ),
    }
    assert failures == {name: Failure(name, "audio", *reason) for name, reason in expected.items()}
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
        list(run(job_of(unloadable, store), items, ExecutionConfig()))
    (store.location.folder / "parts" / "flaky").write_text("a file is in the way")
    extractor = FlakyExtractor(tmp_path)
    with pytest.raises(StoreError, match=r"^cannot write a part at .*parts/flaky.* the free space there$"):
        list(run(job_of(extractor, store), items, ExecutionConfig()))


@pytest.mark.usefixtures("running_ray")
def test_a_dead_worker_repeats_one_batch(world: Path, tmp_path: Path) -> None:
    extractor = FlakyExtractor(tmp_path)
    store = FeatureStore.open(tmp_path / "store")
    names = ["clip-0", "kills-one-decoder", "clip-1", "kills-encoder", *(f"clip-{n}" for n in range(2, 22))]
    items = work(world, names)

    finished = list(run(job_of(extractor, store), items, ExecutionConfig(batch_bytes=2**20)))

    store.commit([part for news in finished for part in news.parts])
    assert store.snapshot().feature_set("flaky", "audio").sample_ids == sorted(names)
    assert not failures_of(finished)
    for stage, killer in (("decode", "kills-one-decoder"), ("encode", "kills-encoder")):
        repeated = {
            name for (where, name), count in extractor.calls().items() if where == stage and count > 1
        }
        assert killer in repeated
        assert len(repeated) <= task_size(items)


def items_of(count: int, duration: float | None, num_files: int = 1) -> list[WorkItem]:
    media = {str(number): "file" for number in range(num_files)}
    return [WorkItem(str(number), media, None, duration, ("audio",)) for number in range(count)]


def test_sizes_of_tasks_and_parts(tmp_path: Path) -> None:
    extractor = FlakyExtractor(tmp_path)
    job = job_of(extractor, FeatureStore.open(tmp_path / "store"))  # 32 bytes a second
    execution = ExecutionConfig(part_samples=100, part_bytes=32 * 60 * 40)
    assert task_size(items_of(1000, 120.0)) == 8  # about a quarter of an hour
    assert task_size(items_of(1000, 3600.0)) == 1
    assert task_size(items_of(1000, 0.1)) == 16
    assert task_size(items_of(20, 7.0)) == 2  # enough pieces to see progress
    assert task_size(items_of(1, None)) == 1
    assert write_size(job, items_of(10_000, 60.0), execution) == 32  # by bytes, in whole tasks
    assert write_size(job, items_of(10_000, 1.0), execution) == 96  # by number
    assert write_size(job, items_of(10_000, 36_000.0), execution) == 1
    assert write_size(job, items_of(160, 7.0), execution) == 10  # enough pieces
    without_rate = replace(job.feature_sets["audio"], channel="exo", rate_hz=None)
    cameras = Job({}, {"audio": job.feature_sets["audio"], "exo": without_rate}, job.location)
    # each camera is taken to give 32 steps
    sample_bytes = 32 * (60 + 3 * 32)
    execution = ExecutionConfig(part_bytes=40 * sample_bytes)
    assert (
        write_size(cameras, items_of(10_000, 60.0, num_files=3), execution) == 32 * 2
    )  # a row for each channel
