"""Batches that loader workers make in shared memory: right, kept while they are held, and given back."""

import gc
from collections.abc import Callable
from pathlib import Path

import fork_server  # noqa: F401  sets what the fork server imports before anything starts it
import numpy as np
import pytest
import torch
from tiny_store import TinyStore, features, same_bits
from torch.utils.data import DataLoader

from store import StoreError, shared_batches
from store.feature_set import FeatureSet
from store.shared_batches import Batch, SharedBatches

# Python 3.12 warns of any fork beside threads; the rule under test is that the child uses none of them.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


@pytest.fixture
def feature_set(make_store: Callable[..., TinyStore]) -> FeatureSet:
    """Samples of 1 to 9 time steps, whose values `tiny_store.features(steps, seed=steps)` makes."""
    return make_store(lengths=((1, 2, 3), (4, 5, 6, 7, 8, 9))).store.snapshot().feature_set("avsd", "audio")


def loader(dataset: SharedBatches, batches: list[list[str]], method: str = "fork") -> "DataLoader[Batch]":
    return DataLoader(
        dataset,  # type: ignore[arg-type]
        batch_size=None,
        sampler=batches,
        num_workers=2,
        multiprocessing_context=method,
        timeout=60,
    )


def check(feature_set: FeatureSet, batch: Batch, sample_ids: list[str]) -> None:
    assert batch.lengths.tolist() == feature_set.lengths(sample_ids).tolist()
    for row, length in zip(batch.values, batch.lengths.tolist(), strict=True):
        assert same_bits(row[:length], features(length, seed=length).values.view(np.uint16))
        assert not row[length:].any()


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_batches_are_right_and_stay_so_while_they_are_held(feature_set: FeatureSet, method: str) -> None:
    rng = np.random.default_rng(0)
    ids = feature_set.sample_ids
    batches = [[ids[number] for number in rng.integers(9, size=3)] for _ in range(200)]
    dataset = SharedBatches(feature_set)
    held: list[tuple[torch.Tensor, list[int], list[str]]] = []
    for number, (batch, sample_ids) in enumerate(zip(loader(dataset, batches, method), batches, strict=True)):
        check(feature_set, batch, sample_ids)
        if number % 10 == 0:
            # a tensor over the array is all that is kept
            held.append((torch.from_numpy(batch.values), batch.lengths.tolist(), sample_ids))
    for tensor, lengths, sample_ids in held:
        check(feature_set, Batch(tensor.numpy(), np.array(lengths)), sample_ids)


def buffers(dataset: SharedBatches) -> list[Path]:
    return list(dataset._folder.iterdir())


def test_memory_is_used_again_and_given_back(feature_set: FeatureSet) -> None:
    dataset = SharedBatches(feature_set)
    batches = [feature_set.sample_ids[:3]] * 100
    for _ in range(3):
        for batch in loader(dataset, batches):
            check(feature_set, batch, batches[0])
            # two workers: two batches ahead each, one that is being sent, one here; and the epoch's before
            assert len(buffers(dataset)) <= 16
    folder = dataset._folder
    last = batch.values.copy()
    assert folder.is_dir()
    del dataset
    gc.collect()
    assert not folder.exists()
    assert not [path for path in shared_batches._received_buffers if path.startswith(str(folder))]
    assert same_bits(batch.values, last)  # still held


def test_in_the_parent_it_is_a_plain_batch(feature_set: FeatureSet) -> None:
    dataset = SharedBatches(feature_set, tensor="visual")
    (sample_id,) = feature_set.sample_ids[-1:]
    batch = dataset[[sample_id]]
    assert isinstance(batch, Batch)
    assert same_bits(batch.values[0], feature_set[sample_id].companions["visual"])
    assert buffers(dataset) == []


def test_errors_of_a_worker_reach_the_parent(feature_set: FeatureSet) -> None:
    with pytest.raises(StoreError, match="at least one sample"):
        list(loader(SharedBatches(feature_set), [[]]))
    # the loader cannot make an error with two arguments again, and shows it in one of its own
    with pytest.raises(RuntimeError, match=r"MissingSampleError: sample 'nobody': has no features"):
        list(loader(SharedBatches(feature_set), [["nobody"]]))
