"""The bytes of a part: any Zarr v3 reader opens it, and our byte ranges are where the format says."""

import json
import resource
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import zarr
from tiny_store import TinyStore, add_part, assert_same, make_features, make_record, same_bits

from store.errors import StoreError
from store.feature_store import FeatureStore
from store.features import Array, TensorLayout
from store.part_layout import steps_per_chunk, time_ordered_uuid

# 128 KiB a row: two rows to an inner chunk
WIDE = TensorLayout("values", 64, 512, "float32")
NARROW = TensorLayout("centres", 1, 3, "bfloat16")


def as_stored(array: Array) -> Array:
    return array.view(np.uint16) if array.dtype == ml_dtypes.bfloat16 else array


@pytest.mark.parametrize(
    ("tensors", "lengths"),
    [
        pytest.param((WIDE, NARROW), (2, 1, 2), id="last chunk padded"),
        pytest.param((WIDE, NARROW), (4, 2), id="whole chunks"),
        pytest.param((WIDE,), (1,), id="one step"),
        pytest.param((TensorLayout("values", 1, 1024, "bfloat16"),), (7, 300, 13), id="bfloat16"),
        pytest.param((TensorLayout("values", 5, 8, "float16"), NARROW), (3, 1), id="float16"),
        pytest.param((TensorLayout("values", 300, 300, "float32"),), (2, 1), id="a row larger than a chunk"),
    ],
)
def test_plain_zarr_reads_identical_values(
    make_store: Callable[..., TinyStore], tensors: tuple[TensorLayout, ...], lengths: tuple[int, ...]
) -> None:
    tiny = make_store(lengths=(lengths,), tensors=tensors)
    group = zarr.open_group(tiny.path(), mode="r", zarr_format=3)
    bounds = np.cumsum([0, *lengths])
    assert group.attrs["sample_ids"] == list(tiny.samples)
    np.testing.assert_array_equal(group["row_offsets"][:], bounds)
    for layout in tensors:
        array = group[layout.name]
        stored = array[:]
        assert array.shape == (bounds[-1], layout.tokens, layout.dim)
        assert array.attrs["dtype"] == layout.dtype
        for sample, start, end in zip(tiny.samples.values(), bounds[:-1], bounds[1:], strict=True):
            written = sample.values if layout.name == "values" else sample.companions[layout.name]
            assert same_bits(stored[start:end], as_stored(written))
            assert same_bits(array[start:end], as_stored(written))
            assert same_bits(group["timestamps"][start:end], sample.timestamps)


def test_row_starts_at_its_multiple_of_row_bytes(make_store: Callable[..., TinyStore]) -> None:
    tiny = make_store(lengths=((3, 2, 4),), tensors=(WIDE, NARROW))
    second = list(tiny.samples.values())[1]
    shard = (tiny.path() / "values/c/0/0/0").read_bytes()
    assert shard[3 * WIDE.row_bytes : 5 * WIDE.row_bytes] == second.values.tobytes()
    # nine rows padded to ten, then five index entries and a checksum
    assert len(shard) == 10 * WIDE.row_bytes + 5 * 16 + 4
    companion = (tiny.path() / "centres/c/0/0/0").read_bytes()
    assert companion[3 * NARROW.row_bytes : 5 * NARROW.row_bytes] == second.companions["centres"].tobytes()
    assert (tiny.path() / "timestamps/c/0").read_bytes()[3 * 8 : 5 * 8] == second.timestamps.tobytes()


def test_zeros_are_on_disk(tmp_path: Path) -> None:
    record = make_record(tensors=(TensorLayout("values", 1, 3, "bfloat16"),))
    sample = make_features(record, 2, seed=0)
    sample.values[:] = 0
    sample.timestamps[:] = 0
    store = FeatureStore.open(tmp_path / "zeros")
    add_part(store, record, {"silence": sample})
    assert_same(store.snapshot().feature_set("avsd", "audio")["silence"], sample)
    assert store.verify().ok


def test_part_says_what_it_is(make_store: Callable[..., TinyStore]) -> None:
    tiny = make_store()
    attributes = json.loads((tiny.path() / "zarr.json").read_text())["attributes"]
    assert attributes["format_version"] == 1
    assert attributes["rate_hz"] == 1.0
    assert attributes["feature_set"]["config"] == tiny.record.config
    assert attributes["feature_set"]["tensors"][1] == vars(tiny.record.tensors[1])
    assert {"shape_legend", "writer"} <= attributes.keys()
    assert tiny.parts[0].startswith("parts/avsd/audio/0123456789abcdef/")


@pytest.mark.parametrize(
    ("row_bytes", "total", "steps"),
    [(2048, 10_000, 128), (2048, 5, 5), (300_000, 10, 1), (262_144, 3, 1), (1, 1, 1)],
)
def test_inner_chunks_hold_whole_rows(row_bytes: int, total: int, steps: int) -> None:
    assert steps_per_chunk(row_bytes, total) == steps


def test_samples_go_to_disk_at_once_and_memory_is_one_sample(tmp_path: Path) -> None:
    layout = TensorLayout("values", 16, 1024, "bfloat16")
    record = make_record(tensors=(layout,))
    sample = make_features(record, 64, seed=0)
    nbytes = sample.values.nbytes
    writer = FeatureStore.open(tmp_path / "store").writer(record)
    (shard,) = (tmp_path / "store").glob("parts/avsd/audio/*/.tmp-*/values/c/0/0/0")
    tracemalloc.start()
    for index in range(12):
        writer.write(f"s{index}", sample)
        assert shard.stat().st_size == (index + 1) * nbytes
    writer.close()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * nbytes


def test_full_disk_is_a_store_error_and_leaves_nothing(tmp_path: Path) -> None:
    record = make_record(tensors=(WIDE,))
    store = FeatureStore.open(tmp_path / "store")
    writer = store.writer(record)
    writer.write("fits", make_features(record, 2, seed=0))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3 * WIDE.row_bytes, hard))
    try:
        with pytest.raises(StoreError, match=r"cannot write a part .* free space"):
            writer.write("too much", make_features(record, 2, seed=0))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with pytest.raises(StoreError, match="aborted"):
        writer.close()
    assert store.verify().orphans == ()


def test_part_names_sort_by_time() -> None:
    names = [time_ordered_uuid() for _ in range(1000)]
    assert [name[:18] for name in names] == sorted(name[:18] for name in names)
    assert len(set(names)) == 1000
    assert all(name[14] == "7" and name[19] in "89ab" for name in names)
