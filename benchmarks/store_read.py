"""Random reads of single samples: the store against one `.pt` file per sample, the original release's way.

Both hold the same bfloat16 values, both are read in the same random order, interleaved, with a warm page cache.
Prints one JSON object; a ratio above 1 means that the store is faster.

    python benchmarks/store_read.py [--samples 64] [--reads 400]
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import ml_dtypes
import numpy as np
import torch

from store import Features, FeatureSetRecord, FeatureStore, TensorLayout

SHAPES = {"audio": (60, 1, 1024), "dense": (120, 5, 1024), "frames": (32, 196, 1152)}  # (T, S, D)


def measure(
    name: str, shape: tuple[int, int, int], num_samples: int, num_reads: int, root: Path
) -> dict[str, float]:
    """Samples a second of both ways, and their ratio."""
    rng = np.random.default_rng(0)
    layout = TensorLayout("values", shape[1], shape[2], "bfloat16")
    record = FeatureSetRecord("bench", name, "random", "1", "0" * 16, (layout,), None, "none", {})
    store = FeatureStore.open(root / "store")
    store.register(record)
    with store.writer(record) as part:
        for number in range(num_samples):
            values = rng.standard_normal(shape, dtype=np.float32).astype(ml_dtypes.bfloat16)
            part.write(str(number), Features(values, np.arange(shape[0], dtype=np.float64)))
            bits = torch.from_numpy(values.view(np.uint16)).view(torch.bfloat16)
            torch.save(bits, root / f"{name}-{number}.pt")
    store.commit([part.close()])
    features = store.snapshot().feature_set("bench", name)
    seconds = {"store": 0.0, "pt": 0.0}
    for number in rng.integers(num_samples, size=num_reads).tolist():
        start = time.perf_counter()
        features[str(number)]
        middle = time.perf_counter()
        torch.load(root / f"{name}-{number}.pt", weights_only=True)
        seconds["store"] += middle - start
        seconds["pt"] += time.perf_counter() - middle
    return {
        f"random_read/{name}/vs_pt": seconds["pt"] / seconds["store"],
        f"random_read/{name}/samples_per_s": num_reads / seconds["store"],
    }


def main() -> None:
    """Measure all shapes and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--reads", type=int, default=400)
    arguments = parser.parse_args()
    result: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, shape in SHAPES.items():
            result |= measure(name, shape, arguments.samples, arguments.reads, Path(folder))
    print(json.dumps({key: round(value, 2) for key, value in result.items()}))


if __name__ == "__main__":
    main()
