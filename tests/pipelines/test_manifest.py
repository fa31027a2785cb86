"""Manifests: every file is a row, with its reason when it cannot be used."""

import hashlib
import json
import os
from dataclasses import asdict, fields
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from odd_media import write_nothing, write_text, write_video_without_frames

from pipelines.config import PrepareConfig
from pipelines.errors import ManifestError
from pipelines.manifest import Manifest, build_manifest, prepare, read_manifest, safe_name
from store import FeatureStore, SampleRow
from store.errors import UnsafeNameError
from tasks import sidecue
from tasks.instruction import Instruction


@pytest.fixture
def folder(tmp_path: Path, clips: dict[str, Path]) -> Path:
    """Four usable clips, two of one name in different containers, and three that are not; and what is no clip."""
    root = tmp_path / "My clips (2)"
    (root / "deep" / "er").mkdir(parents=True)
    for name in ("bikes.mp4", "bigbuckbunny.mp4", "demo.mp4"):
        (root / name).symlink_to(clips[name])
    (root / "deep" / "er" / "demo.FLV").write_bytes(clips["demo.flv"].read_bytes())
    write_text(root / "text.mp4")
    write_nothing(root / "nothing.webm")
    write_video_without_frames(root / "frameless.mp4")
    (root / "notes.txt").write_text("not a video")
    (root / ".hidden.mp4").touch()
    (root / ".trash").mkdir()
    (root / ".trash" / "old.mp4").touch()
    return root


def by_id(manifest: Manifest) -> dict[str, dict[str, object]]:
    return {row["sample_id"]: row for row in manifest.table.to_pylist()}


def test_a_folder_becomes_one_row_per_video_file(folder: Path) -> None:
    manifest = build_manifest(folder)
    rows = by_id(manifest)
    assert list(rows) == sorted(
        [
            "bigbuckbunny.mp4",
            "bikes.mp4",
            "deep/er/demo.FLV",
            "demo.mp4",
            "frameless.mp4",
            "nothing.webm",
            "text.mp4",
        ]
    )
    assert (manifest.dataset, manifest.root) == ("My-clips-2-", folder)
    bunny = rows["bigbuckbunny.mp4"]
    assert json.loads(str(bunny["media"])) == {"video": "bigbuckbunny.mp4"}
    assert (bunny["n_frames"], bunny["fps"], bunny["audio_streams"], bunny["error"]) == (132, 25.0, 1, None)
    assert bunny["duration"] == pytest.approx(5.3, abs=0.1)
    assert bunny["source_hash"] == hashlib.sha256((folder / "bigbuckbunny.mp4").read_bytes()).hexdigest()
    assert rows["bikes.mp4"]["audio_streams"] == 0
    errors = {name: row["error"] for name, row in rows.items() if row["error"] is not None}
    assert str(errors["text.mp4"]).startswith("not a media file")
    assert errors["nothing.webm"] == "the file is empty (0 bytes); copy or download it again"
    assert "no video frames" in str(errors["frameless.mp4"])
    assert len(errors) == 3


def test_a_manifest_goes_into_the_store_as_it_is(folder: Path, tmp_path: Path) -> None:
    report = prepare(PrepareConfig(videos=folder, out=tmp_path / "out"))
    assert report.total == 7
    assert [file.sample_id for file in report.unusable] == ["frameless.mp4", "nothing.webm", "text.mp4"]
    assert report.summary().splitlines()[-1].startswith("  unusable: text.mp4 (video): not a media file")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["manifest.parquet"]
    manifest = read_manifest(tmp_path / "out")
    assert manifest.table.column_names == [field.name for field in fields(SampleRow)]
    assert manifest.table.equals(build_manifest(folder).table)
    assert manifest.root == folder
    store = FeatureStore.open(tmp_path / "store")
    assert store.add_samples(manifest.table) == 7
    assert store.add_samples(manifest.table) == 0


def test_one_file_has_the_id_that_it_has_in_its_folder(folder: Path) -> None:
    alone = by_id(build_manifest(folder / "bikes.mp4"))
    assert alone == {"bikes.mp4": by_id(build_manifest(folder))["bikes.mp4"]}


