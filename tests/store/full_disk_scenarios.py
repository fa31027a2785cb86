"""What happens to a store on a disk that fills up; run by test_full_disk.py as a process of its own.

    python full_disk_scenarios.py SCENARIO DISK

DISK is the mount point of a file system of a few MB that nobody else uses.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from deltalake import DeltaTable
from tiny_store import RECORD, add_part, assert_same, features, make_features, make_record

from store.errors import StoreError
from store.feature_store import FeatureStore
from store.features import TensorLayout
from store.records import FailureRow, SampleRow

PAGE_BYTES = 4096
# 128 KiB a row: a sample of some rows does not fit beside the filler
WIDE = make_record(tensors=(TensorLayout("values", 64, 512, "float32"),))


@contextmanager
def full(disk: Path, pages_left: int) -> Iterator[None]:
    """Fills the disk with another file, up to the last `pages_left` pages."""
    filler = disk / "filler"
    descriptor = os.open(filler, os.O_WRONLY | os.O_CREAT)
    try:
        status = os.statvfs(disk)
        os.posix_fallocate(descriptor, 0, (status.f_bavail - pages_left) * status.f_frsize)
        yield
    finally:
        os.close(descriptor)
        filler.unlink()


def store_error(disk: Path, action: Callable[[], object], remedy: str = "free space") -> StoreError | None:
    """The error of the action, checked to be one line with place, cause and remedy; None if it went well."""
    try:
        action()
        return None
    except StoreError as raised:
        error = raised
    for words in (f"{disk}/store", "No space left on device", remedy):
        assert words in str(error), error
    assert "\n" not in str(error), error
    return error


def sweep(disk: Path, attempt: Callable[[int], bool]) -> None:
    """Calls `attempt(pages_left)` with ever more space until it succeeds, so that every stage meets the end."""
    pages_left = 0
    while not attempt(pages_left):
        pages_left += 1
        assert pages_left < 100
    print(f"failed with 0 to {pages_left - 1} pages left")
    assert pages_left > 1


def while_a_sample_is_written(disk: Path) -> None:
    """The error names place and remedy; nothing of the part is left; the writer refuses to go on."""
    store = FeatureStore.open(disk / "store")
    add_part(store, WIDE, {"committed": make_features(WIDE, 1, seed=1)})
    writer = store.writer(WIDE)
    writer.write("fits", make_features(WIDE, 1, seed=2))
    with full(disk, pages_left=40):
        error = store_error(disk, lambda: writer.write("too much", make_features(WIDE, 2, seed=3)))
        assert error is not None
        assert store.verify().orphans == ()
        for action in (writer.close, lambda: writer.write("next", make_features(WIDE, 1, seed=4))):
            with pytest.raises(StoreError, match="aborted"):
                action()
        feature_set = store.snapshot().feature_set("avsd", "audio")
        assert feature_set.sample_ids == ["committed"]
        assert_same(feature_set["committed"], make_features(WIDE, 1, seed=1))
    add_part(store, WIDE, {"too much": make_features(WIDE, 2, seed=3)})
    assert store.snapshot().feature_set("avsd", "audio").sample_ids == ["committed", "too much"]
    assert store.verify().problems == ()
    assert len(list(disk.glob("store/parts/*/*/*/*"))) == 2


def while_a_part_is_closed(disk: Path) -> None:
    """Wherever between the shard's index and the last small array the disk ends, nothing is left."""
    store = FeatureStore.open(disk / "store")
    store.register(RECORD)

    def attempt(pages_left: int) -> bool:
        writer = store.writer(RECORD)
        writer.write("a", features(3, seed=3))
        with full(disk, pages_left):
            error = store_error(disk, writer.close)
        if error is None:
            store.commit([writer.close()])
            return True
        assert list(disk.glob("store/parts/*/*/*/*")) == []
        return False

    sweep(disk, attempt)
    assert_same(store.snapshot().feature_set("avsd", "audio")["a"], features(3, seed=3))
    assert store.verify().problems == ()


def commit_on_a_full_disk(disk: Path) -> None:
    """Commits until one succeeds; after each failure the same parts can be committed with space again."""
    store = FeatureStore.open(disk / "store", create=False)
    samples = {}

    def attempt(pages_left: int) -> bool:
        parts = []
        for name in ("a", "b"):
            sample_id = f"{name}{pages_left}"
            samples[sample_id] = features(1 + pages_left % 5, seed=len(samples))
            with store.writer(RECORD) as writer:
                writer.write(sample_id, samples[sample_id])
            parts.append(writer.close())
        version = store.snapshot().version
        with full(disk, pages_left):
            error = store_error(disk, lambda: store.commit(parts))
            # readers are not disturbed, and see all of the commit or nothing
            now = store.snapshot()
            assert (now.version > version) == (set(samples) <= set(now.feature_set("avsd", "audio")))
            assert now.version in (version, version + 1)
        if error is not None:
            store.commit(parts)
        assert store.verify().problems == (), store.verify().problems
        return error is None

    sweep(disk, attempt)
    feature_set = store.snapshot().feature_set("avsd", "audio")
    for sample_id, sample in samples.items():
        assert_same(feature_set[sample_id], sample)
    report = store.verify()
    assert (report.problems, report.orphans, report.num_rows) == ((), (), len(samples) + 1)


def while_parts_are_committed(disk: Path) -> None:
    """A commit that fails for want of space has committed nothing."""
    add_part(FeatureStore.open(disk / "store"), RECORD, {"first": features(2)})
    commit_on_a_full_disk(disk)


def while_a_commit_makes_a_checkpoint(disk: Path) -> None:
    """The same where a commit also sums up the table's log, which happens after it has landed."""
    add_part(FeatureStore.open(disk / "store"), RECORD, {"first": features(2)})
    DeltaTable(disk / "store" / "catalog").alter.set_table_properties({"delta.checkpointInterval": "1"})
    commit_on_a_full_disk(disk)


def while_a_store_is_made(disk: Path) -> None:
    """Creation is done again and finished; the small tables raise the same error."""

    def create(pages_left: int) -> bool:
        with full(disk, pages_left):
            return store_error(disk, lambda: FeatureStore.open(disk / "store"), remedy="") is None

    sweep(disk, create)
    store = FeatureStore.open(disk / "store", create=False)
    with full(disk, pages_left=0):
        for action in (
            lambda: store.register(RECORD),
            lambda: store.add_samples([SampleRow("avsd", "a", "train", "{}")]),
            lambda: store.record_failures(
                [FailureRow("a", "avsd", "audio", RECORD.fingerprint, "MediaError", "broken", True)]
            ),
            lambda: store.writer(RECORD).write("a", features(40)),
        ):
            assert store_error(disk, action) is not None
        assert store.query("SELECT * FROM feature_sets").num_rows == 0
    add_part(store, RECORD, {"a": features(2)})
    assert store.verify().problems == ()


SCENARIOS: dict[str, Callable[[Path], None]] = {
    scenario.__name__: scenario
    for scenario in (
        while_a_sample_is_written,
        while_a_part_is_closed,
        while_parts_are_committed,
        while_a_commit_makes_a_checkpoint,
        while_a_store_is_made,
    )
}

if __name__ == "__main__":
    SCENARIOS[sys.argv[1]](Path(sys.argv[2]))
