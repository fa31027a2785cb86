"""Exports, and that importing them again gives the same record and the same bits."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest
from tiny_store import add_part, assert_same, make_features, make_record, same_bits

from store.errors import StoreError
from store.feature_set import FeatureSet
from store.feature_store import FeatureStore
from store.features import Features, TensorLayout
from store.transfer.array_import import ArrayImport
from store.transfer.errors import (
    DuplicateSourceError,
    ExportError,
    ImportSettingsError,
    SourceNotFoundError,
    UnusableFileError,
)
from store.transfer.export_hdf5 import export_hdf5
from store.transfer.import_hdf5 import import_hdf5
from store.transfer.import_stream import ImportReport
from store.transfer.safetensors_folder import export_safetensors, import_safetensors
from store.transfer.sample_names import decode_name, encode_name, file_name

Export = Callable[..., int]
Import = Callable[..., ImportReport]

IDS = [
    "a",
    "a/b",
    "..",
    ".",
    ".hidden",
    "../up",
    "/abs",
    "a b",
    "x\ny",
    "クリップ/1",
    "🎬",
    "%41",
    "-",
    "ü" * 200,
    "nul\0",
]


def hdf5_concatenated(store: FeatureStore, feature_set: FeatureSet, target: Path, **how: Any) -> int:
    return export_hdf5(store, feature_set, target, layout="concatenated", **how)


FORMATS: dict[str, tuple[Export, Import]] = {
    "hdf5": (export_hdf5, import_hdf5),
    "hdf5 concatenated": (hdf5_concatenated, import_hdf5),
    "safetensors": (export_safetensors, import_safetensors),
}


@pytest.fixture(params=FORMATS)
def bridge(request: pytest.FixtureRequest) -> tuple[Export, Import]:
    return FORMATS[request.param]


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore.open(tmp_path / "store")


def the_set(store: FeatureStore, version: int | None = None) -> FeatureSet:
    return store.snapshot(version).feature_set("avsd", "audio")


@pytest.mark.parametrize(
    ("name", "dtype"), list(zip(FORMATS, ["bfloat16", "float16", "float32"], strict=True))
)
def test_export_then_import_gives_the_same_record_and_bits(
    store: FeatureStore, tmp_path: Path, name: str, dtype: str
) -> None:
    # companions of every dtype, with the names that the containers use themselves
    tensors = (
        TensorLayout("values", 2, 3, dtype),
        TensorLayout("visual", 1, 2, "bfloat16"),
        TensorLayout("sample_ids", 3, 1, "float32"),
        TensorLayout("media", 1, 1, "float16"),
    )
    record = make_record(tensors=tensors, config={"encoder": {"ü": [1, None, 0.1]}, "big": "x" * 100_000})
    samples = {sample_id: make_features(record, 1 + index, index) for index, sample_id in enumerate(IDS)}
    untimed = samples["a"]
    samples["a"] = Features(untimed.values, np.full(1, np.nan), untimed.companions)
    store.register(record)
    with store.writer(record) as writer:
        for index, (sample_id, sample) in enumerate(samples.items()):
            facts = {"duration": 0.1 * index, "fps": 29.97, "n_frames": index, "source_hash": f"h{index}"}
            facts["attributes"] = {"cameras": [f"ü{index}"]}
            writer.write(sample_id, sample, **(facts if index % 2 else {}))
    store.commit([writer.close()])

    export, import_ = FORMATS[name]
    seen: list[tuple[int, int, int]] = []
    target = tmp_path / "out" / "export"
    assert export(store, the_set(store), target, progress=lambda *counts: seen.append(counts)) == len(IDS)
    assert seen == [(done, len(IDS), 0) for done in range(1, len(IDS) + 1)]
    assert os.listdir(tmp_path / "out") == ["export"]

    other = FeatureStore.open(tmp_path / "other")
    report = import_(other, target, part_bytes=2000)
    assert (report.imported, report.failed, report.skipped) == (len(IDS), (), ())
    assert the_set(other).record == record
    assert the_set(other).sample_ids == sorted(IDS)
    for sample_id, sample in samples.items():
        assert_same(the_set(other)[sample_id], sample)
    facts_of = (
        "SELECT sample_id, duration, fps, n_frames, source_hash, attributes, crc32c FROM features "
        "ORDER BY sample_id"
    )
    assert other.query(facts_of) == store.query(facts_of)
    assert other.verify().ok
    assert other.verify().num_parts > 1

    again = import_(other, target)
    assert (again.imported, again.already_present, again.version) == (0, len(IDS), report.version)


def test_the_snapshot_is_what_is_exported(
    store: FeatureStore, tmp_path: Path, bridge: tuple[Export, Import]
) -> None:
    record = make_record()
    old, new = make_features(record, 2, 1), make_features(record, 3, 2)
    add_part(store, record, {"a": old})
    add_part(store, record, {"a": new, "b": new})
    export, import_ = bridge
    export(store, the_set(store, version=1), tmp_path / "old")
    other = FeatureStore.open(tmp_path / "other")
    import_(other, tmp_path / "old")
    assert the_set(other).sample_ids == ["a"]
    assert_same(the_set(other)["a"], old)


def test_an_empty_feature_set_round_trips(
    store: FeatureStore, tmp_path: Path, bridge: tuple[Export, Import]
) -> None:
    record = make_record()
    store.register(record)
    export, import_ = bridge
    empty = store.snapshot().feature_set("avsd", "audio", record.fingerprint)
    assert export(store, empty, tmp_path / "empty") == 0
    other = FeatureStore.open(tmp_path / "other")
    assert import_(other, tmp_path / "empty").total == 0
    assert other.snapshot().feature_set("avsd", "audio", record.fingerprint).record == record


@pytest.mark.parametrize("there", ["file", "folder", "broken link"])
def test_an_existing_target_is_refused(
    store: FeatureStore, tmp_path: Path, bridge: tuple[Export, Import], there: str
) -> None:
    add_part(store, make_record(), {"a": make_features(make_record(), 2, 1)})
    target = tmp_path / "there"
    if there == "file":
        target.write_text("mine")
    elif there == "folder":
        target.mkdir()
    else:
        target.symlink_to(tmp_path / "gone")
    with pytest.raises(ExportError, match="there already"):
        bridge[0](store, the_set(store), target)
    assert sorted(os.listdir(tmp_path)) == ["store", "there"]


def test_an_interrupted_export_leaves_nothing(
    store: FeatureStore, tmp_path: Path, bridge: tuple[Export, Import]
) -> None:
    record = make_record()
    add_part(store, record, {"a": make_features(record, 2, 1), "b": make_features(record, 2, 1)})

    def interrupt(done: int, total: int, failed: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bridge[0](store, the_set(store), tmp_path / "export", progress=interrupt)
    assert os.listdir(tmp_path) == ["store"]


_KILLED = """
import os, signal, sys
from pathlib import Path
import test_export
from store.feature_store import FeatureStore

