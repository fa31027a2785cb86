"""One stage of one sample, timed: what the fresh processes of `extract_probe` do.

They import this alone, and with it what their extractor needs, so that their memory is what a worker needs.
"""

import pickle
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from extractors.contract import Extractor, Sample
from pipelines.process_memory import peak_memory


@dataclass(frozen=True)
class Cost:
    """Of one call: its seconds and what it made, in bytes, with the peaks of the process so far."""

    seconds: float
    num_bytes: int
    peak_bytes: int
    gpu_peak_bytes: int = 0


_loaded: list[Extractor] = []  # the encoder of this process


def decode(extractor: Extractor, sample: Sample, file: Path) -> Cost:
    """Decode the sample with one thread, and pickle it to `file` for `encode`. Raises `MediaError`."""
    torch.set_num_threads(1)
    started = time.perf_counter()
    decoded = extractor.decode(sample)
    seconds = time.perf_counter() - started
    with file.open("wb") as out:
        pickle.dump(decoded, out, protocol=5)
    return Cost(seconds, file.stat().st_size, peak_memory())


def load(extractor: Extractor, device: str) -> float:
    """Load the encoder, in the CPU's case for one thread; the seconds of it. Raises `WeightsError`."""
    if device == "cpu":
        torch.set_num_threads(1)
    started = time.perf_counter()
    extractor.load(device)
    _loaded.append(extractor)
    return time.perf_counter() - started


def encode(file: Path) -> Cost:
    """Encode what `decode` left in `file`, with what `load` has loaded. Raises `ExtractorError`."""
    (extractor,) = _loaded
    decoded = pickle.loads(file.read_bytes())  # made by `decode`
    started = time.perf_counter()
    (features,) = extractor.encode([decoded])
    seconds = time.perf_counter() - started
    stored = sum(tensor.nbytes for tensor in features.tensors.values()) + features.timestamps.nbytes
    gpu = torch.cuda.max_memory_reserved() if torch.cuda.is_available() else 0
    return Cost(seconds, stored, peak_memory(), gpu)
