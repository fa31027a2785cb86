"""`pave store ...`: looking into a feature store, and its upkeep."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from pave_process import invoke

from store import (
    FailureRow,
    Features,
    FeatureSetRecord,
    FeatureStore,
    InstructionRow,
    SampleRow,
    TensorLayout,
)

RECORD = FeatureSetRecord(
    dataset="tiny",
    channel="audio",
    extractor="imagebind-audio",
    version="1",
    fingerprint="f00d",
    tensors=(TensorLayout("values", 1, 4, "float32"),),
    rate_hz=1.0,
    licence="none",
    config={"encoder": {}},
)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with features of two samples, a failure, and a sample that was not tried."""
    made = FeatureStore.open(tmp_path / "store")
    made.register(RECORD)
    made.add_samples([SampleRow("tiny", name, None, "{}") for name in ("a", "b", "c", "d")])
    with made.writer(RECORD) as part:
        for name in ("a", "b"):
            part.write(name, Features(np.ones((3, 1, 4), np.float32), np.arange(3.0)), duration=3.0)
    made.commit([part.close()])
    made.record_failures([FailureRow("c", "tiny", "audio", "f00d", "MediaError", "broken; mend it", True)])
    return made.location.folder


def test_the_store_is_listed_and_shown(store: Path) -> None:
    lines = invoke("store", "ls", "--store", store).stdout.splitlines()
    assert lines[1].split() == ["tiny/audio/f00d", "2", "1", "96", "B", "none"]
    for name in ("tiny/audio", "tiny/audio/f00d"):
        shown = json.loads(invoke("store", "show", name, "--store", store).stdout)
        assert (shown["samples"], shown["time_steps"], shown["bytes"]) == (2, 6, 96)
        assert shown["tensors"] == [
            {"name": "values", "tokens": 1, "dim": 4, "dtype": "float32", "finite": True}
        ]
    assert "names no feature set" in invoke("store", "show", "tiny", "--store", store).stderr
    assert "tiny/audio/f00d" in invoke("store", "show", "tiny/video", "--store", store).stderr


