"""Reading from loader workers: forked, from a fork server, spawned, threads, and with few open files."""

import gc
import os
import random
import subprocess
import sys
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import fork_server  # noqa: F401  sets what the fork server imports before anything starts it
import numpy as np
import pytest
import torch
from tiny_store import RECORD, TinyStore, add_part, assert_same, features, same_bits
from torch.utils.data import DataLoader, Dataset

from store import local_files, mapped_parts
from store.feature_set import FeatureSet
from store.feature_store import FeatureStore
from store.features import Features

NUM_READS = 1000
BATCH_SIZE = 10


def features_of(sample_id: str, generation: int = 0) -> Features:
    """The features that belong to the id, 1 to 9 time steps; each generation has others."""
    seed = zlib.crc32(f"{generation} {sample_id}".encode())
    return features(1 + seed % 9, seed=seed)


@dataclass(frozen=True)
class Reads(Dataset[object]):
    """Read number i is of sample `order[i]`; the first NUM_READS by `[]`, the others by `read_into`."""

    feature_set: FeatureSet
    order: list[str]

    def __len__(self) -> int:
        return len(self.order)

    def __getitems__(self, reads: list[int]) -> tuple[int, list[int], list[torch.Tensor]]:
        """The worker's process id, the reads, and what was read."""
        sample_ids = [self.order[read] for read in reads]
        one_by_one = reads[0] < NUM_READS
        return os.getpid(), reads, self.samples(sample_ids) if one_by_one else self.batches(sample_ids)

    def samples(self, sample_ids: list[str]) -> list[torch.Tensor]:
        """All arrays of each sample, one after the other."""
        arrays = []
        for sample_id in sample_ids:
            sample = self.feature_set[sample_id]
            arrays += [sample.values.view(np.uint16), sample.companions["visual"], sample.timestamps]
        return [torch.from_numpy(array) for array in arrays]

    def batches(self, sample_ids: list[str]) -> list[torch.Tensor]:
        """Values and companions (B, T_max, S, D), and the lengths (B,)."""
        longest = int(self.feature_set.lengths(sample_ids).max())
        values = torch.empty(len(sample_ids), longest, 2, 3, dtype=torch.uint16)
        visual = torch.empty(len(sample_ids), longest, 4, 5, dtype=torch.float16)
        lengths = self.feature_set.read_into(sample_ids, values.numpy())
        self.feature_set.read_into(sample_ids, visual.numpy(), tensor="visual")
        return [values, visual, torch.from_numpy(lengths)]


def as_it_is(read: object) -> object:
    return read


def samples_in(batch: list[torch.Tensor]) -> list[list[np.ndarray]]:
    """Per sample its values as uint16, its companion, and (where samples were read) its timestamps."""
    arrays = [tensor.numpy() for tensor in batch]
    if len(arrays) == 3 * BATCH_SIZE:
        return [arrays[start : start + 3] for start in range(0, len(arrays), 3)]
    values, visual, lengths = arrays
    for tensor in (values, visual):
        assert not any(row[length:].any() for row, length in zip(tensor, lengths, strict=True))
    return [[values[row, :length], visual[row, :length]] for row, length in enumerate(lengths)]


def open_files(root: Path) -> list[str]:
    """Files below `root` that this process has open."""
    links = (os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd"))
    return [
        target
        for target in (os.readlink(link) for link in links if os.path.islink(link))
        if str(root) in target
    ]


# Python 3.12 warns of any fork beside threads; the rule under test is that the child uses none of them.
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes:UserWarning")
@pytest.mark.timeout(120)
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_four_loader_workers_read_the_right_rows(tmp_path: Path, method: str) -> None:
    """A thousand reads each way, after the parent has read, with delta-rs at work in it."""
    store = FeatureStore.open(tmp_path / "store")
    ids = [f"clip {number}.mp4" for number in range(60)]
    for start in range(0, len(ids), 12):
        add_part(store, RECORD, {name: features_of(name) for name in ids[start : start + 12]})
    feature_set = store.snapshot().feature_set("avsd", "audio")
    for sample_id in ids[::3]:  # opens files that a forked worker inherits
        assert_same(feature_set[sample_id], features_of(sample_id))
    add_part(store, RECORD, {name: features_of(name, generation=1) for name in ids[::2]})

    order = random.Random(0).choices(ids, k=2 * NUM_READS)
    loader = DataLoader(
        Reads(feature_set, order),
        batch_size=BATCH_SIZE,
        num_workers=4,
        collate_fn=as_it_is,
        multiprocessing_context=method,
        timeout=60,
    )
    workers, num_reads = set(), 0
    for worker, reads, batch in loader:
        workers.add(worker)
        for read, arrays in zip(reads, samples_in(batch), strict=True):
            expected = features_of(order[read])
            wanted = (expected.values.view(np.uint16), expected.companions["visual"], expected.timestamps)
            assert all(same_bits(*pair) for pair in zip(arrays, wanted, strict=False))
            num_reads += 1
        if num_reads % 500 == 0:  # a training's parent goes on with its own work
            add_part(store, RECORD, {f"{method} {num_reads}": features(2)})
            assert_same(feature_set[ids[0]], features_of(ids[0]))
    assert num_reads == 2 * NUM_READS
    assert len(workers) == 4
    assert os.getpid() not in workers
    newest = store.snapshot().feature_set("avsd", "audio")
    assert len(newest) == len(ids) + 4
    assert_same(newest[ids[0]], features_of(ids[0], generation=1))


def test_few_files_stay_open_and_none_after_use(
    make_store: Callable[..., TinyStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_files, "_MAX_OPEN_FILES", 3)
    monkeypatch.setattr(mapped_parts, "_MAX_MAPPED_FILES", 4)  # two parts of two tensors
    tiny = make_store(lengths=((2,), (3,), (1,), (4,)))
    feature_set = tiny.store.snapshot().feature_set("avsd", "audio")
    assert open_files(tmp_path) == []
    for sample_id in [*tiny.samples, *tiny.samples]:
        assert_same(feature_set[sample_id], tiny.samples[sample_id])
        assert 0 < len(open_files(tmp_path)) <= 4
    out = np.empty((1, 4, 2, 3), np.uint16)
    for sample_id in [*tiny.samples, *tiny.samples]:
        feature_set.read_into([sample_id], out)
        assert len(open_files(tmp_path)) <= 4 + 3
    del feature_set
    gc.collect()
    assert open_files(tmp_path) == []


def test_threads_may_share_a_feature_set(
    make_store: Callable[..., TinyStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_files, "_MAX_OPEN_FILES", 2)  # so that threads close files under each other
    tiny = make_store(lengths=((2, 3), (1,), (4,)))
    feature_set = tiny.store.snapshot().feature_set("avsd", "audio")
    with ThreadPoolExecutor(8) as threads:
        for sample_id, sample in threads.map(lambda name: (name, feature_set[name]), list(tiny.samples) * 50):
            assert_same(sample, tiny.samples[sample_id])


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("store", {"numpy", "pyarrow", "zarr", "deltalake", "duckdb"}),
        ("store.feature_set", {"zarr", "deltalake", "duckdb", "torch"}),
        ("store.feature_store", {"torch", "pandas", "ray"}),
    ],
)
def test_import_stays_light(module: str, unwanted: set[str]) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert module in loaded
    assert unwanted & set(loaded) == set()


def test_public_names_come_from_the_package() -> None:
    import store

    assert {name: getattr(store, name).__module__ for name in store._HOME} == store._HOME
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = store.nothing