for index, (export, _) in enumerate(test_export.FORMATS.values()):
    if os.fork() == 0:  # before the store has any thread
        store = FeatureStore.open(sys.argv[1])
        kill = lambda done, total, failed: os.kill(os.getpid(), signal.SIGKILL)
        export(store, test_export.the_set(store), Path(sys.argv[2], str(index)), progress=kill)
    assert os.wait()[1] == signal.SIGKILL
"""
_FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import test_export
from store.feature_store import FeatureStore
from store.transfer.errors import ExportError

store = FeatureStore.open(sys.argv[1])
feature_set = test_export.the_set(store)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for index, (export, _) in enumerate(test_export.FORMATS.values()):
    try:
        export(store, feature_set, Path(sys.argv[2], str(index)))
    except ExportError as error:
        print(error)
"""


def run_python(code: str, *arguments: object) -> list[str]:
    """Runs the code as its own process, which must succeed, and returns the lines it prints."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, Path(__file__).parents[:3]))}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    finished = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.splitlines()


@pytest.fixture
def big_store(tmp_path: Path) -> FeatureStore:
    """Two samples of 400 kB."""
    store = FeatureStore.open(tmp_path / "store")
    record = make_record(tensors=(TensorLayout("values", 50, 1000, "float32"),))
    add_part(store, record, {"a": make_features(record, 2, 1), "b": make_features(record, 2, 1)})
    return store


def test_a_killed_export_is_never_taken_for_a_whole_one(big_store: FeatureStore, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_python(_KILLED, tmp_path / "store", out)
    assert all(name.startswith(".") for name in os.listdir(out))
    for index, (export, import_) in enumerate(FORMATS.values()):
        (left,) = [path for path in out.iterdir() if path.name.startswith(f".{index}.partial-")]
        with pytest.raises((UnusableFileError, SourceNotFoundError)):
            import_(FeatureStore.open(tmp_path / "other"), left)
        assert export(big_store, the_set(big_store), out / str(index)) == 2  # nothing is in the way


def test_a_full_disk_is_one_line_and_leaves_nothing(big_store: FeatureStore, tmp_path: Path) -> None:
    lines = run_python(_FULL_DISK, tmp_path / "store", tmp_path / "out")
    assert len(lines) == len(FORMATS)
    for index, line in enumerate(lines):
        assert line.startswith(f"cannot write the export {tmp_path / 'out' / str(index)}: ")
        assert "File too large" in line
    assert os.listdir(tmp_path / "out") == []


# Others read it


def test_hdf5_is_readable_without_our_code(store: FeatureStore, tmp_path: Path) -> None:
    record = make_record()
    sample = make_features(record, 3, 1)
    add_part(store, record, {"a/ü": sample})
    export_hdf5(store, the_set(store), tmp_path / "f.h5")
    hdf5_concatenated(store, the_set(store), tmp_path / "g.h5")
    with h5py.File(tmp_path / "f.h5") as file:
        dataset = file["values"]["a%2F%C3%BC"]
        assert dataset.attrs["dtype"] == "bfloat16"
        assert same_bits(dataset[:].view(ml_dtypes.bfloat16), sample.values)
        assert same_bits(file["companions/visual/a%2F%C3%BC"][:], sample.companions["visual"])
        assert json.loads(file["feature_set"][()])["licence"] == record.licence
    with h5py.File(tmp_path / "g.h5") as file:
        assert file["sample_ids"].asstr()[:].tolist() == ["a/ü"]
        assert file["row_offsets"][:].tolist() == [0, 3]
        assert same_bits(file["values"][:].view(ml_dtypes.bfloat16), sample.values)


def test_safetensors_is_readable_without_our_code(store: FeatureStore, tmp_path: Path) -> None:
    from safetensors.torch import load_file  # imports torch

    record = make_record()
    sample = make_features(record, 3, 1)
    add_part(store, record, {"a/ü": sample})
    export_safetensors(store, the_set(store), tmp_path / "folder")
    tensors = load_file(tmp_path / "folder" / "samples" / "a%2F%C3%BC.safetensors")
    assert tensors["values"].float().numpy().tolist() == sample.values.astype(np.float32).tolist()
    assert tensors["visual"].numpy().tolist() == sample.companions["visual"].tolist()
    assert json.loads((tmp_path / "folder" / "feature_set.json").read_text())["record"]["dataset"] == "avsd"


# Damaged exports


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`folder` and `f.h5`, exports of three samples, and `empty`, a store that no failing import changes."""
    root = tmp_path_factory.mktemp("exports")
    store = FeatureStore.open(root / "store")
    record = make_record()
    add_part(store, record, {name: make_features(record, 3, 1) for name in ("a", "b", "c")})
    export_safetensors(store, the_set(store), root / "folder")
    export_hdf5(store, the_set(store), root / "f.h5")
    FeatureStore.open(root / "empty")
    return root


