"""The contract of unusual input: what is refused with a typed error, and what comes back bit for bit.

Refused, with nothing written and the writer still usable:

- SampleIdError: an id that is empty, not text, not valid Unicode, or in the part already;
- FeatureShapeError: another shape, dtype, byte order, number of time steps or set of tensors, T = 0, and
  anything that is not a NumPy array;
- FeatureValueError: NaN or infinity in a tensor whose layout is `finite`, an infinite timestamp.

Kept exactly: every other id ("/", "..", spaces, control characters, any script, composed or not, any length),
NaN timestamps, negative zeros and subnormals, and NaN with its payload where the layout says `finite=False`.
"""

import pickle
import unicodedata
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tiny_store import COMPANION, RECORD, VALUES, add_part, assert_same, features, make_record

from store.errors import (
    FeatureShapeError,
    FeatureValueError,
    LayoutConflictError,
    SampleError,
    SampleIdError,
    StoreError,
)
from store.feature_store import FeatureStore
from store.features import Features, TensorLayout
from store.records import PartRecord

GOOD = features(2)
FREE_IDS = (
    *("a/b/c.mp4", "/rooted", "..", "../../up", ".", "./a", "C:\\clips\\a"),
    *(" leading", "trailing ", "two  spaces", " ", "tab\there", "line\nbreak", "nul\0byte", "\x7f"),
    *("o'clock", 'say "a"', "100%", "a;b", "$HOME", "*", "~", "-rf", "#1", "?q=1", "null", "NaN", "1", "1.0"),
    *("A", "a", "ünï", unicodedata.normalize("NFD", "ünï"), "クリップ", "مقطع", "🎬", "\ufeffa"),
    *("\u200ba", "\U0010ffff"),
    "x" * 5000,
)  # fmt: skip
BAD_IDS: tuple[tuple[Any, str], ...] = (
    *((sample_id, "is text") for sample_id in (None, 7, b"a", ("a",), np.int64(1), ["a"])),
    ("", "not empty"),
    ("\ud800", "Unicode"),
    ("taken", "already"),
)


def changed(**changes: Any) -> Features:
    """Good features of two time steps, with other arrays in some places."""
    companions: Mapping[str, Any] = {"visual": changes.get("visual", GOOD.companions["visual"])}
    return Features(
        changes.get("values", GOOD.values), changes.get("timestamps", GOOD.timestamps), companions
    )


def nan_with_payload(layout: TensorLayout, steps: int) -> np.ndarray:
    """Quiet and signalling NaNs, infinities and negative zeros of the layout, (T, S, D)."""
    patterns = {
        "bfloat16": (np.uint16, (0x7FC1, 0xFFC2, 0x7F81, 0x7F80, 0xFF80, 0x8000)),
        "float16": (np.uint16, (0x7E01, 0xFE02, 0x7C01, 0x7C00, 0xFC00, 0x8000)),
        "float32": (np.uint32, (0x7FC00001, 0xFFC00002, 0x7F800001, 0x7F800000, 0xFF800000, 0x80000000)),
    }
    dtype, bits = patterns[layout.dtype]
    shape = (steps, layout.tokens, layout.dim)
    return np.resize(np.array(bits, dtype), shape).view(layout.numpy_dtype)


