"""Upkeep of a store: sound ones are tidied, damaged ones are left alone."""

from pathlib import Path

import pytest
from pave_process import invoke
from tiny_features import write_features

from pipelines.errors import DamagedStoreError
from pipelines.maintain import MaintainConfig, maintain
from store import FeatureStore
from store.errors import StoreError


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    """Three small parts, the first of them superseded."""
    for names in (("a", "b"), ("a", "b"), ("c",)):
        write_features(tmp_path / "store", "toy", "audio", [(name, 3) for name in names])
    return FeatureStore.open(tmp_path / "store")


def parts(store: FeatureStore) -> list[Path]:
    return sorted(path.parent for path in Path(store.url).glob("parts/*/*/*/*/zarr.json"))


def test_a_sound_store_is_compacted_and_vacuumed(store: FeatureStore) -> None:
    assert len(parts(store)) == 3
    report = maintain(MaintainConfig(store=store.url, grace_days=0))
    assert (report.checked_parts, report.moved_samples, report.parts_after) == (3, 3, 1)
    assert (report.removed_parts, len(parts(store))) == (3, 1)
    assert store.snapshot().feature_set("toy", "audio").sample_ids == ["a", "b", "c"]
    assert store.verify().ok
    again = invoke("store", "maintain", "--store", store.url, "--grace-days", "0")
    assert again.exit_code == 0, again.stderr
    assert "moved 0 samples from 0 parts to 0; removed 0 parts" in again.stdout


def test_within_the_grace_period_everything_stays_readable(store: FeatureStore) -> None:
    before = store.snapshot().version
    report = maintain(MaintainConfig(store=store.url))
    assert report.removed_parts == 0
    assert store.snapshot(before).feature_set("toy", "audio")["c"].values.shape[0] == 3


def test_a_damaged_store_is_left_as_it_is(store: FeatureStore) -> None:
    victim = max(
        (path for path in parts(store)[0].rglob("*") if path.is_file()), key=lambda path: path.stat().st_size
    )
    content = bytearray(victim.read_bytes())
    content[10] ^= 1
    victim.write_bytes(content)
    before = parts(store)
    with pytest.raises(DamagedStoreError, match=r"is damaged in \d+ places: .*nothing was moved or removed"):
        maintain(MaintainConfig(store=store.url, grace_days=0))
    assert parts(store) == before


def test_no_store_is_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        maintain(MaintainConfig(store=str(tmp_path / "none")))
    assert not (tmp_path / "none").exists()
