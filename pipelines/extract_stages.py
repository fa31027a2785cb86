"""What the workers of an extraction do: decode samples, and encode them. No Ray in here.

Every stage takes and gives Arrow tables with one row per sample and channel (`extract_rows`). A sample that cannot
be done stays a row: it passes through as a failure, and no other sample replaces it.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import ml_dtypes
import numpy as np
import pyarrow as pa
import torch

from extractors.contract import Decoded, Extractor, Features, Sample
from extractors.errors import ExtractorError, MediaError, WeightsError
from extractors.joint_decoding import decode_together
from pipelines.extract_rows import Failure, failed_row, result_row, unpacked
from pipelines.memory_limit import memory_limit
from pipelines.worker_deaths import MOST_DEATHS, DeathMarks
from pipelines.worker_log import joined, listening
from store.features import Features as StoredFeatures

_Key: TypeAlias = tuple[str, str]  # sample and channel
_Encoded: TypeAlias = tuple[StoredFeatures, dict[str, Any]]  # and what the catalog keeps of the clip
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Decode:
    """Rows of work to rows of `Decoded`, one sample at a time so that Ray can bound the size of blocks.

    The channels of a sample read its files together. `memory_bytes` bounds what decoding one sample takes.
    """

    extractors: Mapping[str, Extractor]
    dataset: str
    marks: DeathMarks
    memory_bytes: int

    def __call__(self, rows: pa.Table) -> Iterator[pa.Table]:
        """Decode the rows; a sample that cannot be read gives failures."""
        torch.set_num_threads(1)  # tasks run beside each other
        for row in rows.to_pylist():
            media = {role: Path(path) for role, path in json.loads(row["media"]).items()}
            sample = Sample(row["sample_id"], self.dataset, media)
            keys = [(sample.sample_id, channel) for channel in json.loads(row["channels"])]
            alone = partial(self._read_one, sample)
            with listening() as heard:
                results = _guarded(self.marks, keys, True, partial(self._read, sample, keys), alone)
            for (_, channel), result in zip(keys, results, strict=True):
                yield result_row({**row, "channel": channel, "log": heard.taken()}, result)

    def _read_one(self, sample: Sample, key: _Key) -> Decoded | Failure:
        return self._read(sample, [key])[0]

    def _read(self, sample: Sample, keys: Sequence[_Key]) -> list[Decoded | Failure]:
        with memory_limit(self.memory_bytes):
            read = decode_together([self.extractors[channel] for _, channel in keys], sample)
        for result in read:
            if isinstance(result, WeightsError):  # says nothing about the sample
                raise result
        return [
            _failure(key, result) if isinstance(result, Exception) else result
            for key, result in zip(keys, read, strict=True)
        ]


class Encode:
    """Rows of `Decoded` to rows of `_Encoded`; an extractor is loaded when its first row comes."""

    def __init__(
        self, extractors: Mapping[str, Extractor], device: str, threads: int, marks: DeathMarks
    ) -> None:
        self._extractors = extractors
        self._marks = marks
        self._device = device
        self._threads = threads
        self._loaded: set[str] = set()

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Encode the rows. Raises WeightsError when an extractor cannot be loaded."""
        decoded: dict[str, list[tuple[int, Decoded]]] = {}
        for index, channel in enumerate(rows["channel"].to_pylist()):
            if rows["payload"][index].is_valid:
                decoded.setdefault(channel, []).append((index, unpacked(rows, index)))
        results: dict[int, _Encoded | Failure] = {}
        with listening() as heard:
            for channel, given in decoded.items():
                self._load(channel)
                encoded = self._encode(channel, [item for _, item in given])
                results.update(zip([index for index, _ in given], encoded, strict=True))
        plain = rows.drop_columns("payload").to_pylist()
        plain[0]["log"] = joined(plain[0]["log"], heard.taken())
        return pa.concat_tables(
            [
                result_row(row, results[index]) if index in results else failed_row(row)
                for index, row in enumerate(plain)
            ]
        )

    def _load(self, channel: str) -> None:
        if channel in self._loaded:
            return
        # not in the constructor: there Ray would turn a WeightsError into text
        torch.set_num_threads(self._threads)
        self._extractors[channel].load(self._device)
        self._loaded.add(channel)

    def _encode(self, channel: str, decoded: Sequence[Decoded]) -> list[_Encoded | Failure]:
        def encode(batch: Sequence[Decoded]) -> list[_Encoded | Failure]:
            try:
                return [*map(_catalogued, self._extractors[channel].encode(batch))]
            except Exception as error:
                if len(batch) == 1:
                    return [_failure((batch[0].sample_id, channel), error)]
                return [encode([item])[0] for item in batch]  # find out which of them it is

        by_key = {(item.sample_id, channel): item for item in decoded}
        return _guarded(
            self._marks, list(by_key), False, partial(encode, decoded), lambda key: encode([by_key[key]])[0]
        )


def _catalogued(features: Features) -> _Encoded:
    about = {
        "duration": features.duration,
        "fps": features.fps,
        "n_frames": features.n_frames,
        "attributes": dict(features.attributes) or None,
    }
    return stored_features(features), about


def stored_features(features: Features) -> StoredFeatures:
    """The features as the store takes them: numpy arrays, bfloat16 as ml_dtypes'."""
    arrays = {
        name: tensor.view(torch.uint16).numpy().view(ml_dtypes.bfloat16)
        if tensor.dtype == torch.bfloat16
        else tensor.numpy()
        for name, tensor in features.tensors.items()
    }
    values = arrays.pop("values")
    return StoredFeatures(values, np.asarray(features.timestamps, dtype=np.float64), arrays)


def _guarded(
    marks: DeathMarks,
    keys: Sequence[_Key],
    reading: bool,
    together: Callable[[], list[_Result | Failure]],
    alone: Callable[[_Key], _Result | Failure],
) -> list[_Result | Failure]:
    """One result a key: of all together, or of each alone when a worker died of them; none for what kills again."""
    names = [f"{sample_id}/{channel}" for sample_id, channel in keys]
    if len(keys) > 1 and not any(map(marks.deaths, names)):
        with marks.watching(names, reading):
            return together()
    results: list[_Result | Failure] = []
    for key, name in zip(keys, names, strict=True):
        if marks.stalled(name):
            message = (
                f"it gave nothing for {marks.stall_seconds:g} s; check the file and the disk it is on, or raise "
                "execution.stall_seconds"
            )
            results.append(Failure(*key, "StalledError", message, permanent=False))
        elif marks.deaths(name) >= MOST_DEATHS:
            message = f"{MOST_DEATHS} workers died of it; check the file, and whether the memory was enough"
            results.append(Failure(*key, "WorkerDiedError", message, permanent=False))
        else:
            with marks.watching([name], reading):
                results.append(alone(key))
    return results


def _failure(key: _Key, error: Exception) -> Failure:
    """Why there is no result. Every exception is recorded, also one that is a bug: media are outside data, and one
    file that trips a library must not end a run over a million others."""
    name = type(error).__name__
    if isinstance(error, MediaError):
        return Failure(*key, name, f"{error.reason}; {error.hint}", permanent=True)
    if isinstance(error, ExtractorError):
        return Failure(*key, name, str(error), permanent=True)
    message = " ".join(f"{name}: {error}".split())
    if isinstance(error, MemoryError):
        message += "; raise execution.decode_memory_bytes if the file is sound"
    return Failure(*key, name, message, permanent=False)  # the next run tries again
