"""A store in this machine's memory."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from store_contract import FeatureStoreTests
from tiny_store import RECORD, add_part, assert_same, features

from store.feature_store import FeatureStore


class TestMemoryFeatureStore(FeatureStoreTests):
    @pytest.fixture
    def url(self, request: pytest.FixtureRequest) -> str:
        return f"memory://t{abs(hash(request.node.name))}"


def test_names_are_separate_stores() -> None:
    left, right = FeatureStore.open("memory://left"), FeatureStore.open("memory://right")
    add_part(left, RECORD, {"a": features(2)})
    assert (left.url, right.snapshot().version) == ("memory://left", 0)
    assert_same(FeatureStore.open("memory://left").snapshot().feature_set("avsd", "audio")["a"], features(2))


def test_it_is_shared_with_processes_and_gone_with_its_own(tmp_path: Path) -> None:
    store = FeatureStore.open("memory://shared")
    add_part(store, RECORD, {"a": features(2)})
    (tmp_path / "store.pickle").write_bytes(pickle.dumps(store))
    code = """
import pickle, sys
from store import FeatureStore
given = pickle.load(open(sys.argv[1], "rb"))
print(given.snapshot().feature_set("avsd", "audio").sample_ids)
print(FeatureStore.open("memory://mine").location.folder)
"""
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "store.pickle")],
        capture_output=True,
        text=True,
        check=True,
    )
    ids, folder = ran.stdout.splitlines()
    assert ids == "['a']"
    assert not Path(folder).parent.exists()
    assert_same(store.snapshot().feature_set("avsd", "audio")["a"], features(2))
