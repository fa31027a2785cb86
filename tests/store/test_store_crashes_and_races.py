"""Writers and committers killed at any instant, and several committers at once.

The features of a sample follow from its id, so that whatever is read can be checked.
"""

import random
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier as ProcessBarrier
from pathlib import Path
from threading import Barrier

import pytest
from deltalake import DeltaTable
from fork_server import child, fork_server, kill, receive, rest_of
from tiny_store import RECORD, add_part, assert_same, features

from store.catalog import SCHEMAS
from store.feature_set import FeatureSet
from store.feature_store import FeatureStore
from store.features import Features
from store.records import PartRecord

VERIFY_EVERY = 10
few_and_many = pytest.mark.parametrize("num_kills", [16, pytest.param(50, marks=pytest.mark.slow)])


def features_of(sample_id: str) -> Features:
    """The features that belong to the id: 1 to 40 time steps."""
    seed = zlib.crc32(sample_id.encode())
    return features(1 + seed % 40, seed=seed)


def write_part(store: FeatureStore, sample_ids: list[str]) -> PartRecord:
    with store.writer(RECORD) as writer:
        for sample_id in sample_ids:
            writer.write(sample_id, features_of(sample_id))
    return writer.close()


def sample_ids_of(parts: list[PartRecord]) -> list[str]:
    return [row.sample_id for part in parts for row in part.rows]


def newest(store: FeatureStore) -> FeatureSet:
    return store.snapshot().feature_set("avsd", "audio", RECORD.fingerprint)


def assert_whole(feature_set: FeatureSet, sample_ids: list[str]) -> None:
    for sample_id in sample_ids:
        assert_same(feature_set[sample_id], features_of(sample_id))


def spread(count: int, seconds: float, seed: int) -> list[float]:
    """Random instants between 0 and `seconds`, one in each of `count` equal spans, in random order."""
    rng = random.Random(seed)
    instants = [(span + rng.random()) * seconds / count for span in range(count)]
    rng.shuffle(instants)
    return instants


# What the killed processes do


def write_for_ever(root: Path, name: str, sender: Connection) -> None:
    """Writes part after part of three samples and commits none; sends the record of each finished part."""
    sender.send("started")
    store = FeatureStore.open(root, create=False)
    for number in count():
        part = write_part(store, [f"{name}/{number}/{index}" for index in range(3)])
        sender.send(part.to_json())


def commit_for_ever(root: Path, name: str, sender: Connection) -> None:
    """Commits two parts at a time; sends their samples before each commit, and the version after it."""
    store = FeatureStore.open(root, create=False)
    for number in count():
        parts = [write_part(store, [f"{name}/{number}/{part}-{i}" for i in range(2)]) for part in "ab"]
        sender.send(sample_ids_of(parts))
        sender.send(store.commit(parts))


def write_and_wait(root: Path, stage: str, sender: Connection) -> None:
    """Commits one part, gets another to `stage`, says so and goes on for ever."""
    store = FeatureStore.open(root)
    add_part(store, RECORD, {"committed": features(3, seed=3)})
    writer = store.writer(RECORD)
    writer.write("lost", features(5, seed=5))
    if stage == "finished part":
        writer.close()
    sender.send("now")
    time.sleep(600)


# Kills


@pytest.mark.parametrize(
    ("stage", "orphan"), [("open part", "/.tmp-"), ("finished part", "0123456789abcdef/0")]
)
def test_killed_writer_leaves_one_orphan(tmp_path: Path, stage: str, orphan: str) -> None:
    with child(write_and_wait, tmp_path / "store", stage) as (process, receiver):
        assert receive(receiver) == "now"
        kill(process)
    store = FeatureStore.open(tmp_path / "store", create=False)
    report = store.verify()
    assert report.ok
    assert report.num_rows == 1
    assert len(report.orphans) == 1
    assert orphan in report.orphans[0]
    feature_set = store.snapshot().feature_set("avsd", "audio")
    assert feature_set.missing(["committed", "lost"]) == ["lost"]
    add_part(store, RECORD, {"lost": features(5, seed=5)})
    assert store.snapshot().feature_set("avsd", "audio").missing(["committed", "lost"]) == []


