"""Importing `.npy` folders and HDF5 files that are not ours."""

from collections.abc import Callable
from pathlib import Path

import h5py
import ml_dtypes
import numpy as np
import pytest
from tiny_store import same_bits

from store.feature_set import FeatureSet
from store.feature_store import FeatureStore
from store.transfer.array_import import ArrayImport
from store.transfer.errors import (
    DuplicateSourceError,
    ImportSettingsError,
    SourceNotFoundError,
    UnusableFileError,
)
from store.transfer.import_hdf5 import import_hdf5
from store.transfer.import_npy import import_npy
from store.transfer.imported_record import MadeBy
from store.transfer.source_files import IdRule

SETTINGS = ArrayImport("clips", "audio", MadeBy("my-encoder", "3"))
GENERATOR = np.random.default_rng(0)


def numbers(*shape: int, dtype: object = np.float32) -> np.ndarray:
    return GENERATOR.standard_normal(shape).astype(dtype)


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore.open(tmp_path / "store")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "arrays").mkdir()
    return tmp_path / "arrays"


def imported(store: FeatureStore) -> FeatureSet:
    return store.snapshot().feature_set("clips", "audio")


# npy


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f2"])
def test_npy_with_and_without_tokens(store: FeatureStore, folder: Path, dtype: str) -> None:
    flat, full = numbers(3, 4, dtype=dtype), np.asfortranarray(numbers(2, 1, 4, dtype=dtype))
    np.save(folder / "flat.npy", flat)
    np.save(folder / "full.npy", full)
    report = import_npy(store, folder, ArrayImport("clips", "audio", rate_hz=4.0))
    assert report.failed == ()
    native = np.dtype(dtype).newbyteorder("=")
    assert same_bits(imported(store)["flat"].values, flat.reshape(3, 1, 4).astype(native))
    assert same_bits(imported(store)["full"].values, np.ascontiguousarray(full.astype(native)))
    assert imported(store)["flat"].timestamps.tolist() == [0, 0.25, 0.5]
    assert imported(store).record.rate_hz == 4.0


def test_npy_as_bfloat16(store: FeatureStore, folder: Path) -> None:
    values = numbers(3, 2, 4, dtype=ml_dtypes.bfloat16)
    np.save(folder / "untyped.npy", values)  # NumPy forgets the type
    np.save(folder / "bits.npy", values.view(np.uint16))
    with pytest.raises(UnusableFileError, match="uint16"):
        import_npy(store, folder, SETTINGS)
    import_npy(store, folder, ArrayImport("clips", "audio", dtype="bfloat16"))
    for name in ("untyped", "bits"):
        assert same_bits(imported(store)[name].values, values)
        assert np.isnan(imported(store)[name].timestamps).all()


