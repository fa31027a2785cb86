"""A store in an object store, against a real S3 API on 127.0.0.1."""

import multiprocessing
import os
from collections.abc import Iterator
from itertools import count

import fork_server  # noqa: F401  sets what the fork server imports before anything starts it
import numpy as np
import pytest
from contract_of_bad_input import BadInputTests
from s3_server import BUCKET, s3_server
from store_contract import PlaceTests
from tiny_store import RECORD, add_part, assert_same, features, same_bits

from store.errors import DamagedPartError, StoreError
from store.feature_set import FeatureSet
from store.feature_store import FeatureStore

_numbers = count()
forkserver = multiprocessing.get_context("forkserver")


@pytest.fixture(scope="module")
def s3_environment() -> Iterator[dict[str, str]]:
    """The server, and the environment in which clients find it."""
    with s3_server() as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield environment


@pytest.fixture
def s3_url(s3_environment: dict[str, str]) -> str:
    return f"s3://{BUCKET}/stores/{next(_numbers)}"


class TestS3FeatureStore(PlaceTests):
    clock_seconds = 1.0

    @pytest.fixture
    def url(self, s3_url: str) -> str:
        return s3_url


@pytest.mark.slow
class TestS3FeatureStoreWithBadInput(BadInputTests):
    """The rest of the contract: what is checked before a byte goes anywhere, and bits in any file."""

    @pytest.fixture
    def url(self, s3_url: str) -> str:
        return s3_url

    @pytest.fixture
    def store(self, url: str) -> FeatureStore:
        return FeatureStore.open(url)


def commit_six(url: str, name: str, environment: dict[str, str]) -> list[int]:
    """Six commits of one part each: a sample of its own, and one that every process writes."""
    os.environ.update(environment)  # the fork server may be older than the S3 server
    store = FeatureStore.open(url)
    store.register(RECORD)
    versions = []
    for number in range(6):
        with store.writer(RECORD) as writer:
            writer.write(f"{name}-{number}", features(1, seed=number))
            writer.write("shared", features(2, seed=number))
        versions.append(store.commit([writer.close()]))
    return versions


def test_racing_processes_lose_nothing(s3_environment: dict[str, str], s3_url: str) -> None:
    # both also race to create the store and to register the feature set
    with forkserver.Pool(2) as pool:
        jobs = [pool.apply_async(commit_six, (s3_url, name, s3_environment)) for name in ("left", "right")]
        versions = [version for job in jobs for version in job.get(timeout=200)]
    assert sorted(versions) == list(range(1, 13))
    store = FeatureStore.open(s3_url, create=False)
    rows = store.query("SELECT * FROM features").to_pylist()
    assert {row["sample_id"] for row in rows} == {
        f"{name}-{n}" for name in ("left", "right") for n in range(6)
    } | {"shared"}
    assert store.query("SELECT count(*) AS n FROM feature_sets").to_pylist() == [{"n": 1}]
    report = store.verify()
    assert (report.ok, report.num_rows, report.orphans) == (True, 24, ())


def read_batch(
    feature_set: FeatureSet,
    ids: list[str],
    environment: dict[str, str],
    results: "multiprocessing.Queue[np.ndarray]",
) -> None:
    os.environ.update(environment)  # the fork server may be older than the S3 server
    batch = np.empty((len(ids), 6, 2, 3), np.uint16)
    feature_set.read_into(ids, batch)
    results.put(batch)


# Python 3.12 warns of any fork beside threads; the rule under test is that the child uses none of them.
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_workers_read_after_the_parent_did(s3_environment: dict[str, str], s3_url: str, method: str) -> None:
    store = FeatureStore.open(s3_url)
    samples = {f"s{number}": features(1 + number, seed=number) for number in range(6)}
    add_part(store, RECORD, samples)
    feature_set = store.snapshot().feature_set("avsd", "audio")
    assert_same(feature_set["s3"], samples["s3"])  # opens the connection that a forked worker inherits
    context = multiprocessing.get_context(method)
    results = context.Queue()
    ids = ["s5", "s0", "s5", "s2"]  # neighbours, twice the same, in no order
    worker = context.Process(target=read_batch, args=(feature_set, ids, s3_environment, results))
    worker.start()
    batch = results.get(timeout=60)
    worker.join(60)
    for row, sample_id in zip(batch, ids, strict=True):
        values = samples[sample_id].values.view(np.uint16)
        assert same_bits(row[: len(values)], values)
        assert not row[len(values) :].any()


def test_objects_are_not_mapped(s3_url: str) -> None:
    store = FeatureStore.open(s3_url)
    add_part(store, RECORD, {"a": features(2)})
    with pytest.raises(StoreError, match="not in files of this machine; read with"):
        store.snapshot().feature_set("avsd", "audio").view("a")


def test_damaged_objects_are_named(s3_url: str) -> None:
    store = FeatureStore.open(s3_url)
    part = add_part(store, RECORD, {"a": features(2), "b": features(2)})
    path = f"{part}/values/c/0/0/0"
    content = store.location.read_bytes(path)
    store.location.write_bytes(path, content[:13])
    feature_set = store.snapshot().feature_set("avsd", "audio")
    with pytest.raises(DamagedPartError, match="ends 11 bytes too early"):
        feature_set["a"]
    (problem,) = store.verify().problems
    assert (problem.part, "bytes instead of" in problem.reason) == (part, True)
    store.location.remove_part(part)
    with pytest.raises(DamagedPartError, match="cannot read"):
        store.snapshot().feature_set("avsd", "audio")["b"]
    (problem,) = store.verify().problems
    assert "2 samples are concerned" in problem.reason


def test_missing_bucket_and_foreign_objects_are_named(s3_environment: dict[str, str], s3_url: str) -> None:
    with pytest.raises(StoreError, match="there is no bucket 'elsewhere'") as caught:
        FeatureStore.open("s3://elsewhere/store")
    assert "\n" not in str(caught.value)
    FeatureStore.open(s3_url).location.write_bytes("notes/mine.txt", b"mine")
    with pytest.raises(StoreError, match=r"other files in it, such as 'mine\.txt'"):
        FeatureStore.open(f"{s3_url}/notes")


def test_server_that_does_not_answer_is_one_line(
    s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreError, match="cannot open a store at s3://features/x") as caught:
        FeatureStore.open("s3://features/x")
    assert "\n" not in str(caught.value)
