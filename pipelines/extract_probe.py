"""What a few samples of a manifest cost a channel: time, bytes and memory of decoding and of encoding.

Decoding and encoding have a fresh process each, as in an extraction, so that the peak memory of one is not that
of the other. A sample that cannot be done is reported; none takes its place.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np

from extractors.contract import Extractor, Sample
from extractors.errors import ExtractorError
from pipelines.manifest import Manifest
from pipelines.probe_stages import Cost, decode, encode, load
from pipelines.progress import ProgressFactory, silent

_DIED = "its process died; check the file, and whether the memory was enough"


@dataclass(frozen=True)
class ProbedSample:
    """One sample that was decoded and encoded; `duration` in seconds as the manifest has it.

    `decoded_bytes` are those of the pickled `Decoded`, `stored_bytes` those of the features in the store.
    """

    sample_id: str
    duration: float | None
    decode_seconds: float
    encode_seconds: float
    decoded_bytes: int
    stored_bytes: int


@dataclass(frozen=True)
class FailedProbe:
    """One sample that could not be done."""

    sample_id: str
    stage: str
    message: str


@dataclass(frozen=True)
class Probe:
    """What was measured of one channel on one device ("cpu" or "cuda").

    Decoding has one thread, and so has encoding on the CPU. The peaks are of whole processes, with Python,
    libraries and weights; `gpu_peak_bytes` is what torch reserved on the GPU.
    """

    channel: str
    device: str
    samples: tuple[ProbedSample, ...]
    failures: tuple[FailedProbe, ...]
    load_seconds: float
    decode_peak_bytes: int
    encode_peak_bytes: int
    gpu_peak_bytes: int


def usable_rows(manifest: Manifest, channel: str) -> list[dict[str, Any]]:
    """The rows of samples that an extraction of `channel` would try; without those that have no sound, for audio."""
    return [
        row
        for row in manifest.table.to_pylist()
        if row["error"] is None and not (channel == "audio" and row["audio_streams"] == 0)
    ]


def choose_rows(rows: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """At most `count` rows: the shortest, the longest, and between them evenly spread by rank.

    Rows without a duration count as the shortest; where none has one, by number of frames.
    """
    ranked = sorted(rows, key=lambda row: (row["duration"] or 0.0, row["n_frames"] or 0, row["sample_id"]))
    ranks = np.linspace(0, len(ranked) - 1, min(count, len(ranked))).round().astype(int)
    return [ranked[rank] for rank in ranks]


def probe(
    extractor: Extractor,
    manifest: Manifest,
    count: int,
    device: str,
    progress: ProgressFactory = silent,
) -> Probe:
    """Decode and encode `count` samples of the manifest, one at a time.

    Args: device: "cpu" or "cuda"; one of them, whatever their number.

    Raises `WeightsError` when the encoder cannot be loaded, and `ExtractorError` when its process dies of it.
    """
    rows = choose_rows(usable_rows(manifest, extractor.channel), count)
    failures: list[FailedProbe] = []
    decoded: dict[str, Cost] = {}
    encoded: dict[str, Cost] = {}
    with TemporaryDirectory(prefix="pave-") as scratch, progress(f"probe {extractor.channel}") as stage:
        files = {row["sample_id"]: Path(scratch) / f"{number}.pickle" for number, row in enumerate(rows)}

        def run(
            child: _Child,
            sample_id: str,
            name: str,
            costs: dict[str, Cost],
            call: Callable[..., Cost],
            *args: Any,
        ) -> None:
            result = child.call(call, *args)
            if isinstance(result, str):
                failures.append(FailedProbe(sample_id, name, result))
            else:
                costs[sample_id] = result
            done = len(decoded) + len(encoded)
            stage.update(done, 2 * len(rows), len(failures), note=name)

        with _Child() as child:
            for row in rows:
                sample = _sample(row, manifest)
                run(
                    child,
                    sample.sample_id,
                    "decode",
                    decoded,
                    decode,
                    extractor,
                    sample,
                    files[sample.sample_id],
                )
        load_seconds = 0.0
        if decoded:
            with _Child(load, extractor, device) as child:
                load_seconds = child.setup_seconds
                child.call(encode, files[next(iter(decoded))])  # warms up; is not counted
                for sample_id in decoded:
                    run(child, sample_id, "encode", encoded, encode, files[sample_id])
    durations = {row["sample_id"]: row["duration"] for row in rows}
    return Probe(
        channel=extractor.channel,
        device=device,
        samples=tuple(
            ProbedSample(
                sample_id,
                durations[sample_id],
                decoded[sample_id].seconds,
                cost.seconds,
                decoded[sample_id].num_bytes,
                cost.num_bytes,
            )
            for sample_id, cost in encoded.items()
        ),
        failures=tuple(failures),
        load_seconds=load_seconds,
        decode_peak_bytes=max((cost.peak_bytes for cost in decoded.values()), default=0),
        encode_peak_bytes=max((cost.peak_bytes for cost in encoded.values()), default=0),
        gpu_peak_bytes=max((cost.gpu_peak_bytes for cost in encoded.values()), default=0),
    )


def _sample(row: Mapping[str, Any], manifest: Manifest) -> Sample:
    media = {role: manifest.root / path for role, path in json.loads(row["media"]).items()}
    return Sample(row["sample_id"], manifest.dataset, media)


class _Child:
    """A fresh process that makes one call after another, after one to `setup`; started again when it dies."""

    def __init__(self, setup: Callable[..., float] | None = None, *args: Any) -> None:
        self._setup = setup
        self._args = args
        self.setup_seconds = 0.0

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def call(self, function: Callable[..., Cost], *args: Any) -> Cost | str:
        """The result of the call, or in one line why there is none."""
        try:
            return self._pool.submit(function, *args).result()
        except ExtractorError as error:
            return str(error)
        except BrokenProcessPool:
            self._pool.shutdown()
            self._start()
            return _DIED
        except Exception as error:
            # as in an extraction: media are outside data, and a file that trips a library must not end the rest
            return " ".join(f"{type(error).__name__}: {error}".split())

    def _start(self) -> None:
        self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        if self._setup is None:
            return
        try:
            self.setup_seconds = self._pool.submit(self._setup, *self._args).result()
        except BrokenProcessPool as error:
            self._pool.shutdown()
            raise ExtractorError(
                "the process that loads the encoder died; check whether the memory was enough"
            ) from error
        except BaseException:
            self._pool.shutdown()
            raise
