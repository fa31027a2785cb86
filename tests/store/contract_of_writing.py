"""The contract of opening, writing and committing."""

import pickle

import numpy as np
import pytest
from tiny_store import RECORD, add_part, assert_same, features, make_features, make_record

from store.errors import (
    LayoutConflictError,
    StoreError,
    StoreNotFoundError,
    UnknownFeatureSetError,
    UnsafeNameError,
)
from store.feature_store import FeatureStore
from store.features import Features, TensorLayout
from store.records import PartRecord


def with_values(sample: Features, values: np.ndarray) -> Features:
    return Features(values, sample.timestamps, sample.companions)


class WritingTests:
    # Opening

    def test_open_keeps_what_is_there(self, store: FeatureStore, url: str) -> None:
        add_part(store, RECORD, {"a": features(2)})
        again = FeatureStore.open(url, create=False)
        assert again.snapshot().feature_set("avsd", "audio").sample_ids == ["a"]

    def test_open_without_create_needs_a_store(self, url: str) -> None:
        with pytest.raises(StoreNotFoundError, match="no feature store"):
            FeatureStore.open(url, create=False)

    def test_empty_store_answers(self, store: FeatureStore) -> None:
        assert store.snapshot().version == 0
        assert store.verify().ok
        for view in ("features", "samples", "feature_sets", "failures"):
            assert store.query(f"SELECT * FROM {view}").num_rows == 0
        with pytest.raises(UnknownFeatureSetError, match="no feature sets yet"):
            store.snapshot().feature_set("avsd", "audio")

    # Writing and reading back

    @pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
    def test_round_trip_is_bit_exact(self, store: FeatureStore, dtype: str) -> None:
        record = make_record(
            tensors=(TensorLayout("values", 3, 7, dtype), TensorLayout("centres", 1, 3, "float32"))
        )
        samples = {f"s{steps}": make_features(record, steps, seed=steps) for steps in (1, 4, 9)}
        add_part(store, record, samples)
        feature_set = store.snapshot().feature_set("avsd", "audio")
        for sample_id, sample in samples.items():
            assert_same(feature_set[sample_id], sample)

    def test_sample_ids_are_free_text(self, store: FeatureStore) -> None:
        ids = ["a b", "../up", "クリップ/1", "x\ny", "🎬", "a", "-", "."]
        samples = {sample_id: features(1 + index, seed=index) for index, sample_id in enumerate(ids)}
        add_part(store, RECORD, samples)
        feature_set = store.snapshot().feature_set("avsd", "audio")
        assert feature_set.sample_ids == sorted(ids)
        assert list(feature_set) == sorted(ids)
        for sample_id in ids:
            assert_same(feature_set[sample_id], samples[sample_id])

    def test_nan_timestamps_mean_no_time(self, store: FeatureStore) -> None:
        sample = features(3)
        sample = Features(sample.values, np.full(3, np.nan), sample.companions)
        add_part(store, RECORD, {"scene": sample})
        assert_same(store.snapshot().feature_set("avsd", "audio")["scene"], sample)

    def test_transposed_input_is_stored_in_order(self, store: FeatureStore) -> None:
        sample = features(3)
        fortran = with_values(sample, np.asfortranarray(sample.values))
        add_part(store, RECORD, {"a": fortran})
        assert_same(store.snapshot().feature_set("avsd", "audio")["a"], sample)

    def test_part_record_goes_through_json_and_pickle(self, store: FeatureStore) -> None:
        store.register(RECORD)
        with store.writer(RECORD) as writer:
            writer.write("a/ü", features(3), duration=1.5, fps=None, n_frames=40, source_hash="h")
            writer.write("b", features(2))
        part = writer.close()
        assert PartRecord.from_json(part.to_json()) == part == pickle.loads(pickle.dumps(part))
        first, second = part.rows
        assert (first.row0, first.row1, second.row0, second.row1) == (0, 3, 3, 5)
        assert first.nbytes == 3 * (2 * 3 * 2 + 4 * 5 * 2)
        assert (first.duration, first.fps, first.n_frames, first.source_hash, first.op) == (
            1.5,
            None,
            40,
            "h",
            "put",
        )

    def test_part_without_samples_leaves_nothing(self, store: FeatureStore) -> None:
        store.register(RECORD)
        with store.writer(RECORD) as writer:
            pass
        assert writer.close().rows == ()
        assert store.commit([writer.close()]) == 0
        assert store.verify().orphans == ()

    def test_exception_aborts_the_part(self, store: FeatureStore) -> None:
        def fail_midway() -> None:
            with store.writer(RECORD) as writer:
                writer.write("a", features(2))
                raise RuntimeError("decoder died")

        with pytest.raises(RuntimeError, match="decoder died"):
            fail_midway()
        assert store.verify().orphans == ()

    def test_closed_writer_takes_no_more(self, store: FeatureStore) -> None:
        with store.writer(RECORD) as writer:
            writer.write("a", features(1))
        with pytest.raises(StoreError, match="closed"):
            writer.write("b", features(1))

    # Registration and commit

    @pytest.mark.parametrize("field", ["dataset", "channel", "fingerprint"])
    @pytest.mark.parametrize("name", ["", "..", "a/b", "a b", "ü", "a\n", ".hidden", "x" * 129])
    def test_unsafe_names_are_refused(self, field: str, name: str) -> None:
        with pytest.raises(UnsafeNameError, match=field):
            make_record(**{field: name})

    def test_register_twice_is_one_row(self, store: FeatureStore) -> None:
        store.register(RECORD)
        store.register(RECORD)
        rows = store.query("SELECT * FROM feature_sets").to_pylist()
        assert len(rows) == 1
        assert (rows[0]["tokens"], rows[0]["dim"], rows[0]["dtype"]) == (2, 3, "bfloat16")
        assert rows[0]["licence"] == RECORD.licence

    @pytest.mark.parametrize(
        "changes",
        [{"tensors": (TensorLayout("values", 2, 3, "float16"),)}, {"version": "2"}, {"rate_hz": None}],
    )
    def test_same_fingerprint_with_another_layout_is_refused(
        self, store: FeatureStore, changes: dict[str, object]
    ) -> None:
        store.register(RECORD)
        with pytest.raises(LayoutConflictError, match=RECORD.fingerprint):
            store.register(make_record(**changes))

    def test_commit_needs_a_registered_feature_set(self, store: FeatureStore) -> None:
        with store.writer(RECORD) as writer:
            writer.write("a", features(1))
        with pytest.raises(UnknownFeatureSetError, match="register"):
            store.commit([writer.close()])
        assert store.snapshot().version == 0

    def test_commit_needs_the_part(self, store: FeatureStore) -> None:
        store.register(RECORD)
        with store.writer(RECORD) as writer:
            writer.write("a", features(1))
        gone = PartRecord.from_json(writer.close().to_json().replace("parts/avsd", "parts/other"))
        with pytest.raises(StoreError, match="no part"):
            store.commit([gone])

    def test_many_parts_are_one_version(self, store: FeatureStore) -> None:
        store.register(RECORD)
        parts = []
        for index in range(3):
            with store.writer(RECORD) as writer:
                writer.write(f"s{index}", features(1 + index, seed=index))
            parts.append(writer.close())
        assert len(store.verify().orphans) == 3
        assert store.commit(parts) == store.snapshot().version == 1
        feature_set = store.snapshot().feature_set("avsd", "audio")
        for index in range(3):
            assert_same(feature_set[f"s{index}"], features(1 + index, seed=index))
        assert store.verify().orphans == ()