def test_bad_npy_files_are_failures_that_name_them(store: FeatureStore, folder: Path) -> None:
    good = numbers(3, 2, 4)
    np.save(folder / "a.npy", good)
    np.save(folder / "dtype.npy", good.astype(np.float64))
    np.save(folder / "line.npy", numbers(3))
    np.save(folder / "nan.npy", np.full((3, 2, 4), np.nan, np.float32))
    np.save(folder / "nothing.npy", numbers(0, 2, 4))
    np.save(folder / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.save(folder / "width.npy", numbers(3, 2, 5))
    (folder / "cut.npy").write_bytes((folder / "a.npy").read_bytes()[:-1])
    (folder / "header.npy").write_bytes((folder / "a.npy").read_bytes().replace(b"}", b"("))
    (folder / "text.npy").write_text("hello")
    with (folder / "zip.npy").open("wb") as file:
        np.savez(file, good)
    report = import_npy(store, folder, SETTINGS)
    assert imported(store).sample_ids == ["a"]
    reasons = {failure.sample_id: failure.message for failure in report.failed}
    words = {
        "cut": "no readable .npy",
        "dtype": "is float64",
        "header": "no readable .npy",
        "line": "shape [3]",
        "nan": "NaN",
        "nothing": "T is 0",
        "objects": "no readable .npy",
        "text": "no readable .npy",
        "width": "[3, 2, 5]",
        "zip": "archive",
    }
    assert reasons.keys() == words.keys()
    for name, word in words.items():
        assert str(folder / f"{name}.npy") in reasons[name]
        assert word in reasons[name]


def test_npy_ids_and_again(store: FeatureStore, folder: Path) -> None:
    (folder / "x").mkdir()
    np.save(folder / "x" / "1.npy", numbers(3, 4))
    ids = IdRule(r"(?P<part>\w+)/(?P<id>\d+)\.npy", "{part}-{id}")
    assert import_npy(store, folder, SETTINGS, ids=ids).imported == 1
    np.save(folder / "x" / "2.npy", numbers(3, 4))
    report = import_npy(store, folder, SETTINGS, ids=ids)
    assert (report.imported, report.already_present) == (1, 1)
    assert imported(store).sample_ids == ["x-1", "x-2"]


# HDF5


def test_hdf5_with_one_dataset_a_sample(store: FeatureStore, tmp_path: Path) -> None:
    flat, nested = numbers(3, 4), numbers(2, 1, 4)
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["flat"] = flat
        file["group/deep/ünï code"] = nested
        file["group/packed"] = np.zeros((1, 1, 4), np.float32)
        file["soft"] = h5py.SoftLink("/flat")
        file["out"] = h5py.ExternalLink("other.h5", "/x")
        file.create_dataset("raw", (2, 4), "f4", external=[(str(tmp_path / "secret"), 0, 32)])
        file["text"] = "hello"
        file["width"] = numbers(3, 5)
        file["double"] = numbers(3, 4, dtype="f8")
    report = import_hdf5(store, tmp_path / "f.h5", SETTINGS)
    assert imported(store).sample_ids == ["flat", "group/deep/ünï code", "group/packed"]
    assert same_bits(imported(store)["flat"].values, flat.reshape(3, 1, 4))
    assert same_bits(imported(store)["group/deep/ünï code"].values, nested)
    assert {skipped.path for skipped in report.skipped} == {"soft", "out"}
    failed = {failure.sample_id: (failure.error_type, failure.message) for failure in report.failed}
    assert failed.keys() == {"raw", "text", "width", "double"}
    assert failed["raw"][0] == "OutsideFolderError"
    assert f"{tmp_path / 'f.h5'}:width" in failed["width"][1]
    assert not (tmp_path / "secret").exists()


def write_concatenated(path: Path, **changes: object) -> dict[str, np.ndarray]:
    values = numbers(6, 2, 4, dtype=ml_dtypes.bfloat16)
    arrays = {
        "values": values.view(np.uint16),
        "sample_ids": ["a/b", "c"],
        "row_offsets": np.array([0, 4, 6]),
        **changes,
    }
    with h5py.File(path, "w") as file:
        for name, content in arrays.items():
            if content is not None:
                file[name] = content
        if "values" in file:
            file["values"].attrs["dtype"] = "bfloat16"
    return {"a/b": values[:4], "c": values[4:]}


@pytest.mark.parametrize("timed", [True, False])
def test_hdf5_concatenated(store: FeatureStore, tmp_path: Path, timed: bool) -> None:
    times = np.arange(6) * 0.1
    expected = write_concatenated(tmp_path / "f.h5", timestamps=times if timed else None)
    report = import_hdf5(store, tmp_path / "f.h5", SETTINGS)
    assert (report.imported, report.failed) == (2, ())
    for sample_id, values in expected.items():
        assert same_bits(imported(store)[sample_id].values, values)
    found = imported(store)["c"].timestamps
    assert same_bits(found, times[4:]) if timed else np.isnan(found).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"row_offsets": np.array([0, 4, 5])}, "row_offsets"),
        ({"row_offsets": np.array([0, 7, 6])}, "row_offsets"),
        ({"row_offsets": np.array([1, 4, 6])}, "row_offsets"),
        ({"row_offsets": np.array([0, 6])}, "row_offsets"),
        ({"row_offsets": np.array([0.0, 4.0, 6.0])}, "row_offsets"),
        ({"timestamps": np.zeros(5)}, "row_offsets"),
        ({"sample_ids": [1, 2]}, "not text"),
        ({"values": None}, "f.h5:values"),
        ({"values": np.float32(1)}, "single value"),
    ],
)
def test_hdf5_with_a_wrong_index_is_refused(
    store: FeatureStore, tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    write_concatenated(tmp_path / "f.h5", **changes)
    with pytest.raises(UnusableFileError, match=words):
        import_hdf5(store, tmp_path / "f.h5", SETTINGS)


def test_hdf5_index_with_odd_samples(store: FeatureStore, tmp_path: Path) -> None:
    write_concatenated(
        tmp_path / "f.h5", sample_ids=["a", "", "empty", "c"], row_offsets=np.array([0, 2, 4, 4, 6])
    )
    report = import_hdf5(store, tmp_path / "f.h5", SETTINGS)
    assert imported(store).sample_ids == ["a", "c"]
    assert [failure.sample_id for failure in report.failed] == ["empty"]
    assert [skipped.path for skipped in report.skipped] == ["sample_ids[1]"]
    write_concatenated(tmp_path / "g.h5", sample_ids=["a", "a"])
    with pytest.raises(DuplicateSourceError, match=r"sample_ids\[0\] and .*sample_ids\[1\]"):
        import_hdf5(store, tmp_path / "g.h5", SETTINGS)


def _no_file(path: Path) -> None:
    pass


def _text(path: Path) -> None:
    path.write_text("hello")


def _no_datasets(path: Path) -> None:
    h5py.File(path, "w").close()


@pytest.mark.parametrize(
    ("write", "error", "words"),
    [
        (_no_file, UnusableFileError, "No such file"),
        (_text, UnusableFileError, "cannot be opened as HDF5"),
        (_no_datasets, SourceNotFoundError, "no datasets"),
    ],
)
def test_files_that_are_no_features(
    store: FeatureStore, tmp_path: Path, write: Callable[[Path], None], error: type[Exception], words: str
) -> None:
    write(tmp_path / "f.h5")
    with pytest.raises(error, match=words):
        import_hdf5(store, tmp_path / "f.h5", SETTINGS)


def test_arrays_need_settings(store: FeatureStore, tmp_path: Path) -> None:
    write_concatenated(tmp_path / "f.h5")
    with pytest.raises(ImportSettingsError, match="give a dataset"):
        import_hdf5(store, tmp_path / "f.h5")
    for rate in (0.0, -1.0, float("nan")):
        with pytest.raises(ImportSettingsError, match="rate_hz"):
            ArrayImport("clips", "audio", rate_hz=rate)
