"""The feature store against one `.pt` per sample (the original release's way), one safetensors file per sample,
one HDF5 file and a raw `numpy.memmap`: the same bfloat16 values (T, S, D), the same random order, interleaved
in one loop, files synced and the page cache warm. A ratio above 1 means that the store is faster; times are
medians unless said otherwise.

Every read ends in a bfloat16 torch tensor:

    random_read, scan   memory of its own, freshly allocated: `fs[id]` (which also reads the timestamps),
                        `torch.load(weights_only=True)`, a slice of an h5py dataset, `numpy.array` of a slice
                        of the memmap; but `safetensors.torch.load_file` maps its file and copies nothing,
                        so compare it with `view`. A scan reads every sample in order.
    view                `fs.view(id)`: read-only over the mapped part; no byte is touched until it is used
    read_into           `fs.read_into([id], out)` into one buffer that is used again and again; what malloc
                        gives to the others is often warmer in the processor's cache than that
    loader              a DataLoader with 2 workers: zero-padded batches of 8 samples of different lengths, by
                        `SharedBatches`, or `torch.load` and `pad_sequence`; whole epochs, summed
    write               one writer from open to close, with the check for NaN, crc32c and metadata, without a
                        commit; `write` is not synced, `write_durable` is; against `torch.save` per sample,
                        which neither checks nor syncs; sums over rounds of about 100 MB
    open_missing_s, query_s, reader_rss_mib     see `benchmarks/store_catalog.py`

Prints one JSON object as its last line and writes one PNG.

    python benchmarks/store.py [--quick] [--png benchmarks/store.png]
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

# Run as a script, this file would be found in place of the package `store`.
sys.path[0] = str(Path(__file__).resolve().parents[1])

import h5py  # noqa: E402
import ml_dtypes  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from benchmarks.store_catalog import build_catalog, measure_catalog  # noqa: E402
from benchmarks.store_figure import draw  # noqa: E402
from store import Features, FeatureSetRecord, FeatureStore, SharedBatches, TensorLayout  # noqa: E402

Way = Callable[[int], torch.Tensor]
SHAPES = {"audio": (100, 1, 1024), "dense": (128, 5, 1024), "frames": (32, 196, 1152)}  # T at most, S, D
NUM_SAMPLES = {"audio": 256, "dense": 64, "frames": 16}
NUM_READS = {"audio": 2000, "dense": 800, "frames": 250}
READS_A_TURN = 16
ROWS = {"1e4": 10_000, "1e6": 1_000_000}


class Corpus:
    """The same samples stored in every way, all synced and read once.

    Args:
        name: of the size. folder: to write to.
        samples: bfloat16 bits, each (T, S, D) uint16; T differs where `ragged`.
    """

    def __init__(self, name: str, samples: Sequence[np.ndarray], folder: Path) -> None:
        self.name, self.samples, self.folder = name, samples, folder
        _, tokens, dim = samples[0].shape
        self.record = FeatureSetRecord(
            "bench", name, "random", "1", "0" * 16, (TensorLayout("values", tokens, dim, "bfloat16"),),
            None, "none", {},
        )  # fmt: skip
        self.store = FeatureStore.open(folder / "store")
        self.store.register(self.record)
        self.store.commit([self.write_store(durable=True)])
        self.features = self.store.snapshot().feature_set("bench", name)
        self.write_pt(folder)
        self.offsets = np.cumsum([0, *(len(sample) for sample in samples)]).tolist()
        rows = np.concatenate(samples)
        rows.tofile(folder / "raw")
        with h5py.File(folder / "values.h5", "w") as file:
            file["values"] = rows
        for number, sample in enumerate(samples):
            save_file({"values": as_tensor(sample)}, folder / f"{number}.safetensors")
        os.sync()
        self.memmap = np.memmap(folder / "raw", np.uint16, "r", shape=rows.shape)
        self.hdf5 = h5py.File(folder / "values.h5")["values"]

    def write_store(self, durable: bool) -> Any:
        with self.store.writer(self.record, durable=durable) as writer:
            for number, sample in enumerate(self.samples):
                values = sample.view(ml_dtypes.bfloat16)
                writer.write(str(number), Features(values, np.arange(len(sample), dtype=np.float64)))
        return writer.close()

    def write_pt(self, folder: Path) -> None:
        for number, sample in enumerate(self.samples):
            torch.save(as_tensor(sample), folder / f"{number}.pt")

    def ways(self) -> dict[str, Way]:
        """Each way to read one sample into memory of its own."""
        names = [str(number) for number in range(len(self.samples))]
        pt = [str(self.folder / f"{name}.pt") for name in names]
        safetensors = [str(self.folder / f"{name}.safetensors") for name in names]
        bounds = [slice(*pair) for pair in zip(self.offsets, self.offsets[1:], strict=False)]
        return {
            "store": lambda number: as_tensor(self.features[names[number]].values),
            "pt": lambda number: torch.load(pt[number], weights_only=True),
            "safetensors": lambda number: load_file(safetensors[number])["values"],
            "hdf5": lambda number: as_tensor(self.hdf5[bounds[number]]),
            "memmap": lambda number: as_tensor(np.array(self.memmap[bounds[number]])),
        }

    def other_ways(self) -> dict[str, Way]:
        """The store's ways that allocate nothing."""
        names = [str(number) for number in range(len(self.samples))]
        buffer = torch.empty(1, *max(sample.shape for sample in self.samples), dtype=torch.bfloat16)
        out = buffer.view(torch.uint16).numpy()

        def read_into(number: int) -> torch.Tensor:
            steps = self.features.read_into([names[number]], out)
            return buffer[0, : steps[0]]

        return {
            "view": lambda number: as_tensor(self.features.view(names[number]).values),
            "read_into": read_into,
        }


