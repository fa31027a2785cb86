"""Importing the `.pt` folders of the original release."""

import json
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch

from store.errors import LayoutConflictError
from store.feature_store import FeatureStore
from store.features import TensorLayout
from store.records import SampleRow
from store.transfer.errors import (
    DuplicateSourceError,
    ImportSettingsError,
    SourceNotFoundError,
    UnusableFileError,
)
from store.transfer.import_release import ReleaseImport, import_release
from store.transfer.imported_record import MadeBy, fingerprint
from store.transfer.release_kinds import RELEASE_KINDS, interleaved

AUDIO = ReleaseImport("audio", "avsd")


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore.open(tmp_path / "store")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "release").mkdir()
    return tmp_path / "release"


def save(path: Path, *shape: int, dtype: torch.dtype = torch.bfloat16, seed: int = 0) -> torch.Tensor:
    """Writes random numbers the way the release did, and returns them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensor = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32).to(dtype)
    torch.save(tensor, path)
    return tensor


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


def test_audio(store: FeatureStore, folder: Path) -> None:
    written = {name: save(folder / f"{name}.pt", n, 1024, seed=n) for n, name in ((3, "a"), (5, "real/b c"))}
    report = import_release(store, folder, AUDIO)
    assert (report.total, report.imported, report.failed, report.skipped) == (2, 2, (), ())
    feature_set = store.snapshot().feature_set("avsd", "audio")
    assert feature_set.sample_ids == ["a", "real/b c"]
    for name, tensor in written.items():
        features = feature_set[name]
        assert features.values.dtype == ml_dtypes.bfloat16
        assert features.values.shape == (len(tensor), 1, 1024)
        assert features.values.tobytes() == bits(tensor)
        assert features.timestamps.tolist() == list(range(1, len(tensor) + 1))
    record = feature_set.record
    assert (record.extractor, record.version, record.rate_hz) == ("pave-release-audio", "1", 1.0)
    assert record.licence == "CC-BY-NC-SA 4.0"
    assert store.verify().ok


def test_dense(store: FeatureStore, folder: Path) -> None:
    tensor = save(folder / "clip.pt", 8, 5, 1024, dtype=torch.float16)
    import_release(store, folder, ReleaseImport("dense", "avsd"))
    features = store.snapshot().feature_set("avsd", "dense")["clip"]
    assert (features.values.dtype, features.values.shape) == (np.float16, (8, 5, 1024))
    assert features.values.tobytes() == bits(tensor)
    assert features.timestamps.tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5]


def test_depth3d_takes_its_dtype_from_the_files(store: FeatureStore, folder: Path) -> None:
    tensor = save(folder / "scene0000_00" / "video_features.pt", 1, 18432, 1024, dtype=torch.float16)
    (folder / "scene0000_00" / "notes.txt").write_text("seen")
    save(folder / "scene0000_01" / "video_features.pt", 1, 10, 1024, dtype=torch.float16)
    report = import_release(store, folder, ReleaseImport("depth3d", "scannet"))
    assert [str(skipped.path) for skipped in report.skipped] == ["scene0000_00/notes.txt"]
    assert [failure.sample_id for failure in report.failed] == ["scene0000_01"]
    features = store.snapshot().feature_set("scannet", "depth3d")["scene0000_00"]
    assert (features.values.dtype, features.values.shape) == (np.float16, (32, 576, 1024))
    assert features.values.tobytes() == bits(tensor)
    assert np.isnan(features.timestamps).all()


def test_exo_interleaves_its_sorted_cameras(store: FeatureStore, folder: Path) -> None:
    take = folder / "takes" / "cook_1"
    # written in another order than their names'
    second = save(take / "cam02.pt", 32, 196, 1152, seed=2)
    first = save(take / "cam01.pt", 32, 196, 1152, seed=1)
    report = import_release(store, folder, ReleaseImport("exo", "egoexo"))
    feature_set = store.snapshot().feature_set("egoexo", "exo")
    features = feature_set["takes/cook_1"]
    assert features.values.shape == (64, 196, 1152)
    assert features.values[0::2].tobytes() == bits(first)
    assert features.values[1::2].tobytes() == bits(second)
    assert np.isnan(features.timestamps).all()
    (row,) = store.query("SELECT attributes FROM features").to_pylist()
    assert json.loads(row["attributes"]) == {"cameras": ["cam01", "cam02"]}

    # a take that comes later, with a broken camera
    (folder / "takes" / "cook_2").mkdir()
    (folder / "takes" / "cook_2" / "cam07.pt").write_bytes(b"cut")
    report = import_release(store, folder, ReleaseImport("exo", "egoexo"))
    assert (report.already_present, len(report.failed)) == (1, 1)
    assert "takes/cook_2/cam07.pt" in report.failed[0].message


def test_interleaving_is_by_time_step() -> None:
    cameras = [np.full((3, 1, 1), 10 * camera) + np.arange(3)[:, None, None] for camera in range(4)]
    assert interleaved(cameras).ravel().tolist() == [0, 10, 20, 30, 1, 11, 21, 31, 2, 12, 22, 32]


class _Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (self.path, "w")


def _nan() -> torch.Tensor:
    tensor = torch.zeros(2, 1024, dtype=torch.bfloat16)
    tensor[1, 7] = torch.nan
    return tensor


BAD_FILES: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-300]), "UnusableFileError", "no readable .pt"),
    "empty": (lambda path: path.write_bytes(b""), "UnusableFileError", "no readable .pt"),
    "text": (lambda path: path.write_text("hello"), "UnusableFileError", "no readable .pt"),
    "a dict": (lambda path: torch.save({"x": torch.zeros(2)}, path), "UnusableFileError", "holds a dict"),
    "wrong width": (lambda path: save(path, 2, 512), "UnusableFileError", "[2, 512]"),
    "too many axes": (lambda path: save(path, 2, 5, 1024), "UnusableFileError", "[2, 5, 1024]"),
    "wrong dtype": (
        lambda path: save(path, 2, 1024, dtype=torch.float32),
        "UnusableFileError",
        "is float32, but this import is of bfloat16",
    ),
    "whole numbers": (
        lambda path: torch.save(torch.zeros(2, 1024, dtype=torch.int64), path),
        "UnusableFileError",
        "int64",
    ),
    "sparse": (
        lambda path: torch.save(torch.eye(4).to_sparse(), path),
        "UnusableFileError",
        "no dense tensor",
    ),
    "claims more than it holds": (
        lambda path: torch.save(torch.zeros(1, dtype=torch.bfloat16).expand(10**9, 1024), path),
        "UnusableFileError",
        "more than the file holds",
    ),
    "NaN": (lambda path: torch.save(_nan(), path), "FeatureValueError", "NaN"),
    "no time steps": (lambda path: save(path, 0, 1024), "FeatureShapeError", "T is 0"),
    "code": (
        lambda path: path.write_bytes(pickle.dumps(_Trap(path.with_name("owned")))),
        "UnusableFileError",
        "no readable .pt",
    ),
    "link out": (
        lambda path: (path.unlink(), path.symlink_to(save_outside(path))),
        "OutsideFolderError",
        "leads out",
    ),
    "broken link": (
        lambda path: (path.unlink(), path.symlink_to(path.with_name("gone.pt"))),
        "UnusableFileError",
        "cannot be opened",
    ),
    "pipe": (lambda path: (path.unlink(), os.mkfifo(path)), "UnusableFileError", "not a plain file"),
}


def save_outside(path: Path) -> Path:
    outside = path.parent.parent / "outside.pt"
    save(outside, 2, 1024)
    return outside


def test_bad_files_are_failures_that_name_them_and_the_others_go_on(
    store: FeatureStore, folder: Path
) -> None:
    names = ["a", *BAD_FILES, "zzz"]
    for name in names:
        save(folder / f"{name}.pt", 2, 1024)
    for name, (spoil, _, _) in BAD_FILES.items():
        spoil(folder / f"{name}.pt")
    report = import_release(store, folder, AUDIO)
    assert store.snapshot().feature_set("avsd", "audio").sample_ids == ["a", "zzz"]
    failures = {failure.sample_id: failure for failure in report.failed}
    assert failures.keys() == BAD_FILES.keys()
    known = store.known_failures("avsd", "audio", report.record.fingerprint)
    for name, (_, error_type, words) in BAD_FILES.items():
        assert (failures[name].error_type, failures[name].attempt) == (error_type, 1)
        assert str(folder / f"{name}.pt") in failures[name].message
        assert words in failures[name].message
        assert "\n" not in failures[name].message
        assert known[name].message == failures[name].message
    assert not (folder / "owned").exists()
    # what is missing sees them too
    assert sorted(store.query("SELECT sample_id FROM samples")["sample_id"].to_pylist()) == sorted(names)


def test_again_does_only_what_is_missing(store: FeatureStore, folder: Path) -> None:
    save(folder / "a.pt", 2, 1024)
    (folder / "b.pt").write_bytes(b"cut")
    first = import_release(store, folder, AUDIO)
    save(folder / "a.pt", 9, 1024)  # not read again
    second = import_release(store, folder, AUDIO)
    assert second.failed[0].attempt == 2
    good = save(folder / "b.pt", 4, 1024)
    third = import_release(store, folder, AUDIO)
    assert (third.imported, third.already_present, third.failed) == (1, 1, ())
    assert third.record.fingerprint == first.record.fingerprint
    feature_set = store.snapshot().feature_set("avsd", "audio")
    assert feature_set.lengths(["a", "b"]).tolist() == [2, 4]
    assert feature_set["b"].values.tobytes() == bits(good)
    assert import_release(store, folder, AUDIO).version == third.version


def test_parts_and_commits_follow_the_size(store: FeatureStore, folder: Path) -> None:
    for index in range(5):
        save(folder / f"{index}.pt", 2, 1024)  # 4096 bytes
    seen: list[tuple[int, int, int]] = []
    report = import_release(
        store, folder, AUDIO, part_bytes=8000, progress=lambda *counts: seen.append(counts)
    )
    assert report.version == 3
    assert store.verify().num_parts == 3
    assert seen == [(done, 5, 0) for done in range(1, 6)]


def test_an_interrupted_import_keeps_what_was_read(store: FeatureStore, folder: Path) -> None:
    for index in range(4):
        save(folder / f"{index}.pt", 2, 1024)

    def interrupt(done: int, total: int, failed: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_release(store, folder, AUDIO, progress=interrupt)
    assert store.snapshot().feature_set("avsd", "audio").sample_ids == ["0", "1"]
    assert store.verify().orphans == ()
    assert import_release(store, folder, AUDIO).imported == 2


# Ids


def test_ids_follow_the_pattern_and_the_format(store: FeatureStore, folder: Path) -> None:
    save(folder / "Real_audio_feat" / "0001.pt", 2, 1024)
    save(folder / "README.pt", 2, 1024)
    settings = ReleaseImport(
        "audio",
        "music",
        id_pattern=r"(?P<split>\w+)_audio_feat/(?P<id>\d+)\.pt",
        id_format="{split}/{id}.mp4",
    )
    report = import_release(store, folder, settings)
    assert store.snapshot().feature_set("music", "audio").sample_ids == ["Real/0001.mp4"]
    assert [(skipped.path, "does not match" in skipped.reason) for skipped in report.skipped] == [
        ("README.pt", True)
    ]


def test_two_files_of_one_sample_are_both_named(store: FeatureStore, folder: Path) -> None:
    for name in ("x/clip.pt", "y/clip.pt"):
        save(folder / name, 2, 1024)
    with pytest.raises(DuplicateSourceError, match=r"x/clip\.pt and y/clip\.pt .* both sample 'clip'"):
        import_release(store, folder, ReleaseImport("audio", "avsd", id_pattern=r".*/(?P<id>.+)\.pt"))
    assert store.snapshot().version == 0


def test_two_cameras_of_one_name_are_both_named(store: FeatureStore, folder: Path) -> None:
    for name in ("take/x/cam1.pt", "take/y/cam1.pt"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).touch()
    settings = ReleaseImport("exo", "egoexo", id_pattern=r"(?P<id>take)/.*\.pt")
    with pytest.raises(DuplicateSourceError, match=r"x/cam1\.pt and take/y/cam1\.pt"):
        import_release(store, folder, settings)


def test_links_to_folders_and_names_that_are_no_text_are_reported(store: FeatureStore, folder: Path) -> None:
    save(folder / "a.pt", 2, 1024)
    save(folder.parent / "elsewhere" / "b.pt", 2, 1024)
    (folder / "linked").symlink_to(folder.parent / "elsewhere")
    with open(os.fsencode(folder) + b"/\xff.pt", "wb"):
        pass
    report = import_release(store, folder, AUDIO)
    assert {skipped.path for skipped in report.skipped} == {"linked", "\\udcff.pt"}
    assert store.snapshot().feature_set("avsd", "audio").sample_ids == ["a"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"id_pattern": "("}, "no regular expression"),
        ({"id_pattern": "(.+)"}, "no group"),
        ({"id_format": "{name}"}, "named groups"),
        ({"id_format": "{id.__class__}"}, "named groups"),
        ({"id_format": "{0}"}, "named groups"),
        ({"id_format": "{id"}, "cannot be read"),
        ({"id_format": "always"}, "named groups"),
        ({"kind": "smell"}, "audio"),
        ({"dtype": "float64"}, "bfloat16"),
    ],
)
def test_wrong_settings_are_refused(arguments: dict[str, str], words: str) -> None:
    with pytest.raises(ImportSettingsError, match=words):
        ReleaseImport(**({"kind": "audio", "dataset": "avsd"} | arguments))


def test_folders_without_features_are_refused(store: FeatureStore, folder: Path) -> None:
    with pytest.raises(SourceNotFoundError, match="not a folder"):
        import_release(store, folder / "gone", AUDIO)
    (folder / "notes.txt").touch()
    with pytest.raises(SourceNotFoundError, match=r"notes\.txt"):
        import_release(store, folder, AUDIO)
    (folder / "scene").mkdir()
    (folder / "scene" / "video_features.pt").write_text("cut")
    with pytest.raises(UnusableFileError, match="no other file"):
        import_release(store, folder, ReleaseImport("depth3d", "scannet"))


# Identity


def test_fingerprint_does_not_see_places_and_names(store: FeatureStore, folder: Path) -> None:
    known = RELEASE_KINDS["audio"].made_by
    settings = [
        AUDIO,
        ReleaseImport("audio", "other", id_format="{id}.mp4"),
        ReleaseImport("audio", "third", made_by=replace(known, licence="mine")),
    ]
    found = set()
    for index, setting in enumerate(settings):
        save(folder / str(index) / "a.pt", 2, 1024)
        found.add(import_release(store, folder / str(index), setting).record.fingerprint)
    assert len(found) == 1


def test_fingerprint_sees_what_changes_the_numbers() -> None:
    made_by = MadeBy("mine", "1", identity={"encoder": "x", "revision": "2a1c"})
    layout = TensorLayout("values", 1, 1024, "bfloat16")
    found = {
        fingerprint("audio", made_by, (layout,), 1.0),
        fingerprint("sound", made_by, (layout,), 1.0),
        fingerprint("audio", made_by, (layout,), None),
        fingerprint("audio", made_by, (replace(layout, dtype="float16"),), 1.0),
        fingerprint("audio", replace(made_by, extractor="yours"), (layout,), 1.0),
        fingerprint("audio", replace(made_by, version="2"), (layout,), 1.0),
        fingerprint("audio", replace(made_by, identity={"encoder": "x", "revision": "2a1d"}), (layout,), 1.0),
    }
    assert len(found) == 7
    # a fingerprint that changes would orphan every store
    assert fingerprint("audio", made_by, (layout,), 1.0) == "e10fdd04db5c7856"


@pytest.mark.parametrize("identity", [{"x": float("nan")}, {"x": (1, 2)}, {"x": object()}, {1: "x"}])
def test_identity_is_plain_json(identity: dict[str, object]) -> None:
    with pytest.raises(ImportSettingsError, match="plain values"):
        MadeBy("mine", "1", identity=identity)


def test_known_samples_keep_what_the_store_knows(store: FeatureStore, folder: Path) -> None:
    store.add_samples([SampleRow("avsd", "a", "train", '{"video": "a.mp4"}', duration=9.0)])
    for name in ("a", "b"):
        save(folder / f"{name}.pt", 2, 1024)
    import_release(store, folder, AUDIO)
    rows = store.query("SELECT sample_id, split, media FROM samples ORDER BY ALL").to_pylist()
    assert [(row["sample_id"], row["split"], row["media"]) for row in rows] == [
        ("a", "train", '{"video": "a.mp4"}'),
        ("b", None, "{}"),
    ]


def test_layout_conflict_is_not_swallowed(store: FeatureStore, folder: Path) -> None:
    save(folder / "a.pt", 2, 1024)
    record = import_release(store, folder, AUDIO).record
    with pytest.raises(LayoutConflictError):
        store.register(replace(record, version="2"))
