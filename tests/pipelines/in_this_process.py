"""An extraction without Ray, for what does not depend on it."""

import json
from pathlib import Path

import pyarrow as pa
import torch

from extractors.contract import Extractor
from pipelines.extract import _feature_set
from pipelines.extract_rows import WorkItem, work_table
from pipelines.extract_stages import Decode, Encode, write
from pipelines.manifest import Manifest
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