@pytest.fixture
def folder(exports: Path, tmp_path: Path) -> Path:
    return shutil.copytree(exports / "folder", tmp_path / "folder")


def test_a_damaged_sample_is_a_failure(tmp_path: Path, folder: Path) -> None:
    (folder / "samples" / "a.safetensors").write_bytes(b"cut")
    (folder / "samples" / "b.safetensors").unlink()
    other = FeatureStore.open(tmp_path / "other")
    report = import_safetensors(other, folder)
    assert [failure.sample_id for failure in report.failed] == ["a", "b"]
    assert "a.safetensors" in report.failed[0].message
    assert the_set(other).sample_ids == ["c"]


def test_an_index_cannot_lead_out_of_the_folder(tmp_path: Path, folder: Path) -> None:
    (folder / "samples" / "a.safetensors").rename(tmp_path / "out.safetensors")
    index = folder / "samples.jsonl"
    index.write_text(index.read_text().replace("samples/a.safetensors", "../out.safetensors"))
    report = import_safetensors(FeatureStore.open(tmp_path / "other"), folder)
    assert [(row.sample_id, row.error_type) for row in report.failed] == [("a", "OutsideFolderError")]


@pytest.mark.parametrize(
    ("name", "change", "error"),
    [
        ("samples.jsonl", lambda text: text[:-20], UnusableFileError),
        ("samples.jsonl", lambda text: text.splitlines(keepends=True)[0], UnusableFileError),
        ("samples.jsonl", lambda text: text.replace('"b"', '"a"'), DuplicateSourceError),
        ("samples.jsonl", lambda text: text.replace('"duration": 4.0', '"duration": "4"'), UnusableFileError),
        ("samples.jsonl", lambda text: text.replace('"sample_id": "b"', '"sample_id": 7'), UnusableFileError),
        ("samples.jsonl", lambda text: "[]\n" * 3, UnusableFileError),
        ("feature_set.json", lambda text: text[:-20], UnusableFileError),
        ("feature_set.json", lambda text: "{}", UnusableFileError),
        ("feature_set.json", lambda text: text.replace('"avsd"', '"../up"'), UnusableFileError),
        ("feature_set.json", lambda text: text.replace('"licence"', '"license"'), UnusableFileError),
        (
            "feature_set.json",
            lambda text: text.replace('"format_version": 1', '"format_version": 9'),
            UnusableFileError,
        ),
    ],
)
def test_a_damaged_description_is_refused(
    exports: Path, folder: Path, name: str, change: Callable[[str], str], error: type[StoreError]
) -> None:
    text = (folder / name).read_text()
    assert change(text) != text
    (folder / name).write_text(change(text))
    with pytest.raises(error, match=str(folder)) as caught:
        import_safetensors(FeatureStore.open(exports / "empty"), folder)
    assert "\n" not in str(caught.value)


