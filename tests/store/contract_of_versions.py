"""The contract of versions: snapshots by time and tag, differences, compaction and vacuum."""

import json
import time
from datetime import UTC, datetime, timedelta

import pytest
from tiny_store import RECORD, add_part, assert_same, features, make_record

from store.errors import StoreError, UnsafeNameError
from store.feature_store import FeatureStore

NO_GRACE = timedelta(0)


def stored_parts(store: FeatureStore) -> set[str]:
    return {part.path for part in store.location.part_folders()}


class VersionTests:
    clock_seconds = 0.0  # how finely the place tells the times of commits

    # Snapshots

    def test_snapshots_by_time(self, store: FeatureStore) -> None:
        before = datetime.now(UTC)
        moments = []
        for number in range(3):
            time.sleep(self.clock_seconds)
            add_part(store, RECORD, {f"s{number}": features(1)})
            moments.append(datetime.now(UTC))
        assert store.snapshot(at=before).version == 0
        assert [store.snapshot(at=moment).version for moment in moments] == [1, 2, 3]
        # without a time zone it is local time
        assert store.snapshot(at=moments[1].astimezone().replace(tzinfo=None)).version == 2

    def test_a_snapshot_has_one_name(self, store: FeatureStore) -> None:
        with pytest.raises(StoreError, match="one of them"):
            store.snapshot(0, tag="v1")

    def test_tags_name_versions(self, store: FeatureStore) -> None:
        add_part(store, RECORD, {"a": features(2, seed=1)})
        assert store.tag("paper") == 1
        add_part(store, RECORD, {"a": features(3, seed=2)})
        assert store.tag("newest") == 2
        assert_same(store.snapshot(tag="paper").feature_set("avsd", "audio")["a"], features(2, seed=1))
        assert {name: tag.version for name, tag in store.tags().items()} == {"newest": 2, "paper": 1}
        store.tag("paper", 1)  # again is harmless
        with pytest.raises(StoreError, match="names catalog version 1"):
            store.tag("paper", 2)
        with pytest.raises(StoreError, match="no catalog version 9"):
            store.tag("future", 9)
        with pytest.raises(UnsafeNameError):
            store.tag("a/b")
        store.untag("paper")
        with pytest.raises(StoreError, match="its tags are newest"):
            store.snapshot(tag="paper")
        with pytest.raises(StoreError, match="no tag 'paper'"):
            store.untag("paper")

    def test_commits_are_told_newest_first_with_their_times(self, store: FeatureStore) -> None:
        started = datetime.now(UTC) - timedelta(seconds=2)  # some places have whole seconds
        for number in range(3):
            add_part(store, RECORD, {f"s{number}": features(1)})
        commits = store.commits()
        assert list(commits) == [3, 2, 1, 0]
        assert list(store.commits(limit=2)) == [3, 2]
        assert all(started <= moment <= datetime.now(UTC) for number, moment in commits.items() if number > 0)

    # Differences

    def test_diff_of_two_versions(self, store: FeatureStore) -> None:
        add_part(store, RECORD, {"same": features(2), "changes": features(2, seed=1)})
        add_part(store, RECORD, {"changes": features(2, seed=2), "new": features(1)})
        other = make_record(channel="dense", fingerprint="f" * 16)
        add_part(store, other, {"same": features(1)})
        found = store.diff(1, 3).to_pylist()
        assert [(row["channel"], row["sample_id"], row["change"]) for row in found] == [
            ("audio", "changes", "replaced"),
            ("audio", "new", "added"),
            ("dense", "same", "added"),
        ]
        assert [row["change"] for row in store.diff(3, 1).to_pylist()] == ["replaced", "removed", "removed"]
        assert len(store.diff(2, 2)) == 0
        with pytest.raises(StoreError, match="no catalog version 4"):
            store.diff(1, 4)

    # Compaction

    def test_compact_moves_small_parts_together(self, store: FeatureStore) -> None:
        samples = {f"s{number}": features(1 + number, seed=number) for number in range(6)}
        for name, sample in samples.items():
            add_part(store, RECORD, {name: sample})
        reader = store.snapshot().feature_set("avsd", "audio")
        before = store.query("SELECT * FROM features ORDER BY sample_id").to_pylist()
        report = store.compact()
        assert (report.num_samples, report.num_parts_before, report.num_parts_after) == (6, 6, 1)
        assert report.left_alone == ()
        after = store.query("SELECT * FROM features ORDER BY sample_id").to_pylist()
        assert len({row["part"] for row in after}) == 1
        moved = {"part", "row0", "row1", "commit_seq"}
        assert [{name: value for name, value in row.items() if name not in moved} for row in after] == [
            {name: value for name, value in row.items() if name not in moved} for row in before
        ]
        for feature_set in (reader, store.snapshot().feature_set("avsd", "audio")):
            for name, sample in samples.items():
                assert_same(feature_set[name], sample)
        assert len(store.diff(6, report.version)) == 0
        assert store.verify().ok
        assert store.compact().num_samples == 0

    def test_compact_keeps_what_is_known_of_a_sample(self, store: FeatureStore) -> None:
        store.register(RECORD)
        for name, cameras in (("a", ["cam1", "cam2"]), ("b", ["cam7"])):
            with store.writer(RECORD) as writer:
                writer.write(
                    name, features(1), source_hash=f"hash of {name}", attributes={"cameras": cameras}
                )
            store.commit([writer.close()])
        assert store.compact().num_samples == 2
        rows = store.query("SELECT source_hash, attributes FROM features ORDER BY sample_id").to_pylist()
        assert [(row["source_hash"], json.loads(row["attributes"])) for row in rows] == [
            ("hash of a", {"cameras": ["cam1", "cam2"]}),
            ("hash of b", {"cameras": ["cam7"]}),
        ]

    def test_compact_leaves_big_parts_and_old_rows(self, store: FeatureStore) -> None:
        add_part(store, RECORD, {"big": features(40)})
        add_part(store, RECORD, {"old": features(2, seed=1)})
        add_part(store, RECORD, {"old": features(2, seed=2), "b": features(1)})
        add_part(store, RECORD, {"c": features(1)})
        report = store.compact(target_bytes=40 * 52)
        assert (report.num_samples, report.num_parts_before, report.num_parts_after) == (3, 2, 1)
        feature_set = store.snapshot().feature_set("avsd", "audio")
        assert_same(feature_set["old"], features(2, seed=2))
        assert_same(store.snapshot(2).feature_set("avsd", "audio")["old"], features(2, seed=1))

    # Vacuum

    def test_vacuum_needs_to_be_told_twice(self, store: FeatureStore) -> None:
        old = add_part(store, RECORD, {"a": features(2, seed=1)})
        new = add_part(store, RECORD, {"a": features(3, seed=2)})
        report = store.vacuum(NO_GRACE)
        assert (report.dry_run, report.superseded, report.orphans, report.oldest) == (True, (old,), (), 2)
        assert report.num_bytes > 2 * 52
        assert report.num_parts_kept == 1
        assert stored_parts(store) == {old, new}
        assert_same(store.snapshot(1).feature_set("avsd", "audio")["a"], features(2, seed=1))
        again = store.vacuum(NO_GRACE, dry_run=False)
        assert (again.superseded, again.num_bytes, again.dry_run) == ((old,), report.num_bytes, False)
        assert stored_parts(store) == {new}
        assert_same(store.snapshot().feature_set("avsd", "audio")["a"], features(3, seed=2))
        with pytest.raises(StoreError, match=r"version 1 .*was vacuumed; the readable ones are 2 and newer"):
            store.snapshot(1)
        with pytest.raises(StoreError, match="was vacuumed"):
            store.tag("late", 1)
        assert store.verify().ok
        assert store.vacuum(NO_GRACE, dry_run=False).superseded == ()

    def test_vacuum_keeps_what_was_new_within_the_grace_period(self, store: FeatureStore) -> None:
        for seed in range(3):
            add_part(store, RECORD, {"a": features(2, seed=seed)})
        with store.writer(RECORD) as running:
            running.write("b", features(1))
        report = store.vacuum(timedelta(hours=1), dry_run=False)
        assert (report.superseded, report.orphans, report.oldest) == ((), (), 0)
        for version in (1, 2, 3):
            sample = store.snapshot(version).feature_set("avsd", "audio")["a"]
            assert_same(sample, features(2, seed=version - 1))
        store.commit([running.close()])
        assert store.verify().ok

    def test_vacuum_removes_orphans_after_the_grace_period(self, store: FeatureStore) -> None:
        add_part(store, RECORD, {"a": features(1)})
        with store.writer(RECORD) as finished:
            finished.write("lost", features(1))
        assert store.vacuum(timedelta(hours=1)).orphans == ()
        assert store.vacuum(NO_GRACE, dry_run=False).orphans == (finished.close().part,)
        assert store.verify().orphans == ()
        with pytest.raises(StoreError, match="no part"):
            store.commit([finished.close()])

    def test_vacuum_never_breaks_a_tag(self, store: FeatureStore) -> None:
        for seed in range(5):
            add_part(store, RECORD, {"a": features(2, seed=seed)})
        store.tag("first", 1)
        store.tag("third", 3)
        assert len(store.vacuum(NO_GRACE, dry_run=False).superseded) == 2
        for tag, seed in (("first", 0), ("third", 2)):
            assert_same(store.snapshot(tag=tag).feature_set("avsd", "audio")["a"], features(2, seed=seed))
        with pytest.raises(StoreError, match=r"5 and newer, 1 \(tag first\), 3 \(tag third\)"):
            store.snapshot(2)
        assert store.verify().ok
        store.untag("first")
        assert len(store.vacuum(NO_GRACE, dry_run=False).superseded) == 1
        with pytest.raises(StoreError, match="vacuumed"):
            store.snapshot(1)
        assert_same(store.snapshot(tag="third").feature_set("avsd", "audio")["a"], features(2, seed=2))

    def test_a_reader_outlives_re_extraction_compaction_and_vacuum(self, store: FeatureStore) -> None:
        first = {f"s{number}": features(1 + number, seed=number) for number in range(4)}
        for name, sample in first.items():
            add_part(store, RECORD, {name: sample})
        store.tag("training")
        held = store.snapshot()
        opened = held.feature_set("avsd", "audio")
        assert_same(opened["s0"], first["s0"])
        second = {f"s{number}": features(2, seed=10 + number) for number in range(3)}
        for name, sample in second.items():
            add_part(store, RECORD, {name: sample})
        assert store.compact().num_samples == 4
        assert len(store.vacuum(NO_GRACE, dry_run=False).superseded) == 3  # those that only were in between
        for feature_set in (opened, held.feature_set("avsd", "audio")):
            for name, sample in first.items():
                assert_same(feature_set[name], sample)
        newest = store.snapshot().feature_set("avsd", "audio")
        for name, sample in (first | second).items():
            assert_same(newest[name], sample)
        assert store.verify().ok
        store.untag("training")
        store.vacuum(NO_GRACE, dry_run=False)
        assert len(stored_parts(store)) == 1
        assert store.verify().ok

    def test_negative_grace_is_refused(self, store: FeatureStore) -> None:
        with pytest.raises(StoreError, match="negative"):
            store.vacuum(timedelta(days=-1))