@few_and_many
def test_writer_killed_at_random_instants(tmp_path: Path, num_kills: int) -> None:
    """No part that was reported as finished is lost or changed, and nothing else is ever seen."""
    root = tmp_path / "store"
    store = FeatureStore.open(root)
    store.register(RECORD)
    with child(write_for_ever, root, "measured") as (_, receiver):
        receive(receiver)
        begin = time.monotonic()
        for _ in range(3):
            receive(receiver)
        three_parts = time.monotonic() - begin

    instants = spread(num_kills, three_parts, seed=0)
    acknowledged: set[str] = set()
    for number, instant in enumerate(instants):
        with child(write_for_ever, root, f"kill-{number}") as (process, receiver):
            receive(receiver)
            time.sleep(instant)
            kill(process)
            parts = [PartRecord.from_json(text) for text in rest_of(receiver)]
        store.commit(parts)
        acknowledged.update(sample_ids_of(parts))
        feature_set = newest(store)
        assert set(feature_set) == acknowledged
        assert_whole(feature_set, sample_ids_of(parts))
        if number % VERIFY_EVERY == 0:
            assert store.verify().problems == ()

    report = store.verify()
    assert report.problems == ()
    assert report.num_rows == len(acknowledged) > 0
    assert_whole(newest(store), sorted(acknowledged))
    # kills fell into parts that were being written; a part that nobody heard of is the other orphan
    assert any("/.tmp-" in orphan for orphan in report.orphans)


@few_and_many
def test_committer_killed_at_random_instants(tmp_path: Path, num_kills: int) -> None:
    """Acknowledged commits stay, a commit of two parts is there or not, and samples are whole or absent."""
    root = tmp_path / "store"
    store = FeatureStore.open(root)
    store.register(RECORD)
    # so that kills fall into checkpoints of the table's log too
    DeltaTable(root / "catalog").alter.set_table_properties({"delta.checkpointInterval": "5"})
    one_commit = 0.0
    for number in range(3):
        with child(commit_for_ever, root, f"measured-{number}") as (process, receiver):
            receive(receiver)
            begin = time.monotonic()
            receive(receiver)
            one_commit = max(one_commit, time.monotonic() - begin)
            kill(process)
    seen = set(newest(store))

    instants = spread(num_kills, 1.2 * one_commit, seed=1)
    num_absent = num_unacknowledged = 0
    for number, instant in enumerate(instants):
        version = store.snapshot().version
        with child(commit_for_ever, root, f"kill-{number}") as (process, receiver):
            attempted = [receive(receiver)]
            time.sleep(instant)
            kill(process)
            messages = rest_of(receiver)
        versions = messages[::2]
        attempted += messages[1::2]
        feature_set = newest(store)
        assert versions == list(range(version + 1, version + 1 + len(versions)))
        # at most the last commit may have landed without word of it
        num_landed = feature_set.version - version
        assert num_landed - len(versions) in (0, len(attempted) - len(versions))
        landed = [sample_id for ids in attempted[:num_landed] for sample_id in ids]
        assert set(feature_set) - seen == set(landed)
        assert seen <= set(feature_set)
        assert_whole(feature_set, landed)
        seen.update(landed)
        num_absent += num_landed < len(attempted)
        num_unacknowledged += num_landed > len(versions)
        if number % VERIFY_EVERY == 0:
            assert store.verify().problems == ()

    report = store.verify()
    assert report.problems == ()
    assert report.num_rows == len(seen)
    assert_whole(newest(store), sorted(seen))
    print(f"{num_absent} kills before the commit landed, {num_unacknowledged} between that and its word")
    # kills fell on both sides of the instant at which a commit lands
    assert 0 < num_absent < num_kills


# Races


def commit_many(root: Path, name: str, num_commits: int, start: ProcessBarrier, sender: Connection) -> None:
    """Commits of one part each: a sample of its own and one that every process writes."""
    store = FeatureStore.open(root)
    store.register(RECORD)
    parts = []
    for number in range(num_commits):
        with store.writer(RECORD) as writer:
            writer.write(f"{name}-{number}", features_of(f"{name}-{number}"))
            writer.write("shared", features_of(f"shared {name}-{number}"))
        parts.append(writer.close())
    start.wait(60)
    for part in parts:
        sender.send(store.commit([part]))