def _drop_sample(file: h5py.File) -> None:
    del file["values"]["b"]


def _newer(file: h5py.File) -> None:
    file.attrs["format_version"] = 9


def _no_record(file: h5py.File) -> None:
    del file["feature_set"]


def _two_of_one_id(file: h5py.File) -> None:
    for group in ("values", "timestamps", "companions/visual"):
        file[group]["%61"] = file[group]["b"][:]
    del file["values"]["b"]


def _linked(file: h5py.File) -> None:
    file.move("values", "moved")
    file["values"] = h5py.SoftLink("/moved")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (_drop_sample, UnusableFileError),
        (_newer, UnusableFileError),
        (_no_record, UnusableFileError),
        (_two_of_one_id, DuplicateSourceError),
        (_linked, UnusableFileError),
    ],
)
def test_a_damaged_hdf5_export_is_refused(
    exports: Path, tmp_path: Path, change: Callable[[h5py.File], None], error: type[StoreError]
) -> None:
    shutil.copy(exports / "f.h5", tmp_path)
    with h5py.File(tmp_path / "f.h5", "a") as file:
        change(file)
    with pytest.raises(error, match=r"f\.h5"):
        import_hdf5(FeatureStore.open(exports / "empty"), tmp_path / "f.h5")


def test_imports_of_exports_take_no_settings(store: FeatureStore, tmp_path: Path) -> None:
    record = make_record()
    add_part(store, record, {"a": make_features(record, 3, 1)})
    export_hdf5(store, the_set(store), tmp_path / "f.h5")
    with pytest.raises(ImportSettingsError, match="brings its feature set"):
        import_hdf5(store, tmp_path / "f.h5", ArrayImport("x", "y"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceNotFoundError, match=r"feature_set\.json"):
        import_safetensors(store, tmp_path / "empty")


# Names


@pytest.mark.parametrize("sample_id", [*IDS, "...", "~", "a.b", "C:\\x", "con", "a?*<>|"])
def test_names_are_plain_and_give_the_id_back(sample_id: str) -> None:
    name = encode_name(sample_id)
    assert decode_name(name) == sample_id
    assert name.isascii()
    assert not set(name) & set("/\\\0\n :?*<>|")
    assert not name.startswith(".")
    assert len(file_name(sample_id, ".safetensors")) <= 255


def test_long_ids_have_different_file_names() -> None:
    assert file_name("x" * 999 + "a", "") != file_name("x" * 999 + "b", "")