BAD_FEATURES: tuple[tuple[Features, type[StoreError], str], ...] = (
    (changed(values=GOOD.values[..., :2]), FeatureShapeError, r"\[2, 2, 2\]"),
    (changed(values=GOOD.values.reshape(2, 3, 2)), FeatureShapeError, r"\[2, 3, 2\]"),
    (changed(values=GOOD.values[None]), FeatureShapeError, r"\[1, 2, 2, 3\]"),
    (changed(values=np.array(1, ml_dtypes.bfloat16)), FeatureShapeError, "time steps|values"),
    (changed(values=GOOD.values.view(np.uint16)), FeatureShapeError, "uint16"),
    (changed(values=GOOD.values.astype(np.float16)), FeatureShapeError, "float16"),
    (changed(values=np.ones((2, 2, 3), np.int64)), FeatureShapeError, "int64"),
    (changed(values=np.ones((2, 2, 3), object)), FeatureShapeError, "object"),
    (changed(values=np.ones((2, 2, 3), complex)), FeatureShapeError, "complex128"),
    (changed(values=[[[1.0] * 3] * 2] * 2), FeatureShapeError, "values"),
    (changed(values=None), FeatureShapeError, "values"),
    (changed(visual=GOOD.companions["visual"].astype(">f2")), FeatureShapeError, ">f2"),
    (
        changed(visual=GOOD.companions["visual"][:1]),
        FeatureShapeError,
        r"visual is float16\[1, 4, 5\]",
    ),
    (changed(visual=GOOD.companions["visual"][:, :3]), FeatureShapeError, r"\[2, 3, 5\]"),
    (changed(visual=None), FeatureShapeError, "visual"),
    (changed(visual=np.full((2, 4, 5), np.nan, np.float16)), FeatureValueError, "visual"),
    (changed(visual=np.full((2, 4, 5), np.inf, np.float16)), FeatureValueError, "visual"),
    (Features(GOOD.values, GOOD.timestamps), FeatureShapeError, "visual"),
    (
        Features(GOOD.values, GOOD.timestamps, {**GOOD.companions, "more": GOOD.values}),
        FeatureShapeError,
        "more",
    ),
    (changed(timestamps=np.zeros((2, 1))), FeatureShapeError, r"float64\[2, 1\]"),
    (changed(timestamps=np.zeros(2, np.int64)), FeatureShapeError, "int64"),
    (changed(timestamps=np.zeros(2, ">f8")), FeatureShapeError, "timestamps"),
    (changed(timestamps=[0.0, 1.0]), FeatureShapeError, "timestamps"),
    (changed(timestamps=None), FeatureShapeError, "timestamps"),
    (changed(timestamps=np.array([-np.inf, 0])), FeatureValueError, "timestamps"),
    (features(0), FeatureShapeError, "T is 0"),
    (changed(values=GOOD.values[0]), FeatureShapeError, r"\[2, 3\]"),
    (changed(values=features(3).values), FeatureShapeError, "visual"),
    (changed(values=GOOD.values.astype("f4")), FeatureShapeError, "float32"),
    (changed(values=np.full_like(GOOD.values, np.nan)), FeatureValueError, "values"),
    (changed(values=np.full_like(GOOD.values, -np.inf)), FeatureValueError, "values"),
    (changed(timestamps=np.zeros(3)), FeatureShapeError, "timestamps"),
    (changed(timestamps=np.zeros(2, "f4")), FeatureShapeError, "float64"),
)


def check_message(error: StoreError, sample_id: object) -> None:
    """One line with the sample's name, also after a pickle went through a process boundary."""
    assert repr(sample_id) in str(error)
    assert "\n" not in str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def check_only(store: FeatureStore, part: PartRecord, samples: Mapping[str, Features]) -> None:
    """Once committed, the part has these samples and nothing else."""
    store.commit([part])
    feature_set = store.snapshot().feature_set("avsd", "audio")
    assert feature_set.sample_ids == sorted(samples)
    for sample_id, sample in samples.items():
        assert_same(feature_set[sample_id], sample)
    assert store.verify().problems == ()


