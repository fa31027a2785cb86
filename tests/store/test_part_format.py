"""The bytes of a part: any Zarr v3 reader opens it, and our byte ranges are where the format says."""

import json
import resource
import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import google_crc32c
import ml_dtypes
import numpy as np
import pytest
import tensorstore
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


def read_with_zarr(part: Path, name: str, start: int | None = None, end: int | None = None) -> Array:
    group = zarr.open_group(part, mode="r", zarr_format=3)
    return group[name][start:end]


def read_with_tensorstore(part: Path, name: str, start: int | None = None, end: int | None = None) -> Array:
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{part / name}/"}}
    return tensorstore.open(spec, open=True, read=True).result()[start:end].read().result()


@pytest.mark.parametrize("read", [read_with_zarr, read_with_tensorstore])
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
def test_other_readers_get_identical_bits(
    make_store: Callable[..., TinyStore],
    tensors: tuple[TensorLayout, ...],
    lengths: tuple[int, ...],
    read: Callable[..., Array],
) -> None:
    tiny = make_store(lengths=(lengths,), tensors=tensors)
    part = tiny.path()
    bounds = np.cumsum([0, *lengths])
    samples = list(tiny.samples.values())
    assert zarr.open_group(part, mode="r", zarr_format=3).attrs["sample_ids"] == list(tiny.samples)
    assert same_bits(read(part, "row_offsets"), bounds.astype(np.int64))
    times = [sample.timestamps for sample in samples]
    assert same_bits(read(part, "timestamps"), np.concatenate(times))
    checksums = [0] * len(samples)
    for layout in tensors:
        written = [
            as_stored({"values": sample.values, **sample.companions}[layout.name]) for sample in samples
        ]
        assert same_bits(read(part, layout.name), np.concatenate(written))
        for index, (start, end) in enumerate(pairwise(bounds.tolist())):
            assert same_bits(read(part, layout.name, start, end), written[index])
        checksums = [
            google_crc32c.extend(crc, array.tobytes()) for crc, array in zip(checksums, written, strict=True)
        ]
    checksums = [
        google_crc32c.extend(crc, time.tobytes()) for crc, time in zip(checksums, times, strict=True)
    ]
    assert same_bits(read(part, "crc32c"), np.array(checksums, np.uint32))


def test_zarr_tells_what_the_arrays_are(make_store: Callable[..., TinyStore]) -> None:
    tiny = make_store(lengths=((2, 1),))
    group = zarr.open_group(tiny.path(), mode="r", zarr_format=3)
    assert sorted(group.array_keys()) == ["crc32c", "row_offsets", "timestamps", "values", "visual"]
    for layout in tiny.record.tensors:
        assert group[layout.name].shape == (3, layout.tokens, layout.dim)
        assert group[layout.name].attrs["dtype"] == layout.dtype
        assert group[layout.name].metadata.dimension_names == ("T", "S", "D")


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
