"""The contract on a local folder, and what only a local folder can get wrong."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from store_contract import FeatureStoreTests
from tiny_store import TinyStore
from tiny_store import make_store as make_tiny

from store import catalog
from store.errors import MissingSampleError, StoreError, StoreFormatError
from store.feature_store import FeatureStore


class TestLocalFeatureStore(FeatureStoreTests):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return str(tmp_path / "deep" / "store")


def one_line(error: pytest.ExceptionInfo[StoreError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def test_file_url_is_the_folder(tmp_path: Path) -> None:
    assert FeatureStore.open(f"file://{tmp_path}/a%20b").location.folder == tmp_path / "a b"
    assert (tmp_path / "a b" / "store.json").is_file()


@pytest.mark.parametrize(
    "url", ["ftp://host/store", "file://server/share", "s3://", "memory://", "memory://../x"]
)
def test_other_places_say_so(url: str) -> None:
    with pytest.raises(StoreError, match=r"no place for a store|cannot be a folder name") as caught:
        FeatureStore.open(url)
    assert url.partition("://")[2] in one_line(caught)


def test_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match="is a file") as caught:
        FeatureStore.open(tmp_path / "notes.txt")
    assert "folder of its own" in one_line(caught)
    with pytest.raises(StoreError, match="Not a directory") as caught:
        FeatureStore.open(tmp_path / "notes.txt" / "store")
    assert "choose a folder" in one_line(caught)


def test_file_in_the_way_of_the_parts(make_store: Callable[..., TinyStore]) -> None:
    tiny = make_store()
    (tiny.root / "parts" / "blocked").write_text("")
    blocked = type(tiny.record)(**{**vars(tiny.record), "dataset": "blocked"})
    with pytest.raises(StoreError, match="cannot write a part") as caught:
        tiny.store.writer(blocked)
    assert "permissions" in one_line(caught)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="Permission denied") as caught:
        FeatureStore.open(tmp_path / "store")
    assert "choose a folder that you may write to" in one_line(caught)


def test_folder_with_other_files_is_no_place_for_a_store(tmp_path: Path) -> None:
    (tmp_path / "holiday.mp4").touch()
    with pytest.raises(StoreFormatError, match=r"holiday\.mp4") as caught:
        FeatureStore.open(tmp_path)
    assert "empty folder" in one_line(caught)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.mp4"]


def test_creation_that_was_cut_off_is_finished(make_store: Callable[..., TinyStore]) -> None:
    root = make_store().root
    (root / "store.json").unlink()
    assert len(FeatureStore.open(root).snapshot().feature_set("avsd", "audio")) == 4


def test_newer_format_is_refused(make_store: Callable[..., TinyStore]) -> None:
    root = make_store().root
    marker = json.loads((root / "store.json").read_text())
    (root / "store.json").write_text(json.dumps(marker | {"format_version": 3}))
    with pytest.raises(StoreFormatError, match="format 3, newer than 2; upgrade") as caught:
        FeatureStore.open(root)
    one_line(caught)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": "other", "format_version": 1}'])
def test_broken_marker_is_refused(make_store: Callable[..., TinyStore], content: str) -> None:
    root = make_store().root
    (root / "store.json").write_text(content)
    with pytest.raises(StoreFormatError, match=r"store\.json"):
        FeatureStore.open(root)


def test_missing_table_is_named(make_store: Callable[..., TinyStore]) -> None:
    root = make_store().root
    (root / "catalog").rename(root / "elsewhere")
    with pytest.raises(StoreError, match=r"cannot open the table .*catalog") as caught:
        FeatureStore.open(root).snapshot()
    one_line(caught)


def test_deleted_sample_is_gone_until_it_is_put_again(make_store: Callable[..., TinyStore]) -> None:
    tiny = make_store()
    sample_id = min(tiny.samples)
    row = {"dataset": "avsd", "channel": "audio", "fingerprint": tiny.record.fingerprint, "op": "delete"}
    row |= {"sample_id": sample_id, "part": "", "row0": 0, "row1": 0, "nbytes": 0, "crc32c": 0}
    before = tiny.store.snapshot().feature_set("avsd", "audio")
    catalog.append(tiny.store.location, "catalog", [row])
    after = tiny.store.snapshot().feature_set("avsd", "audio")
    assert sample_id in before
    assert len(after) == len(before) - 1 == tiny.store.query("SELECT * FROM features").num_rows
    with pytest.raises(MissingSampleError):
        after[sample_id]
    assert tiny.store.verify().ok


@pytest.mark.parametrize("name", ["a%20b", "a[b]", "a|b", "a\\b", "a\nb"])
def test_folders_that_tables_cannot_be_in_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match="rename the folder") as caught:
        FeatureStore.open(tmp_path / name)
    one_line(caught)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a b", "100%", "ünï", "a*b?", "it's", 'say "a"', "a#b", "{a}"])
def test_other_folders_may_have_any_name(tmp_path: Path, name: str) -> None:
    tiny = make_tiny(tmp_path / name)
    assert tiny.store.compact().num_samples == 4
    assert tiny.store.query("SELECT count(*) AS n FROM features").to_pylist() == [{"n": 4}]
    assert tiny.store.verify().ok


def test_compaction_merges_the_files_of_the_tables(tmp_path: Path) -> None:
    tiny = make_tiny(tmp_path / "store", lengths=tuple((1,) for _ in range(20)))
    catalog_files = catalog.data_files(tiny.store.location, "catalog")
    assert catalog_files is not None
    assert len(catalog_files) == 20
    tiny.store.compact()
    merged = catalog.data_files(tiny.store.location, "catalog")
    assert merged is not None
    assert len(merged) < 5
    for version in (20, None):
        assert len(tiny.store.snapshot(version).feature_set("avsd", "audio")) == 20
    assert tiny.store.verify().ok