class BadInputTests:
    def test_every_text_is_a_sample_id(self, store: FeatureStore) -> None:
        samples = {name: features(1 + index % 4, seed=index) for index, name in enumerate(FREE_IDS)}
        add_part(store, RECORD, samples)
        feature_set = store.snapshot().feature_set("avsd", "audio")
        assert feature_set.sample_ids == sorted(FREE_IDS)
        assert feature_set.missing(FREE_IDS) == []
        for sample_id, sample in samples.items():
            assert sample_id in feature_set
            assert_same(feature_set[sample_id], sample)
        assert {*store.query("SELECT sample_id FROM features")["sample_id"].to_pylist()} == {*FREE_IDS}
        assert store.verify().problems == ()

    def test_bad_ids_are_refused_and_the_writer_goes_on(self, store: FeatureStore) -> None:
        store.register(RECORD)
        with store.writer(RECORD) as writer:
            writer.write("taken", features(3, seed=3))
            for sample_id, words in BAD_IDS:
                with pytest.raises(SampleIdError, match=words) as caught:
                    writer.write(sample_id, GOOD)
                check_message(caught.value, sample_id)
        check_only(store, writer.close(), {"taken": features(3, seed=3)})

    def test_numpy_text_is_text(self, store: FeatureStore) -> None:
        add_part(store, RECORD, {np.str_("ünï"): GOOD})
        feature_set = store.snapshot().feature_set("avsd", "audio")
        assert [type(sample_id) for sample_id in feature_set] == [str]
        assert_same(feature_set["ünï"], GOOD)

    def test_bad_features_are_refused_and_the_writer_goes_on(self, store: FeatureStore) -> None:
        store.register(RECORD)
        good = {}
        with store.writer(RECORD) as writer:
            for number, (sample, error, words) in enumerate(BAD_FEATURES):
                with pytest.raises(error, match=words) as caught:
                    writer.write(f"bad {number}", sample)
                check_message(caught.value, f"bad {number}")
                good[f"good {number}"] = features(1 + number % 3, seed=number)
                writer.write(f"good {number}", good[f"good {number}"])
        check_only(store, writer.close(), good)

    def test_attributes_are_json(self, store: FeatureStore) -> None:
        store.register(RECORD)
        with store.writer(RECORD) as writer:
            for attributes in ({"camera": GOOD.values}, {"x": float("nan")}, {("a",): 1}):
                with pytest.raises(SampleError, match="'a': attributes are not JSON"):
                    writer.write("a", GOOD, attributes=attributes)
            writer.write("a", GOOD, attributes={"cameras": ["ünï"]})
        check_only(store, writer.close(), {"a": GOOD})

    def test_torch_tensors_are_refused(self, store: FeatureStore) -> None:
        torch = pytest.importorskip("torch")
        values = torch.zeros(2, 2, 3, dtype=torch.bfloat16)
        with store.writer(RECORD) as writer, pytest.raises(FeatureShapeError, match="values"):
            writer.write("a", changed(values=values))

    @pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
    def test_odd_finite_values_keep_their_bits(self, store: FeatureStore, dtype: str) -> None:
        record = make_record(tensors=(TensorLayout("values", 1, 4, dtype),))
        limits = ml_dtypes.finfo(record.values.numpy_dtype)
        odd = np.array([limits.max, limits.min, limits.smallest_subnormal, -0.0], record.values.numpy_dtype)
        sample = Features(np.resize(odd, (3, 1, 4)), np.array([-1.0, np.nan, -0.0]))
        add_part(store, record, {"odd": sample})
        assert_same(store.snapshot().feature_set("avsd", "audio")["odd"], sample)

    # Layouts that allow NaN

    @pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
    def test_nan_comes_back_where_the_layout_allows_it(self, store: FeatureStore, dtype: str) -> None:
        depth = TensorLayout("depth", 2, 3, dtype, finite=False)
        record = make_record(tensors=(VALUES, depth))
        sample = Features(features(4).values, np.arange(4.0), {"depth": nan_with_payload(depth, 4)})
        add_part(store, record, {"holes": sample})
        feature_set = store.snapshot().feature_set("avsd", "audio")
        assert feature_set.record == record
        assert [layout.finite for layout in feature_set.record.tensors] == [True, False]
        assert_same(feature_set["holes"], sample)
        out = np.empty((1, 5, 2, 3), depth.numpy_dtype)
        feature_set.read_into(["holes"], out, tensor="depth")
        assert out[0, :4].tobytes() == sample.companions["depth"].tobytes()
        assert not out[0, 4:].any()
        assert store.verify().problems == ()

    def test_other_tensors_of_the_record_stay_finite(self, store: FeatureStore) -> None:
        depth = TensorLayout("depth", 2, 3, "float32", finite=False)
        values = np.full((2, 2, 3), np.nan, ml_dtypes.bfloat16)
        sample = Features(values, np.arange(2.0), {"depth": nan_with_payload(depth, 2)})
        with (
            store.writer(make_record(tensors=(VALUES, depth))) as writer,
            pytest.raises(FeatureValueError, match="values"),
        ):
            writer.write("a", sample)

    def test_allowing_nan_is_another_layout(self, store: FeatureStore) -> None:
        store.register(RECORD)
        loose = TensorLayout("values", VALUES.tokens, VALUES.dim, VALUES.dtype, finite=False)
        with pytest.raises(LayoutConflictError, match=RECORD.fingerprint):
            store.register(make_record(tensors=(loose, COMPANION)))
