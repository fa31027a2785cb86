"""What the pipeline is measured against: a plain loop over clips, and its two halves alone. All call the extractor's
own `decode` and `encode`; the loop in the original release's manner is `benchmarks/release_loop.py`.
"""

import multiprocessing
from collections.abc import Sequence
from pathlib import Path

import torch

from extractors.contract import Decoded, Extractor, Sample

_pool_extractor: Extractor | None = None  # of a process of the pool


def run_loop(extractor: Extractor, samples: Sequence[Sample], folder: Path) -> None:
    """Decode, encode and save one clip after the other: `folder`/SAMPLE.pt holds its values (T, S, D).

    As fast as it goes in one process: the encoder is loaded, and torch has its default threads.
    """
    for sample in samples:
        (features,) = extractor.encode([extractor.decode(sample)])
        torch.save(features.tensors["values"], folder / f"{sample.sample_id}.pt")


def run_encode(extractor: Extractor, decoded: Sequence[Decoded], count: int, num_threads: int) -> None:
    """Encode `count` clips, going round those that are held, on `num_threads` of torch's threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    for number in range(count):
        extractor.encode([decoded[number % len(decoded)]])
    torch.set_num_threads(before)


class DecodePool:
    """Processes that decode and keep nothing, one thread each; warm when it is made, and ended by `close`.

    Args:
        extractor: not loaded, since it is sent to the processes.
        num_processes: of the pool.
        warm_up: what each process decodes once.
    """

    def __init__(self, extractor: Extractor, num_processes: int, warm_up: Sample) -> None:
        # threads of torch and FFmpeg do not survive a fork
        self._pool = multiprocessing.get_context("spawn").Pool(num_processes, _start, (extractor, warm_up))
        # a process answers when it has started; the others do while one is busy
        self._pool.map(_decode, [warm_up] * (4 * num_processes), chunksize=1)

    def run(self, samples: Sequence[Sample]) -> None:
        """Decode all of them."""
        for _ in self._pool.imap_unordered(_decode, samples):
            pass

    def close(self) -> None:
        """End the processes."""
        self._pool.close()
        self._pool.join()


def _start(extractor: Extractor, warm_up: Sample) -> None:
    global _pool_extractor
    torch.set_num_threads(1)
    _pool_extractor = extractor
    extractor.decode(warm_up)


def _decode(sample: Sample) -> None:
    assert _pool_extractor is not None
    _pool_extractor.decode(sample)