def test_queries_come_in_four_formats(store: Path, tmp_path: Path) -> None:
    sql = "SELECT sample_id, steps, steps AS steps FROM features ORDER BY sample_id"
    table = invoke("store", "query", sql, "--store", store).stdout.splitlines()
    assert [line.split() for line in table] == [
        ["sample_id", "steps", "steps"],
        ["a", "3", "3"],
        ["b", "3", "3"],
    ]
    text = invoke("store", "query", sql, "--store", store, "--format", "csv").stdout
    assert list(csv.reader(text.splitlines()))[1:] == [["a", "3", "3"], ["b", "3", "3"]]
    failures = invoke("store", "query", "SELECT * FROM failures", "--store", store, "--format", "json").stdout
    assert json.loads(failures)[0]["message"] == "broken; mend it"
    single = "SELECT sample_id FROM features ORDER BY ALL"
    parquet = invoke("store", "query", single, "--store", store, "--format", "parquet").stdout_bytes
    assert pq.read_table(io.BytesIO(parquet))["sample_id"].to_pylist() == ["a", "b"]
    invoke("store", "query", sql, "--store", store, "--format", "csv", "--output", tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == text
    wrong = invoke("store", "query", "SELECT nothing FROM features", "--store", store)
    assert wrong.exit_code == 1
    assert len(wrong.stderr.splitlines()) == 1
    nowhere = invoke("store", "query", "SELECT 1", "--store", store / "absent")
    assert nowhere.stderr.startswith(f"error: there is no feature store at {store / 'absent'}")


def test_what_is_missing_is_listed_with_its_reason(
    store: Path, tmp_path: Path, clips: dict[str, Path]
) -> None:
    result = invoke("store", "missing", "tiny", "audio", "--store", store)
    assert result.stdout.splitlines() == ["c\tbroken; mend it", "d\tnot extracted yet"]
    invoke("prepare", "--videos", clips["bikes.mp4"], "--out", tmp_path / "out")
    result = invoke("store", "missing", "tiny", "audio", "--store", store, "--manifest", tmp_path / "out")
    assert result.stdout.splitlines() == ["bikes.mp4\tnot extracted yet"]


def test_verify_tells_sound_from_damaged_stores(store: Path) -> None:
    sound = invoke("store", "verify", "--store", store)
    assert (sound.exit_code, sound.stdout) == (
        0,
        "catalog version 1: 2 samples in 1 parts, 96 B; 0 problems, 0 orphans (harmless)\n",
    )
    (shard,) = store.glob("parts/*/*/*/*/values/c/0/0/0")
    content = bytearray(shard.read_bytes())
    content[0] ^= 1
    shard.write_bytes(content)
    damaged = invoke("store", "verify", "--store", store)
    assert damaged.exit_code == 1
    assert damaged.stdout.startswith("problem: parts/tiny/audio/f00d/")
    assert "sample 'a'" in damaged.stdout


def test_the_ready_made_questions(store: Path) -> None:
    opened = FeatureStore.open(store)
    opened.add_instructions([InstructionRow("i1", "a", "tiny", "train", "colour", "which?", "red", 0.25)])
    asked = invoke(
        "store", "query", "SELECT question, chance FROM instructions", "--store", store, "--format", "csv"
    )
    assert asked.stdout.splitlines()[1:] == ["which?,0.25"]
    big = invoke("store", "size", "--store", store).stdout.splitlines()
    assert big[1].split() == ["tiny/audio/f00d", "2", "0.00", "6", "1", "96", "B", "48", "B"]
    assert big[2].startswith("all versions: 1 parts, ")
    who = invoke("store", "encoders", "--store", store).stdout.splitlines()
    assert who[1].split()[:2] == ["tiny/audio/f00d", "imagebind-audio@1"]


def rewrite(store: Path, name: str, value: float) -> None:
    """Another commit: features of one sample."""
    opened = FeatureStore.open(store)
    with opened.writer(RECORD) as part:
        part.write(name, Features(np.full((3, 1, 4), value, np.float32), np.arange(3.0)), duration=3.0)
    opened.commit([part.close()])


def test_versions_have_numbers_tags_and_moments(store: Path) -> None:
    assert invoke("store", "tag", "first", "--store", store).stdout == "first is catalog version 1\n"
    rewrite(store, "a", 2)
    rewrite(store, "c", 3)
    for version, count in (("first", "2"), ("1", "2"), ("3", "3"), ("2100-01-01", "3")):
        listed = invoke("store", "ls", "--store", store, "--version", version).stdout.splitlines()
        assert listed[1].split()[1] == count
    assert invoke("store", "tags", "--store", store).stdout.splitlines()[1].split()[:2] == ["first", "1"]
    changed = invoke("store", "diff", "first", "3", "--store", store).stdout.splitlines()
    assert changed[0] == "catalog version 1 to 3: 2 samples changed"
    assert [line.split() for line in changed[2:]] == [
        ["tiny/audio/f00d", "added", "1"],
        ["tiny/audio/f00d", "replaced", "1"],
    ]
    each = invoke("store", "diff", "1", "3", "--list", "--store", store).stdout.splitlines()
    assert [line.split()[3:5] for line in each[1:]] == [["a", "replaced"], ["c", "added"]]
    unknown = invoke("store", "diff", "first", "last", "--store", store)
    assert (unknown.exit_code, "no tag 'last'; its tags are first" in unknown.stderr) == (1, True)


def test_upkeep(store: Path) -> None:
    for value in (2, 3, 4):
        rewrite(store, "a", value)
    invoke("store", "tag", "keep", "2", "--store", store)
    compacted = invoke("store", "compact", "--store", store)
    assert "moved 2 samples (96 B) from 2 parts to 1" in compacted.stdout
    looked = invoke("store", "vacuum", "--store", store, "--grace", "0d").stdout.splitlines()
    # the part in which version 3 had `a`, and the one of version 4; `keep` needs the others
    assert [line.split(":")[0] for line in looked[:2]] == ["superseded", "superseded"]
    assert looked[2].startswith("would remove 2 parts, ")
    assert looked[3] == "nothing was changed; add --yes to remove them"
    assert len(list(store.glob("parts/*/*/*/*"))) == 5
    assert "removed 2 parts" in invoke("store", "vacuum", "--store", store, "--grace", "0d", "--yes").stdout
    assert len(list(store.glob("parts/*/*/*/*"))) == 3
    assert invoke("store", "verify", "--store", store).exit_code == 0
    gone = invoke("store", "ls", "--version", "3", "--store", store)
    assert (gone.exit_code, "was vacuumed" in gone.stderr) == (1, True)
    invoke("store", "untag", "keep", "--store", store)
    assert len(invoke("store", "tags", "--store", store).stdout.splitlines()) == 1
    wrong = invoke("store", "vacuum", "--grace", "soon", "--store", store)
    assert wrong.stderr == "error: --grace 'soon' is no time; write it like 7d, 12h, 30m or 10s\n"
    assert "has format 2 already" in invoke("store", "migrate", "--store", store).stdout
