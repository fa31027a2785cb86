"""Features as views of mapped parts, and what happens to them when files change under them."""

import gc
import multiprocessing
import os
import pickle
import shutil
from collections.abc import Callable

import pyarrow as pa
import pytest
from tiny_store import TinyStore, assert_same

from store import mapped_parts
from store.errors import DamagedPartError, MissingSampleError
from store.feature_set import FeatureSet
from store.sample_index import SampleIndex, id_hashes


def test_views_are_the_stored_bits_and_read_only(make_store: Callable[..., TinyStore]) -> None:
    tiny = make_store(lengths=((1, 5), (3, 2)))
    feature_set = tiny.store.snapshot().feature_set("avsd", "audio")
    for sample_id, sample in tiny.samples.items():
        view = feature_set.view(sample_id)
        assert_same(view, sample)
        for array in (view.values, view.timestamps, *view.companions.values()):
            assert not array.flags.writeable
            assert not array.flags.owndata
        assert feature_set[sample_id].values.flags.writeable
    with pytest.raises(MissingSampleError):
        feature_set.view("nobody")


def test_a_view_outlives_its_feature_set_and_its_files(
    make_store: Callable[..., TinyStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapped_parts, "_MAX_MAPPED_FILES", 1)
    tiny = make_store(lengths=((4, 3), (2,)))
    feature_set = tiny.store.snapshot().feature_set("avsd", "audio")
    views = {sample_id: feature_set.view(sample_id) for sample_id in tiny.samples}
    del feature_set
    gc.collect()
    shutil.rmtree(tiny.root)
    for sample_id, sample in tiny.samples.items():
        assert_same(views[sample_id], sample)


@pytest.mark.parametrize("size", [0, 10])
def test_a_file_cut_short_is_an_error_even_when_it_is_mapped(
    make_store: Callable[..., TinyStore], size: int
) -> None:
    tiny = make_store(lengths=((4, 3),))
    feature_set = tiny.store.snapshot().feature_set("avsd", "audio")
    sample_id = min(tiny.samples)
    feature_set.view(sample_id)
    os.truncate(tiny.path() / "values" / "c" / "0" / "0" / "0", size)
    fresh: FeatureSet = pickle.loads(pickle.dumps(feature_set))
    for reader in (feature_set, fresh):
        for read in (reader.view, reader.__getitem__):
            with pytest.raises(
                DamagedPartError, match=r"(ends \d+ bytes too early|cannot be mapped).*verify"
            ):
                read(sample_id)


def view_in_child(feature_set: FeatureSet, sample_id: str) -> bytes:
    return feature_set.view(sample_id).values.tobytes()


# Python 3.12 warns of any fork beside threads; the rule under test is that the child uses none of them.
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_views_work_in_workers(make_store: Callable[..., TinyStore], method: str) -> None:
    tiny = make_store()
    feature_set = tiny.store.snapshot().feature_set("avsd", "audio")
    sample_id = min(tiny.samples)
    before = feature_set.view(sample_id)
    with multiprocessing.get_context(method).Pool(1) as pool:
        found = pool.apply_async(view_in_child, (feature_set, sample_id)).get(timeout=60)
    assert found == before.values.tobytes() == tiny.samples[sample_id].values.tobytes()


def test_ids_of_one_hash_are_told_apart() -> None:
    # a known collision of crc32
    names = ["plumless", "clip-1", "buckeroo", "ünï"]
    ids = pa.chunked_array([names[:1], names[1:]])
    hashes = id_hashes(ids)
    assert hashes[0] == hashes[2]
    order = hashes.argsort()
    index = SampleIndex.from_hashed(ids.combine_chunks().take(pa.array(order)), hashes[order])
    again = pickle.loads(pickle.dumps(index))
    for one in (index, again):
        assert [names[order[one.find(name)]] for name in names] == names
        assert one.find("plumles") is None
        assert one.absent([*names, "nobody", "\ud800"]) == ["nobody", "\ud800"]
        assert sorted(one) == sorted(names)
    without = SampleIndex.from_hashed(pa.array(["buckeroo"]), hashes[2:3])
    assert without.find("plumless") is None
    assert without.absent(["plumless", "buckeroo"]) == ["plumless"]