@pytest.mark.parametrize("num_commits", [30, pytest.param(100, marks=pytest.mark.slow)])
def test_two_processes_race_to_commit(tmp_path: Path, num_commits: int) -> None:
    """No commit is lost, and the newest value of the sample that both write is the one committed last."""
    root = tmp_path / "store"
    start = fork_server.Barrier(2)
    # both also race to create the store and to register the feature set
    with (
        child(commit_many, root, "left", num_commits, start) as (_, left),
        child(commit_many, root, "right", num_commits, start) as (_, right),
    ):
        versions = {
            f"{name}-{number}": receive(receiver)
            for number in range(num_commits)
            for name, receiver in (("left", left), ("right", right))
        }
    last = 2 * num_commits
    assert sorted(versions.values()) == list(range(1, last + 1))
    store = FeatureStore.open(root, create=False)
    report = store.verify()
    assert report.problems == ()
    assert (report.version, report.num_rows, report.orphans) == (last, 2 * last, ())
    rows = store.query("SELECT count(*) AS n FROM feature_sets").to_pylist()
    assert rows == [{"n": 1}]

    feature_set = store.snapshot().feature_set("avsd", "audio")
    assert set(feature_set) == {"shared", *versions}
    assert_whole(feature_set, list(versions))
    name_at = {version: name for name, version in versions.items()}
    for version in [last, *random.Random(2).sample(range(1, last), 6)]:
        snapshot = store.snapshot(version).feature_set("avsd", "audio")
        assert len(snapshot) == version + 1
        assert_same(snapshot["shared"], features_of(f"shared {name_at[version]}"))

    rows = store.query("SELECT sample_id, commit_seq FROM features WHERE sample_id <> 'shared'").to_pylist()
    assert {row["sample_id"]: row["commit_seq"] for row in rows} == versions


def test_racing_creators_make_each_table_once(tmp_path: Path) -> None:
    for attempt in range(5):
        start_line = Barrier(6)

        def create(root: Path, start_line: Barrier = start_line) -> int:
            start_line.wait()
            return FeatureStore.open(root).snapshot().version

        root = tmp_path / f"store-{attempt}"
        with ThreadPoolExecutor(6) as threads:
            assert list(threads.map(create, [root] * 6)) == [0] * 6
        assert len(list(root.glob("*/_delta_log/*.json"))) == len(SCHEMAS)
        assert sorted(path.name for path in root.iterdir()) == sorted([*SCHEMAS, "parts", "store.json"])


def test_racing_threads_lose_nothing(tmp_path: Path) -> None:
    def commit_five(name: str) -> None:
        store = FeatureStore.open(tmp_path / "store")
        for number in range(5):
            add_part(store, RECORD, {f"{name}-{number}": features(1, seed=number)})

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(commit_five, "abcd"))
    store = FeatureStore.open(tmp_path / "store", create=False)
    assert len(store.snapshot().feature_set("avsd", "audio")) == store.snapshot().version == 20
    assert store.verify().ok


def test_compaction_hides_no_newer_commit(tmp_path: Path) -> None:
    store = FeatureStore.open(tmp_path / "store")
    last = {f"quiet{seed}": seed for seed in range(5)}  # these are written once, and can be moved
    for sample_id, seed in last.items():
        add_part(store, RECORD, {sample_id: features(2, seed=seed)})

    def extract_again() -> None:
        for number in range(25):
            sample_id = f"s{number % 5}"
            add_part(FeatureStore.open(tmp_path / "store"), RECORD, {sample_id: features(2, seed=number)})
            last[sample_id] = number

    reader_saw_all = True
    with ThreadPoolExecutor(1) as thread:
        writing = thread.submit(extract_again)
        moved = 0
        while not writing.done() or not moved:
            known = sorted(last)
            moved += store.compact().num_samples
            reader_saw_all &= not store.snapshot().feature_set("avsd", "audio").missing(known)
        writing.result()
    assert moved >= 5
    assert reader_saw_all
    feature_set = store.snapshot().feature_set("avsd", "audio")
    assert {*feature_set.sample_ids} == {*last}
    for sample_id, seed in last.items():
        assert_same(feature_set[sample_id], features(2, seed=seed))
    assert store.verify().ok
