"""Extraction on a Ray cluster of two nodes, and with little memory for what waits between the stages."""

import json
import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import pytest
from flaky_extractor import TINY
from pave_process import NOT_NICE, ROOT, start_pave
from test_ray_extract import job_of
from traced_extractor import PADDING, Call, TracedExtractor

from pipelines.config import ExecutionConfig, PrepareConfig
from pipelines.extract_rows import WorkItem
from pipelines.manifest import prepare
from pipelines.ray_extract import run
from store import FeatureStore

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
OBJECT_STORE = 80 * 2**20  # bytes, the least that Ray takes


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of two nodes, each with two CPUs and a small object store."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{HERE}:{ROOT}")
        patch.setenv(*NOT_NICE)
        node = {"num_cpus": 2, "object_store_memory": OBJECT_STORE}
        nodes = Cluster(initialize_head=True, head_node_args=node)
        nodes.add_node(**node)
        nodes.wait_for_nodes()
        try:
            yield nodes.address
        finally:
            nodes.shutdown()


def test_two_nodes_share_an_extraction(world: Path, tmp_path: Path, cluster: str) -> None:
    prepare(PrepareConfig(task="sidecue", root=world, out=tmp_path))
    recipe = tmp_path / "audio.yaml"
    recipe.write_text(json.dumps({"execution": {"encoders": 2}, "encoder": TINY.model_dump()}))
    command = ("extract", "audio", "--manifest", tmp_path / "manifest.parquet", "--config", recipe)
    on_cluster = start_pave(tmp_path, *command, "--store", "cluster", RAY_ADDRESS=cluster)
    output, errors = on_cluster.communicate(timeout=180)
    assert on_cluster.returncode == 0, errors
    assert "32 samples, 0 were done, 32 done now" in output
    alone = start_pave(tmp_path, *command, "--store", "alone")
    alone.communicate(timeout=180)
    assert alone.returncode == 0

    stores = [FeatureStore.open(tmp_path / name, create=False) for name in ("cluster", "alone")]
    ours, theirs = (store.snapshot().feature_set("sidecue", "audio") for store in stores)
    assert ours.sample_ids == theirs.sample_ids
    for sample_id in theirs.sample_ids:
        assert ours[sample_id].values.tobytes() == theirs[sample_id].values.tobytes()
    assert stores[0].verify().ok


def extract_traced(folder: Path, count: int, execution: ExecutionConfig) -> list[Call]:
    """The calls of an extraction of `count` samples, on the cluster of RAY_ADDRESS, by a driver of its own."""
    driver = multiprocessing.get_context("spawn").Process(target=_drive, args=(folder, count, execution))
    driver.start()
    driver.join(180)
    assert driver.exitcode == 0
    assert len(FeatureStore.open(folder / "store").snapshot().feature_set("flaky", "audio")) == count
    return TracedExtractor(folder / "trace").calls()


def _drive(folder: Path, count: int, execution: ExecutionConfig) -> None:
    extractor, store = TracedExtractor(folder / "trace"), FeatureStore.open(folder / "store")
    items = [WorkItem(f"sample-{number}", {}, None, 4.0, ("audio",)) for number in range(count)]
    finished = run(job_of(extractor, store), items, execution)
    store.commit([part for news in finished for part in news.parts])


def test_both_nodes_decode_and_encode(tmp_path: Path, cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    calls = extract_traced(tmp_path, 64, ExecutionConfig(encoders=2, batch_bytes=8 * 2**20))
    for stage in ("decode", "encode"):
        assert len({call.node for call in calls if call.stage == stage}) == 2, stage


def test_decoding_waits_for_a_slow_encoder(
    tmp_path: Path, cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    calls = extract_traced(tmp_path, 120, ExecutionConfig(batch_bytes=8 * 2**20))
    waiting, most = 0, 0
    for call in calls:
        waiting += 1 if call.stage == "decode" else -1
        most = max(most, waiting)
    assert most * PADDING < 2 * OBJECT_STORE  # both nodes'; all of them would be three times that
