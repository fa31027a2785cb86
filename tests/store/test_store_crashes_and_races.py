"""Writers killed at any instant, and several committers at once."""

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Barrier

import pytest
from tiny_store import RECORD, add_part, features

from store.catalog import SCHEMAS
from store.feature_store import FeatureStore

spawn = multiprocessing.get_context("spawn")


def write_and_wait(root: Path, stage: str, signal: Connection) -> None:
    """Commits one part, gets another to `stage`, says so and goes on for ever."""
    store = FeatureStore.open(root)
    add_part(store, RECORD, {"committed": features(3, seed=3)})
    writer = store.writer(RECORD)
    writer.write("lost", features(5, seed=5))
    if stage == "finished part":
        writer.close()
    signal.send("now")
    time.sleep(600)


def commit_for_ever(root: Path, signal: Connection) -> None:
    """Commits part after part, sending the sample id after each commit has returned."""
    store = FeatureStore.open(root)
    for number in count():
        sample_id = f"{time.time_ns()}-{number}"
        add_part(store, RECORD, {sample_id: features(1 + number % 4, seed=number)})
        signal.send(sample_id)


def start(
    target: Callable[..., None], *arguments: object
) -> tuple[multiprocessing.process.BaseProcess, Connection]:
    receiver, sender = spawn.Pipe(duplex=False)
    process = spawn.Process(target=target, args=(*arguments, sender))
    process.start()
    sender.close()
    return process, receiver


def kill(process: multiprocessing.process.BaseProcess) -> None:
    process.kill()  # SIGKILL
    process.join()


@pytest.mark.parametrize(
    ("stage", "orphan"), [("open part", "/.tmp-"), ("finished part", "0123456789abcdef/0")]
)
def test_killed_writer_leaves_one_orphan(tmp_path: Path, stage: str, orphan: str) -> None:
    process, signal = start(write_and_wait, tmp_path / "store", stage)
    with signal:
        assert signal.poll(60)
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


def test_kills_at_random_instants_lose_no_acknowledged_commit(tmp_path: Path) -> None:
    acknowledged = []
    for delay in (0.0, 0.013, 0.037):
        process, signal = start(commit_for_ever, tmp_path / "store")
        with signal:
            acknowledged.append(signal.recv())
            time.sleep(delay)
            kill(process)
            try:
                while True:
                    acknowledged.append(signal.recv())
            except EOFError:
                pass
    store = FeatureStore.open(tmp_path / "store", create=False)
    assert store.verify().ok
    feature_set = store.snapshot().feature_set("avsd", "audio")
    assert feature_set.missing(acknowledged) == []
    # at most the one that was committed but not yet acknowledged, per kill
    assert len(acknowledged) <= len(feature_set) <= len(acknowledged) + 3


def commit_twenty(root: Path, name: str) -> list[int]:
    """Twenty commits of one part each: a sample of its own and one that every process writes."""
    store = FeatureStore.open(root)
    store.register(RECORD)
    versions = []
    for number in range(20):
        with store.writer(RECORD) as writer:
            writer.write(f"{name}-{number}", features(1, seed=number))
            writer.write("shared", features(2, seed=number))
        versions.append(store.commit([writer.close()]))
    return versions


def test_racing_processes_lose_nothing(tmp_path: Path) -> None:
    # both also race to create the store and to register the feature set
    with spawn.Pool(2) as pool:
        jobs = [pool.apply_async(commit_twenty, (tmp_path / "store", name)) for name in ("left", "right")]
        versions = [version for job in jobs for version in job.get(timeout=120)]
    store = FeatureStore.open(tmp_path / "store", create=False)
    assert sorted(versions) == list(range(1, 41))
    feature_set = store.snapshot().feature_set("avsd", "audio")
    assert set(feature_set.sample_ids) == {f"{name}-{n}" for name in ("left", "right") for n in range(20)} | {
        "shared"
    }
    report = store.verify()
    assert report.ok
    assert (report.num_rows, report.orphans) == (80, ())
    assert store.query("SELECT count(*) AS n FROM feature_sets").to_pylist() == [{"n": 1}]
    # one half-way snapshot sees exactly the first commits
    assert store.query("SELECT * FROM features", version=7).num_rows == 7 + 1


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
