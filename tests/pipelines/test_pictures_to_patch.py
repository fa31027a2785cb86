"""Key frames of scenes and of folders of pictures: what is found, and that a depth3d patch trains on them."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from in_this_process import extracted
from pave_process import invoke
from PIL import Image
from small_scenes import room_scene, write_scene
from tiny_base import write_tiny_base

from extractors.config import Depth3dConfig, FramesConfig
from extractors.depth3d import Depth3dExtractor
from extractors.frames import FramesExtractor
from pave_model.config import LoraSettings
from pave_model.errors import PatchInputError
from pipelines.config import DataConfig, FusionSizes, MediaFolders, PrepareConfig, TrainConfig
from pipelines.errors import ManifestError
from pipelines.extract_settings import extract_settings
from pipelines.manifest import list_media, prepare, read_manifest
from pipelines.media_folders import find_media
from pipelines.train import train


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two folders of pictures, one of them deep, one that has none itself, and one whose names are no numbers."""
    root = tmp_path / "frames"
    for folder, names in {
        "a": ("0.jpg", "10.jpg", "9.jpg"),
        "deep/b": ("frame_1.png",),
        "a/thumbnails": ("0.jpg",),
        "bad": ("cover.jpg", "1.jpg"),
    }.items():
        (root / folder).mkdir(parents=True)
        for name in names:
            Image.new("RGB", (8, 6), "red").save(root / folder / name)
    (root / "a" / "notes.txt").touch()
    (root / "a" / ".7.jpg").touch()
    (root / "empty").mkdir()
    return root


def test_folders_of_pictures_are_samples(pictures: Path, tmp_path: Path) -> None:
    report = prepare(PrepareConfig(images=pictures, out=tmp_path / "out"))
    found = {row["sample_id"]: row for row in read_manifest(tmp_path / "out").table.to_pylist()}
    assert {name: (json.loads(row["media"]), row["n_frames"]) for name, row in found.items()} == {
        "a": ({"images": "a"}, 3),
        "bad": ({"images": "bad"}, None),
        "deep/b": ({"images": "deep/b"}, 1),
    }
    (unusable,) = report.unusable
    assert unusable.error.startswith("the name of cover.jpg does not end with a number; name the pictures")
    (alone,) = list_media(find_media(MediaFolders(images=pictures / "a"))).table.to_pylist()
    assert (alone["sample_id"], alone["source_hash"]) == ("a", found["a"]["source_hash"])
    (pictures / "a" / "notes.txt").write_text("no picture")
    Image.new("RGB", (8, 6), "green").save(pictures / "a" / "9.jpg")
    (again,) = list_media(find_media(MediaFolders(images=pictures / "a"))).table.to_pylist()
    assert again["source_hash"] != found["a"]["source_hash"]


def test_places_without_pictures_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match=r"no pictures in .*empty; give a folder of folders with"):
        find_media(MediaFolders(images=tmp_path / "empty"))
    with pytest.raises(ManifestError, match=r"there is no file or folder .*absent"):
        find_media(MediaFolders(images=tmp_path / "absent"))
    result = invoke("prepare", "--images", tmp_path / "empty", "--out", tmp_path / "out")
    assert result.stderr.startswith("error: no pictures in ")


def test_pictures_are_a_source_of_frames() -> None:
    config = extract_settings(
        "frames", None, {"images": Path("frames"), "base": "b"}, ["encoder.image_frames=views"]
    )
    assert config.images == Path("frames")
    assert config.encoder == FramesConfig(base="b", image_frames="views")
    result = invoke("extract", "frames", "--images", "frames", "--scenes", "scans", "--base", "b")
    assert "give one of videos, scenes, images, takes and manifest" in result.stderr


def test_a_depth3d_patch_trains_on_scenes_without_a_video(tmp_path: Path) -> None:
    """Neither key frames nor views have times, so they are aligned evenly."""
    for seed in range(2):
        arrays = room_scene(5 - seed, (24, 32))
        write_scene(tmp_path / "scans" / f"scene{seed}", **arrays, colour_suffix=".jpg")
    base = write_tiny_base(tmp_path / "base")
    manifest = list_media(find_media(MediaFolders(scenes=tmp_path / "scans")), "rooms")
    store = tmp_path / "store"
    extracted(FramesExtractor(FramesConfig(base=str(base), num_frames=2)), manifest, store, tmp_path)
    views = Depth3dConfig(weights="random:0", embedding="random:1", num_views=2)
    opened = extracted(Depth3dExtractor(views), manifest, store, tmp_path)
    named = opened.query(
        "SELECT sample_id, attributes, n_frames FROM features ORDER BY sample_id"
    ).to_pylist()
    frames = {(row["sample_id"], row["n_frames"], *json.loads(row["attributes"])["frames"]) for row in named}
    assert len(named) == 4
    assert frames == {("scene0", 5, "0", "2"), ("scene1", 4, "0", "2")}  # of both channels
    assert np.isnan(opened.snapshot().feature_set("rooms", "frames")["scene0"].timestamps).all()

    questions = [
        {
            "instruction_id": f"{number}",
            "sample_id": f"scene{number}",
            "dataset": "rooms",
            "split": "train",
            "question_type": "colour",
            "question": "Which colour is on screen at the end?",
            "answer": "red",
            "chance": None,
        }
        for number in range(2)
    ]
    pq.write_table(pa.Table.from_pylist(questions), tmp_path / "instructions.parquet")

    def training(out: str, **sizes: object) -> TrainConfig:
        return TrainConfig(
            base=str(base),
            out=tmp_path / out,
            data=DataConfig(store=str(store), instructions=tmp_path / "instructions.parquet", split="train"),
            channels={"depth3d": FusionSizes(embed_dim=16, hidden_dim=16, **sizes)},
            lora=LoraSettings(r=2, alpha=4, dropout=0.0),
            max_steps=3,  # the first is the warm-up's, of rate 0
            batch_size=2,
            accumulation=1,
            learning_rate=1e-2,
            log_every=1,
        )

    report = train(training("run"))
    assert report.steps == 3
    assert report.losses[-1][1] < report.losses[0][1]
    with pytest.raises(PatchInputError, match=r"'scene\d' has no timestamps; align this channel evenly"):
        train(training("timed", time_radius=1.0))
