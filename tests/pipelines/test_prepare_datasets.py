"""Official annotations through `prepare` into the store: missing media stay, dialogs keep their turns."""

import json
from pathlib import Path

import numpy as np
import pytest

from pipelines.config import PrepareConfig
from pipelines.manifest import prepare, read_manifest
from store import FeatureStore
from tasks import avsd
from tasks.instruction import AnnotationError
from tasks.sidecue_video import write_video
from tasks.sidecue_world import FPS, FRAME_SIZE, SAMPLE_RATE


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three test dialogs of AVSD: the first video is there, the second is damaged, the third is missing."""
    root = tmp_path / "avsd"
    videos = root / avsd.VIDEO_FOLDERS["test"]
    videos.mkdir(parents=True)
    frames = np.zeros((FPS, FRAME_SIZE, FRAME_SIZE, 3), np.uint8)
    write_video(videos / "A.mp4", frames, np.zeros(SAMPLE_RATE, np.float32))
    (videos / "B.mp4").write_bytes(b"no video")
    turns = [{"question": "is it « day » ?", "answer": ""}, {"question": "why ?", "answer": "so ."}]
    write_dialogs(root, [{"image_id": name, "dialog": turns} for name in "ABC"])
    return root


def write_dialogs(root: Path, dialogs: list[object]) -> None:
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations" / avsd.TEST_FILE).write_text(json.dumps({"dialogs": dialogs}))


def test_missing_and_damaged_media_are_rows_with_their_reason(root: Path, tmp_path: Path) -> None:
    report = prepare(PrepareConfig(task="avsd", root=root, out=tmp_path / "out"))
    assert (report.dataset, report.total, report.num_instructions) == ("avsd", 3, 3)
    assert "  test: 3 instructions on 3 samples, 1 with all media\n" in report.summary()
    reasons = {file.sample_id: file.error for file in report.unusable}
    assert set(reasons) == {"B", "C"}
    assert "cannot be read (No such file or directory)" in reasons["C"]
    rows = read_manifest(tmp_path / "out").table.to_pylist()
    assert [(row["sample_id"], row["split"], row["audio_streams"]) for row in rows] == [
        ("A", "test", 1),
        ("B", "test", None),
        ("C", "test", None),
    ]


def test_dialogs_reach_the_store_with_their_history(root: Path, tmp_path: Path) -> None:
    prepare(PrepareConfig(task="avsd", root=root, out=tmp_path / "out"))
    manifest = read_manifest(tmp_path / "out")
    store = FeatureStore.open(tmp_path / "store")
    assert store.add_instructions(manifest.instructions) == 3
    assert store.add_instructions(manifest.instructions) == 0
    (row,) = store.query(
        "SELECT question, answer, history, accepted_answers, attributes->>'image_id' AS image_id "
        "FROM instructions WHERE sample_id = 'B'"
    ).to_pylist()
    assert row == {
        "question": "why ?",
        "answer": "so .",
        "history": '[["is it « day » ?", ""]]',
        "accepted_answers": None,
        "image_id": "B",
    }


def test_a_bad_annotation_leaves_nothing_behind(root: Path, tmp_path: Path) -> None:
    write_dialogs(root, [{"image_id": "../../secret", "dialog": [{"question": "q", "answer": "a"}]}])
    with pytest.raises(AnnotationError, match=r"entry 1: image_id '../../secret' leaves the media folder"):
        prepare(PrepareConfig(task="avsd", root=root, out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()