def test_names_that_are_no_text_keep_their_file(tmp_path: Path, clips: dict[str, Path]) -> None:
    (tmp_path / os.fsdecode(b"b\xff.mp4")).write_bytes(clips["bikes.mp4"].read_bytes())
    prepare(PrepareConfig(videos=tmp_path, dataset="odd", out=tmp_path / "out"))
    manifest = read_manifest(tmp_path / "out")
    (row,) = manifest.table.to_pylist()
    assert row["sample_id"] == "b\\udcff.mp4"
    assert row["error"] is None
    assert (manifest.root / json.loads(row["media"])["video"]).is_file()


def test_a_task_brings_its_splits_and_instructions(tmp_path: Path) -> None:
    world, out = tmp_path / "world", tmp_path / "out"
    sidecue.make(world, sidecue.SideCueConfig(splits={"train": 2, "test": 1}), workers=1)
    (world / "test" / "000000.mp4").unlink()
    report = prepare(PrepareConfig(task="sidecue", root=world, dataset="mine", out=out))
    assert (report.dataset, report.total, report.num_instructions) == ("mine", 3, 15)
    rows = by_id(read_manifest(out / "manifest.parquet"))
    assert {name: row["split"] for name, row in rows.items()} == {
        "train-000000": "train",
        "train-000001": "train",
        "test-000000": "test",
    }
    assert "cannot be read" in str(rows["test-000000"]["error"])
    instructions = pq.read_table(out / "instructions.parquet")
    assert instructions.column_names == [field.name for field in fields(Instruction)]
    _, loaded = sidecue.load(world)
    assert instructions.to_pylist() == [{**asdict(question), "dataset": "mine"} for question in loaded]


@pytest.mark.parametrize("path", ["../secret.mp4", "/etc/passwd", "train/../../secret.mp4"])
def test_annotations_cannot_name_files_outside_of_their_root(tmp_path: Path, path: str) -> None:
    world = tmp_path / "world"
    sidecue.make(world, sidecue.SideCueConfig(splits={"train": 1}), workers=1)
    annotations = world / "annotations" / "train.json"
    content = json.loads(annotations.read_text())
    content[0]["media"]["video"] = path
    annotations.write_text(json.dumps(content))
    with pytest.raises(ManifestError, match=r"train-000000: the media path .* leaves the media folder"):
        prepare(PrepareConfig(task="sidecue", root=world, out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_what_is_no_manifest_is_named(tmp_path: Path, clips: dict[str, Path]) -> None:
    with pytest.raises(ManifestError, match=r"there is no manifest .*manifest.parquet; make one"):
        read_manifest(tmp_path)
    (tmp_path / "text.parquet").write_text("text")
    with pytest.raises(ManifestError, match="is no Parquet file"):
        read_manifest(tmp_path / "text.parquet")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(ManifestError, match="is no manifest of PAVE"):
        read_manifest(tmp_path / "other.parquet")
    media = tmp_path / "media"
    media.mkdir()
    (media / "bikes.mp4").symlink_to(clips["bikes.mp4"])
    prepare(PrepareConfig(videos=media, out=tmp_path / "out"))
    media.rename(tmp_path / "moved")
    with pytest.raises(ManifestError, match=r"the media folder .*media of .* is gone"):
        read_manifest(tmp_path / "out")


def test_places_that_cannot_be_used_are_named(tmp_path: Path, clips: dict[str, Path]) -> None:
    with pytest.raises(ManifestError, match=r"no videos in .*; give a folder with files that end in"):
        build_manifest(tmp_path)
    with pytest.raises(ManifestError, match=r"there is no file or folder .*absent"):
        build_manifest(tmp_path / "absent")
    with pytest.raises(UnsafeNameError, match="dataset 'a b' cannot be a folder name"):
        build_manifest(clips["bikes.mp4"], dataset="a b")
    (tmp_path / "file").touch()
    with pytest.raises(ManifestError, match=r"cannot write the manifest to .*file"):
        prepare(PrepareConfig(videos=clips["bikes.mp4"], out=tmp_path / "file"))


@pytest.mark.parametrize(
    ("name", "safe"),
    [("clips", "clips"), ("a b/ç", "a-b-"), ("._x", "x"), ("...", "videos"), ("é" * 9, "videos")],
)
def test_every_folder_name_makes_a_dataset_name(name: str, safe: str) -> None:
    assert safe_name(name) == safe
