"""`verify` finds every kind of damage, names it, and blames nothing else."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from tiny_store import TinyStore, make_features

from store import catalog
from store.errors import DamagedPartError


def flip_byte(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def commit_changed(tiny: TinyStore, **changes: object) -> None:
    """Commits a new part with one sample, with other things in its catalog row than the writer said."""
    with tiny.store.writer(tiny.record) as writer:
        writer.write("wrong", make_features(tiny.record, 3, seed=3))
    part = writer.close()
    tiny.store.commit([replace(part, rows=(replace(part.rows[0], **changes),))])


@pytest.mark.parametrize("array", ["values/c/0/0/0", "visual/c/0/0/0", "timestamps/c/0", "crc32c/c/0"])
@pytest.mark.parametrize("sample", [0, 1])
def test_flipped_byte_is_found(make_store: Callable[..., TinyStore], array: str, sample: int) -> None:
    tiny = make_store(lengths=((1, 5), (3, 2)))
    size = (tiny.path() / array).stat().st_size
    flip_byte(tiny.path() / array, offset=0 if sample == 0 else size // 2)
    report = tiny.store.verify()
    (problem,) = report.problems
    assert not report.ok
    assert (problem.part, problem.sample_id) == (tiny.parts[0], list(tiny.samples)[sample])
    assert "crc32c" in problem.reason
    assert (report.num_parts, report.num_rows) == (2, 4)


def test_flipped_byte_in_the_shard_index_is_found(make_store: Callable[..., TinyStore]) -> None:
    tiny = make_store()
    shard = tiny.path() / "values/c/0/0/0"
    flip_byte(shard, offset=shard.stat().st_size - 1)
    (problem,) = tiny.store.verify().problems
    assert problem.sample_id is None
    assert "shard index of values" in problem.reason


@pytest.mark.parametrize("cut", [1, 40])
def test_truncated_shard_is_found(make_store: Callable[..., TinyStore], cut: int) -> None:
    tiny = make_store()
    shard = tiny.path() / "visual/c/0/0/0"
    shard.write_bytes(shard.read_bytes()[:-cut])
    (problem,) = tiny.store.verify().problems
    assert (problem.part, problem.sample_id) == (tiny.parts[0], None)
    assert "shard of visual has" in problem.reason
    assert "2 samples" in problem.reason


def test_reading_a_shard_cut_inside_a_sample_raises(make_store: Callable[..., TinyStore]) -> None:
    tiny = make_store()
    shard = tiny.path() / "values/c/0/0/0"
    shard.write_bytes(shard.read_bytes()[: tiny.record.values.row_bytes * 3])
    feature_set = tiny.store.snapshot().feature_set("avsd", "audio")
    first, second = list(tiny.samples)[:2]
    assert len(feature_set[first].values) == 1
    with pytest.raises(DamagedPartError, match=r"values/c/0/0/0 ends 36 bytes too early.*verify"):
        feature_set[second]


def test_missing_part_is_found_and_reading_it_raises(make_store: Callable[..., TinyStore]) -> None:
    tiny = make_store()
    shutil.rmtree(tiny.path(1))
    (problem,) = tiny.store.verify().problems
    assert (problem.part, problem.sample_id) == (tiny.parts[1], None)
    assert "No such file" in problem.reason
    with pytest.raises(DamagedPartError, match=r"No such file.*verify"):
        tiny.store.snapshot().feature_set("avsd", "audio")[list(tiny.samples)[2]]


@pytest.mark.parametrize(
    ("file", "changes", "words"),
    [
        ("values/zarr.json", {"data_type": "float16"}, "values is"),
        ("values/zarr.json", {"shape": [5, 2, 3]}, "values is"),
        ("values/zarr.json", {"attributes": {"dtype": "float16"}}, "the feature set stores bfloat16"),
        ("values/zarr.json", {"codecs": [{"name": "bytes"}]}, "metadata is broken"),
        ("row_offsets/zarr.json", {"data_type": "int32"}, "row_offsets is not int64"),
        ("timestamps/zarr.json", {"codecs": [{"name": "zstd"}]}, "timestamps is not stored as plain"),
        ("zarr.json", {"attributes": {}}, "format_version"),
        ("zarr.json", {"attributes": {"format_version": 9}}, "upgrade"),
    ],
)
def test_other_layout_is_found(
    make_store: Callable[..., TinyStore], file: str, changes: dict[str, object], words: str
) -> None:
    tiny = make_store()
    edit_json(tiny.path() / file, **changes)
    (problem,) = tiny.store.verify().problems
    assert problem.part == tiny.parts[0]
    assert words in problem.reason


def test_metadata_that_is_not_json_is_found(make_store: Callable[..., TinyStore]) -> None:
    tiny = make_store()
    (tiny.path() / "crc32c/zarr.json").write_text("{")
    (problem,) = tiny.store.verify().problems
    assert "metadata is broken" in problem.reason


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"row1": 2}, "rows 0 to 2, the part 0 to 3"),
        ({"row0": 400, "row1": 403}, "rows 400 to 403"),
        ({"crc32c": 5}, "crc32c"),
        ({"nbytes": 3}, "3 bytes"),
        ({"sample_id": "stranger"}, "does not hold it"),
        ({"part": "parts/avsd/audio/0123456789abcdef/gone"}, "No such file"),
    ],
)
def test_wrong_catalog_row_is_found(
    make_store: Callable[..., TinyStore], changes: dict[str, object], words: str
) -> None:
    tiny = make_store(lengths=((2,),))
    commit_changed(tiny, **changes)
    (problem,) = tiny.store.verify().problems
    assert words in str(problem)
    assert problem.sample_id in ("wrong", "stranger", None)


def test_part_committed_twice_is_found(make_store: Callable[..., TinyStore]) -> None:
    tiny = make_store(lengths=((2,),))
    with tiny.store.writer(tiny.record) as writer:
        writer.write("twice", make_features(tiny.record, 3, seed=3))
    part = writer.close()
    row = {"dataset": "avsd", "channel": "audio", "fingerprint": tiny.record.fingerprint} | asdict(
        part.rows[0]
    )
    catalog.append(tiny.store.location, "catalog", [row, row])
    (problem,) = tiny.store.verify().problems
    assert (problem.sample_id, problem.reason) == ("twice", "is committed twice")


def test_part_of_another_feature_set_is_found(make_store: Callable[..., TinyStore]) -> None:
    tiny = make_store(lengths=((2,),))
    other = replace(tiny.record, fingerprint="fedcba9876543210")
    tiny.store.register(other)
    with tiny.store.writer(tiny.record) as writer:
        writer.write("a", make_features(tiny.record, 3, seed=3))
    tiny.store.commit([replace(writer.close(), fingerprint=other.fingerprint)])
    (problem,) = tiny.store.verify().problems
    assert f"it holds {tiny.record.name}, not {other.name}" in problem.reason


def test_extracting_a_damaged_sample_again_repairs_new_snapshots(
    make_store: Callable[..., TinyStore],
) -> None:
    tiny = make_store()
    shutil.rmtree(tiny.path(0))
    with tiny.store.writer(tiny.record) as writer:
        for sample_id in list(tiny.samples)[:2]:
            writer.write(sample_id, make_features(tiny.record, 6, seed=6))
    tiny.store.commit([writer.close()])
    feature_set = tiny.store.snapshot().feature_set("avsd", "audio")
    assert [len(feature_set[sample_id].values) for sample_id in tiny.samples] == [6, 6, 3, 2]
    assert [problem.part for problem in tiny.store.verify().problems] == [tiny.parts[0]]
