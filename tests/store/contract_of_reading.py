"""The contract of snapshots and feature sets."""

import pickle

import numpy as np
import pytest
from tiny_store import RECORD, add_part, assert_same, features, make_record, same_bits

from store.errors import (
    FeatureShapeError,
    MissingSampleError,
    StoreError,
    UnknownFeatureSetError,
)
from store.feature_store import FeatureStore


class ReadingTests:
    def test_extracting_again_supersedes_in_new_snapshots_only(self, store: FeatureStore) -> None:
        add_part(store, RECORD, {"a": features(2, seed=1), "b": features(3, seed=2)})
        before = store.snapshot()
        pinned = before.feature_set("avsd", "audio")
        add_part(store, RECORD, {"a": features(5, seed=9)})
        assert_same(pinned["a"], features(2, seed=1))
        assert_same(before.feature_set("avsd", "audio")["a"], features(2, seed=1))
        assert_same(store.snapshot(before.version).feature_set("avsd", "audio")["a"], features(2, seed=1))
        after = store.snapshot().feature_set("avsd", "audio")
        assert_same(after["a"], features(5, seed=9))
        assert_same(after["b"], features(3, seed=2))
        assert after.sample_ids == ["a", "b"]
        assert store.query("SELECT steps FROM features WHERE sample_id = 'a'").to_pylist() == [{"steps": 5}]
        given = store.query("SELECT steps FROM features WHERE sample_id = ?", parameters=["a"])
        assert given.to_pylist() == [{"steps": 5}]
        assert not store.query(
            "SELECT steps FROM features WHERE sample_id = ?", parameters=["' OR 1=1 --"]
        ).num_rows
        old = store.query("SELECT steps FROM features WHERE sample_id = 'a'", version=before.version)
        assert old.to_pylist() == [{"steps": 2}]
        assert store.verify().ok

    def test_of_two_parts_in_one_commit_the_later_part_wins(self, store: FeatureStore) -> None:
        store.register(RECORD)
        parts = []
        for seed in (1, 2):
            with store.writer(RECORD) as writer:
                writer.write("a", features(2, seed=seed))
            parts.append(writer.close())
        store.commit(parts[::-1])
        assert_same(store.snapshot().feature_set("avsd", "audio")["a"], features(2, seed=2))

    def test_of_two_commits_the_later_commit_wins(self, store: FeatureStore) -> None:
        store.register(RECORD)
        with store.writer(RECORD) as older:
            older.write("a", features(2, seed=1))
        add_part(store, RECORD, {"a": features(2, seed=2)})
        store.commit([older.close()])
        assert_same(store.snapshot().feature_set("avsd", "audio")["a"], features(2, seed=1))
        assert store.query("SELECT part FROM features").to_pylist() == [{"part": older.close().part}]

    @pytest.mark.parametrize("version", [-1, 7])
    def test_unknown_version_names_the_choices(self, store: FeatureStore, version: int) -> None:
        with pytest.raises(StoreError, match="0 to 0"):
            store.snapshot(version)

    def test_feature_set_is_chosen_when_there_is_one(self, store: FeatureStore) -> None:
        other = make_record(fingerprint="fedcba9876543210", version="2")
        add_part(store, RECORD, {"a": features(2)})
        one = store.snapshot()
        assert one.feature_set("avsd", "audio").record == RECORD
        with pytest.raises(UnknownFeatureSetError, match=f"name one of: {RECORD.name}"):
            one.feature_set("avsd", "dense")
        with pytest.raises(UnknownFeatureSetError, match=RECORD.name):
            one.feature_set("avsd", "audio", "0000000000000000")

        store.register(other)
        assert store.snapshot().feature_set("avsd", "audio").record == RECORD
        assert len(store.snapshot().feature_set("avsd", "audio", other.fingerprint)) == 0

        add_part(store, other, {"a": features(4)})
        with pytest.raises(UnknownFeatureSetError, match=r"0123456789abcdef, fedcba9876543210"):
            store.snapshot().feature_set("avsd", "audio")
        assert store.snapshot().feature_set("avsd", "audio", other.fingerprint)["a"].values.shape == (4, 2, 3)
        assert one.feature_set("avsd", "audio").record == RECORD

    def test_missing_keeps_the_order(self, store: FeatureStore) -> None:
        store.register(RECORD)
        empty = store.snapshot().feature_set("avsd", "audio", RECORD.fingerprint)
        assert empty.missing(["b", "a"]) == ["b", "a"]
        add_part(store, RECORD, {"a": features(1), "m": features(1)})
        feature_set = store.snapshot().feature_set("avsd", "audio")
        assert feature_set.missing(["z", "m", "b", "a", "\ud800"]) == ["z", "b", "\ud800"]
        assert ("m" in feature_set, "b" in feature_set, "\ud800" in feature_set) == (True, False, False)

    def test_absent_sample_is_a_key_error_with_the_remedy(self, store: FeatureStore) -> None:
        add_part(store, RECORD, {"a": features(1)})
        feature_set = store.snapshot().feature_set("avsd", "audio")
        with pytest.raises(
            MissingSampleError, match=r"'b': .*avsd/audio/0123456789abcdef.*pave extract"
        ) as caught:
            feature_set["b"]
        assert isinstance(caught.value, KeyError)
        with pytest.raises(MissingSampleError, match="'b'"):
            feature_set.lengths(["a", "b"])

    def test_read_into_fills_and_pads(self, store: FeatureStore) -> None:
        samples = {"a": features(2, seed=1), "b": features(5, seed=2), "c": features(1, seed=3)}
        add_part(store, RECORD, samples)
        feature_set = store.snapshot().feature_set("avsd", "audio")
        ids = ["c", "b", "a", "b"]
        np.testing.assert_array_equal(feature_set.lengths(ids), [1, 5, 2, 5])
        for dtype, layout in ((RECORD.values.numpy_dtype, RECORD.values), (np.uint16, RECORD.values)):
            out = np.full((4, 6, layout.tokens, layout.dim), 7, dtype)
            lengths = feature_set.read_into(ids, out)
            assert lengths.dtype == np.int64
            np.testing.assert_array_equal(lengths, [1, 5, 2, 5])
            for row, sample_id, length in zip(out, ids, lengths, strict=True):
                assert same_bits(row[:length].view(layout.numpy_dtype), samples[sample_id].values)
                assert not row[length:].any()
        companion = np.empty((4, 5, 4, 5), np.float16)
        feature_set.read_into(ids, companion, tensor="visual")
        assert same_bits(companion[1], samples["b"].companions["visual"])

    def test_read_into_refuses_what_does_not_fit(self, store: FeatureStore) -> None:
        add_part(store, RECORD, {"a": features(2), "long": features(5)})
        feature_set = store.snapshot().feature_set("avsd", "audio")
        dtype = RECORD.values.numpy_dtype
        with pytest.raises(FeatureShapeError, match=r"'long': has 5 time steps.*room for 4"):
            feature_set.read_into(["a", "long"], np.empty((2, 4, 2, 3), dtype))
        with pytest.raises(StoreError, match=r"needs \[1, T_max, 2, 3\]"):
            feature_set.read_into(["a"], np.empty((2, 4, 2, 3), dtype))
        with pytest.raises(StoreError, match="float32"):
            feature_set.read_into(["a"], np.empty((1, 4, 2, 3), np.float32))
        with pytest.raises(StoreError, match="contiguous"):
            feature_set.read_into(["a"], np.empty((1, 4, 2, 6), dtype)[..., ::2])
        with pytest.raises(StoreError, match="'patches'"):
            feature_set.read_into(["a"], np.empty((1, 4, 2, 3), dtype), tensor="patches")
        with pytest.raises(MissingSampleError):
            feature_set.read_into(["nobody"], np.empty((1, 4, 2, 3), dtype))

    def test_snapshot_and_feature_set_pickle(self, store: FeatureStore) -> None:
        add_part(store, RECORD, {"a": features(2)})
        feature_set = store.snapshot().feature_set("avsd", "audio")
        feature_set["a"]
        copy = pickle.loads(pickle.dumps(feature_set))
        assert_same(copy["a"], features(2))
        assert pickle.loads(pickle.dumps(store)).snapshot() == store.snapshot()
        assert pickle.loads(pickle.dumps(store.snapshot())).feature_set("avsd", "audio").sample_ids == ["a"]
