"""An extraction without Ray, for what does not depend on it."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import torch

from extractors.contract import Extractor
from pipelines.config import ExecutionConfig
from pipelines.extract import _feature_set
from pipelines.extract_rows import Failure, WorkItem, work_table
from pipelines.extract_stages import Decode, Encode
from pipelines.manifest import Manifest
from pipelines.part_stage import write
from pipelines.ray_extract import Finished, Job
from pipelines.worker_deaths import DeathMarks
from store import FeatureStore, PartRecord


def extracted(extractor: Extractor, manifest: Manifest, url: Path, scratch: Path) -> FeatureStore:
    """What the workers of an extraction do to the usable samples of a manifest, without Ray."""
    record, channel = _feature_set(manifest.dataset, extractor), extractor.channel
    store = FeatureStore.open(url)
    store.register(record)
    items = [
        WorkItem(
            row["sample_id"],
            {role: str(manifest.root / path) for role, path in json.loads(row["media"]).items()},
            row["source_hash"],
            row["duration"],
            (channel,),
        )
        for row in manifest.table.to_pylist()
        if row["error"] is None
    ]
    marks, threads = DeathMarks(scratch / "deaths", stall_seconds=60), torch.get_num_threads()
    decode = Decode({channel: extractor}, manifest.dataset, marks, memory_bytes=2**32)
    decoded = pa.concat_tables(decode(work_table(items)))
    encoded = Encode({channel: extractor}, "cpu", threads, marks)(decoded)
    results = write(encoded, store.location, {channel: record}, part_bytes=2**30).to_pylist()
    assert [row["failure"] for row in results] == [None]
    store.commit([PartRecord.from_json(results[-1]["part"])])
    return store


def run_here(job: Job, items: Sequence[WorkItem], execution: ExecutionConfig) -> Iterator[Finished]:
    """`pipelines.ray_extract.run` without Ray: the same stages one after the other, in one go."""
    with TemporaryDirectory() as scratch:
        marks = DeathMarks(Path(scratch) / "deaths", execution.stall_seconds)
        decode = Decode(job.extractors, job.dataset, marks, execution.decode_memory_bytes)
        decoded = pa.concat_tables(decode(work_table(items)))
        encoded = Encode(job.extractors, "cpu", torch.get_num_threads(), marks)(decoded)
        rows = write(encoded, job.location, job.feature_sets, execution.part_bytes).to_pylist()
    yield Finished(
        tuple(PartRecord.from_json(row["part"]) for row in rows if row["part"] is not None),
        tuple(Failure(**json.loads(row["failure"])) for row in rows if row["failure"] is not None),
    )
