"""Open, `missing` and query times of a catalog with many rows, each measured in a fresh process.

    python -m benchmarks.store_catalog URL ROWS     measures, and prints one JSON object

The peak memory is the kernel's VmHWM. `resource.ru_maxrss` would do, but for a started process it also counts
the memory that its parent had at that moment.
"""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from store import FeatureSetRecord, FeatureStore, TensorLayout, catalog

ROOT = Path(__file__).resolve().parents[1]
RECORD = FeatureSetRecord(
    "bench",
    "audio",
    "random",
    "1",
    "0" * 16,
    (TensorLayout("values", 1, 1024, "bfloat16"),),
    None,
    "none",
    {},
)
QUERY = "SELECT sample_id, steps, nbytes FROM features WHERE channel = 'audio' AND duration > 9.9"
_SAMPLES_PER_PART = 200
_COMMITS = 100


def build_catalog(folder: Path, num_rows: int) -> None:
    """A store whose catalog has `num_rows` rows in 100 commits, in random order; it has no parts."""
    store = FeatureStore.open(folder)
    store.register(RECORD)
    rng = np.random.default_rng(0)
    for commit, numbers in enumerate(np.array_split(rng.permutation(num_rows), _COMMITS)):
        size = len(numbers)
        row0 = np.arange(size) % _SAMPLES_PER_PART * 100
        parts = [
            f"parts/{RECORD.name}/{commit:08d}-{number // _SAMPLES_PER_PART:04d}-7000-8000-000000000000"
            for number in range(size)
        ]
        columns = {
            "dataset": [RECORD.dataset] * size,
            "channel": [RECORD.channel] * size,
            "fingerprint": [RECORD.fingerprint] * size,
            "sample_id": [_sample_id(number) for number in numbers.tolist()],
            "part": parts,
            "row0": row0,
            "row1": row0 + 100,
            "nbytes": np.full(size, 100 * 2048),
            "crc32c": rng.integers(2**32, size=size),
            "op": ["put"] * size,
            "duration": rng.random(size) * 10,
            "fps": np.full(size, 25.0),
            "n_frames": np.full(size, 250),
            "source_hash": [f"{number:016x}" for number in rng.integers(2**62, size=size).tolist()],
            "attributes": pa.nulls(size, pa.string()),
        }
        catalog.append(store.location, "catalog", pa.table(columns))


def measure_catalog(folder: Path, num_rows: int, repeats: int) -> dict[str, float]:
    """Medians over `repeats` fresh processes: `open_s`, `missing_s`, `open_missing_s`, `query_s`, `rss_mib`."""
    command = [sys.executable, "-m", "benchmarks.store_catalog", str(folder), str(num_rows)]
    found = [
        json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)
        for _ in range(repeats)
    ]
    return {name: statistics.median(one[name] for one in found) for name in found[0]}


def _sample_id(number: int) -> str:
    return f"clips/{number:07d}.mp4"


def _measure_here(url: str, num_rows: int) -> dict[str, float]:
    """In this process: a manifest that has every sample, and one in a thousand besides, that is missing."""
    wanted = [_sample_id(number) for number in range(num_rows + num_rows // 1000)]
    store = FeatureStore.open(url, create=False)
    start = time.perf_counter()
    features = store.snapshot().feature_set("bench", "audio")
    opened = time.perf_counter()
    missing = features.missing(wanted)
    answered = time.perf_counter()
    assert missing == wanted[num_rows:]
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        rows = store.query(QUERY)
        seconds.append(time.perf_counter() - begin)
        assert 0 < len(rows) < num_rows / 50
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
    return {
        "open_s": opened - start,
        "missing_s": answered - opened,
        "open_missing_s": answered - start,
        "query_s": statistics.median(seconds),
        "rss_mib": int(peak.split()[1]) / 1024,
    }


if __name__ == "__main__":
    print(json.dumps(_measure_here(sys.argv[1], int(sys.argv[2]))))
