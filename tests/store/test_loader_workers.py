"""Reading from loader workers: forked, spawned, threads, and with few open files."""

import gc
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tiny_store import TinyStore, assert_same, same_bits

from store import local_files
from store.feature_set import FeatureSet

_worker_set: FeatureSet


def set_up_worker(feature_set: FeatureSet) -> None:
    """What a loader does once per worker."""
    global _worker_set
    _worker_set = feature_set


def read_batch(sample_ids: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """What a loader's collate function does in a worker: bf16 bits (B, T_max, S, D) and lengths."""
    layout = _worker_set.record.values
    longest = int(_worker_set.lengths(sample_ids).max())
    batch = np.empty((len(sample_ids), longest, layout.tokens, layout.dim), np.uint16)
    return batch, _worker_set.read_into(sample_ids, batch)


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
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_read_the_same_bits(make_store: Callable[..., TinyStore], method: str) -> None:
    tiny = make_store(lengths=((1, 5, 3), (3, 2)))
    feature_set = tiny.store.snapshot().feature_set("avsd", "audio")
    ids = feature_set.sample_ids
    assert_same(feature_set[ids[0]], tiny.samples[ids[0]])  # opens files that a forked worker inherits
    batches = [ids[start : start + 2] for start in range(len(ids))] * 3
    context = multiprocessing.get_context(method)
    with context.Pool(2, initializer=set_up_worker, initargs=(feature_set,)) as pool:
        results = pool.map_async(read_batch, batches).get(timeout=60)
    for sample_ids, (batch, lengths) in zip(batches, results, strict=True):
        for row, sample_id, length in zip(batch, sample_ids, lengths, strict=True):
            assert same_bits(row[:length], tiny.samples[sample_id].values.view(np.uint16))
            assert not row[length:].any()


def test_few_files_stay_open_and_none_after_use(
    make_store: Callable[..., TinyStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_files, "_MAX_OPEN_FILES", 3)
    tiny = make_store(lengths=((2,), (3,), (1,), (4,)))
    feature_set = tiny.store.snapshot().feature_set("avsd", "audio")
    assert open_files(tiny.root) == []
    for sample_id in [*tiny.samples, *tiny.samples]:
        assert_same(feature_set[sample_id], tiny.samples[sample_id])
        assert 0 < len(open_files(tiny.root)) <= 3
    del feature_set
    gc.collect()
    assert open_files(tiny.root) == []


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