def as_tensor(values: np.ndarray) -> torch.Tensor:
    """A bfloat16 tensor over the memory of bfloat16 values or their bits."""
    return torch.from_numpy(values.view(np.uint16)).view(torch.bfloat16)


def make_samples(shape: tuple[int, ...], count: int, ragged: bool = False) -> list[np.ndarray]:
    """Random normal values as bits; with `ragged`, T is between half of the given and all of it."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(shape[0] // 2, shape[0] + 1, size=count) if ragged else [shape[0]] * count
    return [
        rng.standard_normal((steps, *shape[1:]), dtype=np.float32).astype(ml_dtypes.bfloat16).view(np.uint16)
        for steps in lengths
    ]


def time_reads(corpus: Corpus, num_reads: int) -> Iterator[tuple[str, float]]:
    """Random reads of every way; each tensor is checked once against what was written."""
    copies, others = corpus.ways(), corpus.other_ways()
    for number, sample in enumerate(corpus.samples):  # also warms the page cache
        for name, way in (copies | others).items():
            if not torch.equal(way(number).view(torch.int16), as_tensor(sample).view(torch.int16)):
                raise SystemExit(f"{name} does not read what was written")
    median = median_seconds(corpus, copies, num_reads)
    for other in ("pt", "safetensors", "hdf5", "memmap"):
        yield f"random_read/{corpus.name}/vs_{other}", median[other] / median["store"]
    yield f"random_read/{corpus.name}/samples_per_s", 1 / median["store"]
    for name, way in others.items():
        baselines = {"pt": copies["pt"], "memmap": copies["memmap"]}
        median = median_seconds(corpus, {name: way, **baselines}, num_reads // 2)
        for other in baselines:
            yield f"{name}/{corpus.name}/vs_{other}", median[other] / median[name]


def median_seconds(corpus: Corpus, ways: dict[str, Way], num_reads: int) -> dict[str, float]:
    """Of one read by each way: the ways take turns in a new order each time, with some random reads a turn."""
    rng = np.random.default_rng(1)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(max(1, num_reads // READS_A_TURN)):
        for name in rng.permutation(list(ways)).tolist():
            way, numbers = ways[name], rng.integers(len(corpus.samples), size=READS_A_TURN).tolist()
            start = time.perf_counter()
            for number in numbers:
                way(number)
            seconds[name].append((time.perf_counter() - start) / READS_A_TURN)
    return {name: statistics.median(times) for name, times in seconds.items()}


def time_scans(corpus: Corpus, rounds: int) -> Iterator[tuple[str, float]]:
    """Every sample in the order it was written, by each way in turn."""
    ways = corpus.ways()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name in np.random.default_rng().permutation(list(ways)).tolist():
            way = ways[name]
            start = time.perf_counter()
            for number in range(len(corpus.samples)):
                way(number)
            seconds[name].append(time.perf_counter() - start)
    median = {name: statistics.median(times) for name, times in seconds.items()}
    for other in ("pt", "memmap"):
        yield f"scan/{corpus.name}/vs_{other}", median[other] / median["store"]


def time_writes(corpus: Corpus, rounds: int) -> Iterator[tuple[str, float]]:
    """Writes all samples by each way in turn; nothing unwritten is left over from the way before."""
    seconds = {"pt": 0.0, "store": 0.0, "durable": 0.0}
    for turn in range(rounds):
        for name in np.random.default_rng(turn).permutation(list(seconds)).tolist():
            with tempfile.TemporaryDirectory(dir=corpus.folder) as folder:
                os.sync()
                start = time.perf_counter()
                if name == "pt":
                    corpus.write_pt(Path(folder))
                else:
                    corpus.write_store(durable=name == "durable")
                seconds[name] += time.perf_counter() - start
    size = sum(sample.nbytes for sample in corpus.samples) * rounds / 1e6
    yield f"write/{corpus.name}/vs_pt", seconds["pt"] / seconds["store"]
    yield f"write_durable/{corpus.name}/vs_pt", seconds["pt"] / seconds["durable"]
    yield f"write/{corpus.name}/mb_per_s", size / seconds["store"]


class PtBatches:
    """The same batches from `.pt` files, indexed by lists of sample ids."""

    def __init__(self, corpus: Corpus) -> None:
        self.folder = corpus.folder

    def __getitem__(self, names: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        tensors = [torch.load(self.folder / f"{name}.pt", weights_only=True) for name in names]
        batch = torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True)
        return batch, torch.tensor([len(tensor) for tensor in tensors])


def time_loaders(corpus: Corpus, epochs: int, batches_per_epoch: int) -> Iterator[tuple[str, float]]:
    """Whole epochs of both loaders in turn, after one that starts the workers and is not counted."""
    rng = np.random.default_rng(2)
    numbers = rng.integers(len(corpus.samples), size=(batches_per_epoch, 8)).tolist()
    batches = [[str(number) for number in batch] for batch in numbers]
    loaders = {
        name: torch.utils.data.DataLoader(
            dataset, batch_size=None, sampler=batches, num_workers=2, persistent_workers=True
        )
        for name, dataset in (("store", SharedBatches(corpus.features)), ("pt", PtBatches(corpus)))
    }
    for ours, (theirs, their_lengths) in zip(loaders["store"], loaders["pt"], strict=True):
        if not (
            torch.equal(as_tensor(ours.values).view(torch.int16), theirs.view(torch.int16))
            and ours.lengths.tolist() == their_lengths.tolist()
        ):
            raise SystemExit("the loaders do not give the same batches")
    seconds = dict.fromkeys(loaders, 0.0)
    for epoch in range(epochs):
        for name in list(loaders)[:: 1 if epoch % 2 else -1]:
            start = time.perf_counter()
            for _ in loaders[name]:
                pass
            seconds[name] += time.perf_counter() - start
    yield f"loader/{corpus.name}/vs_pt", seconds["pt"] / seconds["store"]


def run(quick: bool) -> dict[str, float]:
    """All measurements, as one flat object."""
    # reading a read-only view is the point here
    warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
    # Freeing one big block makes malloc keep memory of up to that size, for all ways alike. Any training does
    # that at once; without it each way pays page faults for each sample, more or fewer by chance.
    np.ones(30 * 2**20, np.uint8)
    result: dict[str, float] = {}
    for name, (steps, tokens, dim) in SHAPES.items():
        shape = (steps, tokens, dim // 64) if quick else (steps, tokens, dim)
        count = 8 if quick else NUM_SAMPLES[name]
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            corpus = Corpus(name, make_samples(shape, count), Path(folder))
            result[f"mb/{name}"] = corpus.samples[0].nbytes / 1e6
            result.update(time_reads(corpus, 5 if quick else NUM_READS[name]))
            result.update(time_scans(corpus, 1 if quick else 5))
            result.update(time_writes(corpus, 1 if quick else 4))
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            if name != "frames":  # batches of 8 such samples are no one's way to train
                corpus = Corpus(name, make_samples(shape, count, ragged=True), Path(folder))
                result.update(time_loaders(corpus, 1 if quick else 4, 4 if quick else 60))
    for label, num_rows in ROWS.items():
        with tempfile.TemporaryDirectory() as folder:
            num_rows = 2000 if quick else num_rows
            build_catalog(Path(folder), num_rows)
            found = measure_catalog(Path(folder), num_rows, 1 if quick else 3)
        result |= {f"{name.replace('rss', 'reader_rss')}/{label}": value for name, value in found.items()}
    return result


def main() -> None:
    """Measure, draw, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: whether it runs, not how fast")
    parser.add_argument("--png", type=Path, default=Path(__file__).with_suffix(".png"))
    arguments = parser.parse_args()
    result = run(arguments.quick)
    draw(result, arguments.png)
    print(json.dumps({name: float(f"{value:.3g}") for name, value in result.items()}))


if __name__ == "__main__":
    main()
