"""Samples that are more than one file: RGB-D scenes and takes of several cameras, from folder to store."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from in_this_process import extracted
from pave_process import invoke
from small_scenes import room_scene, write_scene, write_scene_hdf5

from extractors.audio import AudioExtractor
from extractors.config import Depth3dConfig, ExoConfig
from extractors.contract import Sample
from extractors.depth3d import Depth3dExtractor
from extractors.errors import MediaError
from extractors.exo import ExoExtractor
from pipelines.config import (
    SMALL_RANDOM_AUDIO,
    ExtractDepth3dConfig,
    ExtractExoConfig,
    MediaFolders,
    PrepareConfig,
)
from pipelines.errors import ManifestError
from pipelines.extract import extract
from pipelines.extract_settings import extract_settings
from pipelines.manifest import list_media, prepare, read_manifest
from pipelines.media_folders import find_media
from store import FeatureStore

DEPTH3D = Depth3dConfig(weights="random:0", embedding="random:1", num_views=2)
EXO = ExoConfig(weights="random:0", num_frames=2)
PICTURES = (48, 64)


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """Two scenes, one of which cannot be used, in folders, and one in a file."""
    folder = tmp_path / "scans"
    arrays = room_scene(3, PICTURES)
    write_scene(folder / "deep" / "scene0001_00", **arrays, colour_suffix=".jpg")
    write_scene_hdf5(folder / "scene0002_00.h5", **arrays)
    lost = arrays | {"poses": [np.full((4, 4), -np.inf)] * 3}
    write_scene(folder / "scene0003_00", **lost, colour_suffix=".jpg")
    (folder / "notes.txt").touch()
    (folder / "half" / "color").mkdir(parents=True)
    return folder


@pytest.fixture
def takes(tmp_path: Path, clips: dict[str, Path]) -> Path:
    """A take that is a folder of videos, one with a `take.json` that names a missing camera, and a broken one."""
    folder = tmp_path / "takes"
    for take in ("lab", "kitchen/exo", "broken"):
        (folder / take).mkdir(parents=True)
    for place, clip in {
        "lab/cam02.mp4": "bikes.mp4",
        "lab/cam01.mp4": "carphone_pristine.mp4",
        "kitchen/ego.mp4": "bigbuckbunny.mp4",
        "kitchen/exo/gp01.mp4": "carphone_pristine.mp4",
    }.items():
        shutil.copy(clips[clip], folder / place)
    exo = {"gp02": "exo/gp02.mp4", "gp01": "exo/gp01.mp4"}
    (folder / "kitchen" / "take.json").write_text(json.dumps({"video": "ego.mp4", "exo": exo}))
    (folder / "broken" / "cam01.mp4").write_text("no video")
    return folder


def rows(table: pa.Table) -> dict[str, dict[str, object]]:
    return {row["sample_id"]: row for row in table.to_pylist()}


def test_scenes_are_samples(scenes: Path) -> None:
    found = rows(list_media(find_media(MediaFolders(scenes=scenes))).table)
    assert {name: json.loads(str(row["media"])) for name, row in found.items()} == {
        name: {"scene": name} for name in ("deep/scene0001_00", "scene0002_00.h5", "scene0003_00")
    }
    assert [found[name]["n_frames"] for name in found] == [3, 3, None]
    assert found["scene0003_00"]["error"] == (
        "none of its 3 frames has a finite pose; leave it out, or export it again"
    )
    for alone in ("deep/scene0001_00", "scene0002_00.h5"):
        (row,) = list_media(find_media(MediaFolders(scenes=scenes / alone))).table.to_pylist()
        assert row["sample_id"] == Path(alone).name
        assert row["source_hash"] == found[alone]["source_hash"]


def test_the_hash_of_a_scene_is_that_of_its_content(scenes: Path) -> None:
    scene = scenes / "deep" / "scene0001_00"

    def found() -> object:
        return list_media(find_media(MediaFolders(scenes=scene))).table["source_hash"].to_pylist()[0]

    first = found()
    (scene / "notes.txt").write_text("not of the scene")
    assert found() == first
    hashes = {first}
    for change in ("pose/0.txt", "color/1.jpg", "intrinsic/intrinsic_depth.txt", "axis_alignment.txt"):
        with (scene / change).open("ab") as file:
            file.write(b" ")
        hashes.add(found())
    for picture in ("color/0.jpg", "depth/2.png"):  # another of the same size
        pixels = bytearray((scene / picture).read_bytes())
        pixels[len(pixels) // 2] ^= 1
        (scene / picture).write_bytes(pixels)
        hashes.add(found())
    assert len(hashes) == 7


def test_takes_are_samples(takes: Path) -> None:
    found = rows(list_media(find_media(MediaFolders(takes=takes))).table)
    assert {name: json.loads(str(row["media"])) for name, row in found.items()} == {
        "broken": {"exo/cam01": "broken/cam01.mp4"},
        "kitchen": {
            "video": "kitchen/ego.mp4",
            "exo/gp01": "kitchen/exo/gp01.mp4",
            "exo/gp02": "kitchen/exo/gp02.mp4",
        },
        "lab": {"exo/cam01": "lab/cam01.mp4", "exo/cam02": "lab/cam02.mp4"},
    }
    assert (found["kitchen"]["n_frames"], found["kitchen"]["error"]) == (132, None)  # the ego clip's
    assert str(found["broken"]["error"]).startswith("not a media file")
    (alone,) = list_media(find_media(MediaFolders(takes=takes / "kitchen"))).table.to_pylist()
    assert alone == found["kitchen"]
    shutil.copy(takes / "lab" / "cam01.mp4", takes / "kitchen" / "exo" / "gp02.mp4")
    again = rows(list_media(find_media(MediaFolders(takes=takes))).table)
    assert again["kitchen"]["source_hash"] != found["kitchen"]["source_hash"]  # so it is extracted again


def test_takes_that_are_not_as_they_must_be_are_named(takes: Path, tmp_path: Path) -> None:
    file = takes / "kitchen" / "take.json"
    for content, reason in {
        "{": "cannot be read as JSON",
        "[]": r"take\.json: exo: Input should be a valid dictionary",
        '{"exo": {}}': r"take\.json: exo: Dictionary should have at least 1 item",
        '{"exo": {"": "a.mp4"}}': "should have at least 1 character",
        '{"exo": {"a": "a.mp4"}, "spoon": 1}': "spoon: Extra inputs are not permitted",
        '{"exo": {"a": "../lab/../../secret.mp4"}}': "leaves the media folder",
        '{"exo": {"a": "/etc/passwd"}}': "kitchen: the media path '/etc/passwd' leaves the media folder",
    }.items():
        file.write_text(content)
        with pytest.raises(ManifestError, match=reason) as caught:
            list_media(find_media(MediaFolders(takes=takes)))
        assert "\n" not in str(caught.value)
    file.unlink()
    shutil.copy(takes / "lab" / "cam01.mp4", takes / "lab" / "cam01.avi")
    with pytest.raises(ManifestError, match=r"lab/cam01.avi and cam01.mp4 are one camera"):
        find_media(MediaFolders(takes=takes))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match=r"no takes in .*empty; a take is a folder with"):
        find_media(MediaFolders(takes=tmp_path / "empty"))
    with pytest.raises(ManifestError, match=r"no scenes in .*empty; a scene is a folder with"):
        find_media(MediaFolders(scenes=tmp_path / "empty"))
    for folders in (MediaFolders(takes=tmp_path / "absent"), MediaFolders(scenes=tmp_path / "absent")):
        with pytest.raises(ManifestError, match=r"there is no file or folder .*absent"):
            find_media(folders)


def test_what_is_known_of_scenes_and_takes_gets_into_the_store(
    scenes: Path, takes: Path, tmp_path: Path
) -> None:
    found = list_media(find_media(MediaFolders(scenes=scenes)), "rooms")
    store = extracted(Depth3dExtractor(DEPTH3D), found, tmp_path / "store", tmp_path)
    (row,) = store.query("SELECT * FROM features WHERE sample_id = 'deep/scene0001_00'").to_pylist()
    assert json.loads(row["attributes"])["frames"] == ["0", "1"]
    assert (row["duration"], row["fps"], row["n_frames"]) == (None, None, 3)
    rooms = store.snapshot().feature_set("rooms", "depth3d")
    centres = rooms["scene0002_00.h5"].companions["centres"]
    assert (centres.shape, centres.dtype) == ((2, 576, 3), np.float32)

    found = list_media(find_media(MediaFolders(takes=takes)), "takes")
    store = extracted(ExoExtractor(EXO), found, tmp_path / "store", tmp_path)
    sql = "SELECT attributes FROM features WHERE sample_id = 'kitchen'"
    assert json.loads(store.query(sql)["attributes"][0].as_py()) == {
        "cameras": ["gp01"],
        "missing_cameras": {"gp02": "the file does not exist"},
    }
    sql = "SELECT sample_id, attributes->>'missing_cameras' AS missing FROM features WHERE missing <> '{}'"
    asked = invoke("store", "query", sql, "--store", tmp_path / "store", "--format", "json")
    assert json.loads(asked.stdout) == [
        {"sample_id": "kitchen", "missing": '{"gp02":"the file does not exist"}'}
    ]
    assert store.snapshot().feature_set("takes", "exo")["lab"].values.shape == (4, 196, 64)
    assert store.verify().ok


def test_a_broken_file_costs_only_the_channels_that_read_it(takes: Path, tmp_path: Path) -> None:
    kitchen = takes / "kitchen"
    (kitchen / "ego.mp4").write_text("no video")
    (takes / "lab" / "cam02.mp4").unlink()
    (takes / "lab" / "cam01.mp4").write_bytes(b"")
    report = prepare(PrepareConfig(takes=takes, out=tmp_path / "manifest"))
    assert (report.total, report.num_unusable) == (3, 2)
    listed = [(file.sample_id, file.role, file.error.partition(" (")[0]) for file in report.unusable]
    assert listed == [
        ("broken", "exo/cam01", "not a media file that FFmpeg can open"),
        ("kitchen", "exo/gp02", "cannot be read"),
        ("kitchen", "video", "not a media file that FFmpeg can open"),
        ("lab", "exo/cam01", "the file is empty"),
    ]
    assert "  unusable: kitchen (video): not a media file" in report.summary()

    manifest = read_manifest(tmp_path / "manifest")
    row = rows(manifest.table)["kitchen"]
    assert (row["error"], row["n_frames"]) == (None, 120)  # those of the outside camera
    store = extracted(ExoExtractor(EXO), manifest, tmp_path / "store", tmp_path)
    (features,) = store.query("SELECT sample_id, attributes FROM features").to_pylist()
    assert features["sample_id"] == "kitchen"
    assert json.loads(features["attributes"])["cameras"] == ["gp01"]
    audio = AudioExtractor(SMALL_RANDOM_AUDIO)
    with pytest.raises(MediaError, match=r"^kitchen: not a media file"):
        audio.decode(Sample("kitchen", "takes", {"video": kitchen / "ego.mp4"}))


@pytest.mark.slow
@pytest.mark.usefixtures("running_ray")
def test_scenes_are_extracted_with_their_centres_and_attributes(scenes: Path, tmp_path: Path) -> None:
    prepare(PrepareConfig(scenes=scenes, dataset="rooms", out=tmp_path / "manifest"))
    config = ExtractDepth3dConfig(
        store=str(tmp_path / "store"),
        manifest=tmp_path / "manifest",
        encoder=DEPTH3D,
        max_failure_fraction=0.5,
    )
    report = extract("depth3d", config)
    assert (report.total, report.done, len(report.failed)) == (3, 2, 1)
    store = FeatureStore.open(tmp_path / "store")
    features = store.snapshot().feature_set("rooms", "depth3d")
    extractor = Depth3dExtractor(DEPTH3D)
    extractor.load("cpu")
    (expected,) = extractor.encode(
        [extractor.decode(Sample("s", "rooms", {"scene": scenes / "scene0002_00.h5"}))]
    )
    stored = features["scene0002_00.h5"]
    bits = expected.tensors["values"].view(torch.uint16).numpy()
    np.testing.assert_array_equal(stored.values.view(np.uint16), bits)
    np.testing.assert_array_equal(stored.companions["centres"], expected.tensors["centres"].numpy())
    assert np.isnan(stored.timestamps).all()
    (row,) = store.query("SELECT * FROM features WHERE sample_id = 'deep/scene0001_00'").to_pylist()
    assert json.loads(row["attributes"]) == {
        "frames": ["0", "1"],
        "frames_without_pose": 0,
        "axis_aligned": False,
    }
    assert (row["duration"], row["fps"], row["n_frames"]) == (None, None, 3)
    assert extract("depth3d", config).done == 0


@pytest.mark.slow
@pytest.mark.usefixtures("running_ray")
def test_takes_are_extracted_and_name_their_cameras(takes: Path, tmp_path: Path) -> None:
    config = ExtractExoConfig(
        store=str(tmp_path / "store"), takes=takes, dataset="takes", encoder=EXO, max_failure_fraction=0.5
    )
    report = extract("exo", config)
    assert (report.total, report.done, [item.sample_id for item in report.failed]) == (3, 2, ["broken"])
    store = FeatureStore.open(tmp_path / "store")
    attributes = {
        row["sample_id"]: json.loads(row["attributes"])
        for row in store.query("SELECT sample_id, attributes FROM features").to_pylist()
    }
    assert attributes == {
        "lab": {"cameras": ["cam01", "cam02"], "missing_cameras": {}},
        "kitchen": {"cameras": ["gp01"], "missing_cameras": {"gp02": "the file does not exist"}},
    }
    features = store.snapshot().feature_set("takes", "exo")
    assert features["lab"].values.shape == (4, 196, 64)
    assert features["kitchen"].values.shape == (2, 196, 64)
    extractor = ExoExtractor(EXO)
    extractor.load("cpu")
    media = {f"exo/{name}": takes / "lab" / f"{name}.mp4" for name in ("cam01", "cam02")}
    (expected,) = extractor.encode([extractor.decode(Sample("lab", "takes", media))])
    bits = expected.tensors["values"].view(torch.uint16).numpy()
    np.testing.assert_array_equal(features["lab"].values.view(np.uint16), bits)


def test_settings_of_the_new_channels(tmp_path: Path) -> None:
    scenes, takes = {"scenes": Path("scans")}, {"takes": Path("takes")}
    made = extract_settings("depth3d", None, {**scenes, "num_views": 4})
    assert made == ExtractDepth3dConfig(
        **scenes, encoder=Depth3dConfig(weights="random:0", embedding="random:0", num_views=4)
    )
    assert extract_settings("exo", None, {**takes, "num_frames": 8}) == ExtractExoConfig(
        **takes, encoder=ExoConfig(weights="random:0", num_frames=8)
    )
    result = invoke("extract", "depth3d", "--scenes", "scans", "--weights", "openai/clip")
    assert result.stderr == "error: pave extract depth3d: encoder.embedding: Field required\n"
    result = invoke("extract", "exo", "--takes", "takes", "--scenes", "scans")
    assert "give one of videos, scenes, images, takes and manifest" in result.stderr
    result = invoke("extract", "exo", "--takes", tmp_path / "absent", "--store", tmp_path / "store")
    assert result.stderr.splitlines() == [
        "warning: the exo encoder has random weights, so the features mean little; "
        "for real ones give --weights google/siglip-so400m-patch14-384",
        f"error: there is no file or folder {tmp_path / 'absent'}; check the path",
    ]


def test_a_scene_of_a_manifest_is_inspected_by_its_id(scenes: Path, tmp_path: Path) -> None:
    prepare(PrepareConfig(scenes=scenes, out=tmp_path / "manifest"))
    assert read_manifest(tmp_path / "manifest").root == scenes
    command = ("inspect", "depth3d", "--manifest", tmp_path / "manifest", "--out", tmp_path / "out")
    result = invoke(*command, "deep/scene0001_00", "--step", 8)
    assert result.stdout.startswith("deep/scene0001_00: 3 frames, 0 without a pose, 3 views\n")
    result = invoke(*command, "scene9")
    assert result.stderr.endswith("has no sample 'scene9'; its dataset is 'scans'\n")
