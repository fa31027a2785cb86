"""A store that the first format's code wrote is refused, then migrated with all that is in it."""

import tarfile
from pathlib import Path

import pytest
from tiny_store import assert_same, features

from store.errors import StoreFormatError, StoreNotFoundError
from store.feature_store import FeatureStore
from store.migrate import migrate_store

ARCHIVE = Path(__file__).parent / "formats" / "store_v1.tar.gz"


def test_first_format_is_refused_and_migrated(tmp_path: Path) -> None:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    root = tmp_path / "store_v1"
    with pytest.raises(
        StoreFormatError, match=f"format 1, older than 2; run: pave store migrate --store {root}"
    ):
        FeatureStore.open(root)
    assert migrate_store(root) == (1, 2)
    store = FeatureStore.open(root, create=False)
    newest, first = (store.snapshot(version).feature_set("avsd", "audio") for version in (None, 1))
    assert_same(newest["a"], features(4, seed=3))
    assert_same(newest["b"], features(2, seed=2))
    assert_same(first["a"], features(3, seed=1))
    assert store.query("SELECT sample_id FROM samples ORDER BY ALL")["sample_id"].to_pylist() == [
        "a",
        "b",
        "c",
    ]
    assert store.query("SELECT * FROM instructions").num_rows == 0
    for version in (1, 2, 3):
        rows = store.query("SELECT attributes FROM features", version).to_pylist()
        assert rows == [{"attributes": None}] * 2
    assert store.known_failures("avsd", "audio", newest.record.fingerprint)["c"].message == "no audio track"
    assert store.tag("migrated") == 3
    assert store.verify().ok
    assert migrate_store(root) == (2, 2)


def test_no_store_is_not_migrated(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFoundError):
        migrate_store(tmp_path)
    assert list(tmp_path.iterdir()) == []
