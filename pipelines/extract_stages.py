"""What the workers of an extraction do: decode samples, encode them, write parts. No Ray in here.

Every stage takes and gives Arrow tables with one row per sample. A sample's arrays are one binary column,
pickled by one stage and unpickled by the next. A sample that cannot be done stays a row: it passes through as a
failure, and no other sample replaces it.
"""

import json
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import ml_dtypes
import numpy as np
import pyarrow as pa
import torch

from extractors.contract import Decoded, Extractor, Features, Sample
from extractors.errors import ExtractorError, MediaError
from pipelines.worker_deaths import MOST_DEATHS, DeathMarks
from store.errors import SampleError
from store.features import Features as StoredFeatures
from store.features import FeatureSetRecord
from store.location import Location
from store.part_writer import PartWriter

_WORK = pa.schema([(name, pa.string()) for name in ("sample_id", "source_hash", "media")])
_ROWS = pa.schema(
    [
        ("sample_id", pa.string()),
        ("source_hash", pa.string()),
        ("payload", pa.large_binary()),  # Decoded, then Features; null for a failure
        ("failure", pa.string()),  # JSON of Failure
    ]
)
_RESULTS = pa.schema([("part", pa.string()), ("failure", pa.string())])
_Result = TypeVar("_Result")
_Encoded: TypeAlias = tuple[StoredFeatures, dict[str, Any]]  # and what the catalog keeps of the clip


@dataclass(frozen=True)
class WorkItem:
    """One sample to do. `media` maps a role to an absolute path; `duration` is in seconds, if known."""

    sample_id: str
    media: dict[str, str]
    source_hash: str | None
    duration: float | None


@dataclass(frozen=True)
class Failure:
    """One sample that could not be done; `permanent` as in the store's `FailureRow`."""

    sample_id: str
    error_type: str
    message: str
    permanent: bool


def work_table(items: Sequence[WorkItem]) -> pa.Table:
    """The items as the rows that `decode` takes."""
    rows = [
        {"sample_id": item.sample_id, "source_hash": item.source_hash, "media": json.dumps(item.media)}
        for item in items
    ]
    return pa.Table.from_pylist(rows, schema=_WORK)


def decode(rows: pa.Table, extractor: Extractor, dataset: str, marks: DeathMarks) -> Iterator[pa.Table]:
    """Rows of work to rows of `Decoded`, one at a time so that Ray can bound the size of blocks."""
    torch.set_num_threads(1)  # tasks run beside each other
    for row in rows.to_pylist():
        media = {role: Path(path) for role, path in json.loads(row["media"]).items()}
        sample = Sample(row["sample_id"], dataset, media)
        yield _passed_on(row, _survived(marks, sample.sample_id, partial(extractor.decode, sample)))


class Encode:
    """Rows of `Decoded` to rows of `_Encoded`; the extractor is loaded by the first call."""

    def __init__(self, extractor: Extractor, device: str, threads: int, marks: DeathMarks) -> None:
        self._extractor = extractor
        self._marks = marks
        self._device = device
        self._threads = threads
        self._loaded = False

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Encode the rows. Raises WeightsError when the extractor cannot be loaded."""
        if not self._loaded:  # not in the constructor: there Ray would turn a WeightsError into text
            torch.set_num_threads(self._threads)
            self._extractor.load(self._device)
            self._loaded = True
        given = rows.to_pylist()
        # made by `decode` of this run
        decoded = [pickle.loads(row["payload"]) for row in given if row["payload"] is not None]
        encoded = iter(self._encode(decoded))
        return pa.concat_tables(
            [
                _passed_on(row, next(encoded))
                if row["payload"] is not None
                else pa.Table.from_pylist([row], schema=_ROWS)
                for row in given
            ]
        )

    def _encode(self, decoded: Sequence[Decoded]) -> list[_Encoded | Failure]:
        ids = [item.sample_id for item in decoded]
        if not any(map(self._marks.deaths, ids)):
            self._marks.set(ids)
            together = _attempted("", partial(self._encode_batch, decoded))
            self._marks.clear(ids)
            if not isinstance(together, Failure):
                return [*together]
        # find out which of them it is
        alone = [
            _survived(self._marks, item.sample_id, partial(self._encode_batch, [item])) for item in decoded
        ]
        return [result if isinstance(result, Failure) else result[0] for result in alone]

    def _encode_batch(self, decoded: Sequence[Decoded]) -> list[_Encoded]:
        return [
            (
                _stored(item),
                {
                    "duration": item.duration,
                    "fps": item.fps,
                    "n_frames": item.n_frames,
                    "attributes": dict(item.attributes) or None,
                },
            )
            for item in self._extractor.encode(decoded)
        ]


def _stored(features: Features) -> StoredFeatures:
    """The features as the store takes them: numpy arrays, bfloat16 as ml_dtypes'."""
    arrays = {
        name: tensor.view(torch.uint16).numpy().view(ml_dtypes.bfloat16)
        if tensor.dtype == torch.bfloat16
        else tensor.numpy()
        for name, tensor in features.tensors.items()
    }
    values = arrays.pop("values")
    return StoredFeatures(values, np.asarray(features.timestamps, dtype=np.float64), arrays)


def write(rows: pa.Table, location: Location, feature_set: FeatureSetRecord) -> pa.Table:
    """Rows of `_Encoded` to one part: a row with its record as JSON in `part`, and one per failure in `failure`.

    Raises StoreError when the part cannot be written.
    """
    results: list[dict[str, str | None]] = []
    with PartWriter(location, feature_set) as part:
        for row in rows.to_pylist():
            failure = row["failure"]
            if failure is None:
                features, about = pickle.loads(row["payload"])  # made by `Encode` of this run
                try:
                    part.write(row["sample_id"], features, source_hash=row["source_hash"], **about)
                except SampleError as error:
                    failure = _json(Failure(row["sample_id"], type(error).__name__, error.reason, True))
            if failure is not None:
                results.append({"part": None, "failure": failure})
    results.append({"part": part.close().to_json(), "failure": None})
    return pa.Table.from_pylist(results, schema=_RESULTS)


def _survived(marks: DeathMarks, sample_id: str, call: Callable[[], _Result]) -> _Result | Failure:
    """The call's result, or why there is none; no call when workers keep dying of it."""
    if marks.deaths(sample_id) >= MOST_DEATHS:
        message = f"{MOST_DEATHS} workers died of it; check the file, and whether the memory was enough"
        return Failure(sample_id, "WorkerDiedError", message, permanent=False)
    marks.set([sample_id])
    result = _attempted(sample_id, call)
    marks.clear([sample_id])
    return result


def _attempted(sample_id: str, call: Callable[[], _Result]) -> _Result | Failure:
    """The call's result, or why there is none."""
    try:
        return call()
    except MediaError as error:
        return Failure(sample_id, type(error).__name__, f"{error.reason}; {error.hint}", permanent=True)
    except ExtractorError as error:
        return Failure(sample_id, type(error).__name__, str(error), permanent=True)
    except Exception as error:
        # The one broad except: media are outside data, and one file that trips a library must not end a run
        # over a million others. The row in `failures` says what happened, and the next run tries again.
        message = " ".join(f"{type(error).__name__}: {error}".split())
        return Failure(sample_id, type(error).__name__, message, permanent=False)


def _passed_on(row: dict[str, Any], result: object) -> pa.Table:
    failed = isinstance(result, Failure)
    passed = {
        "sample_id": row["sample_id"],
        "source_hash": row["source_hash"],
        "payload": None if failed else pickle.dumps(result, protocol=5),
        "failure": _json(result) if isinstance(result, Failure) else None,
    }
    return pa.Table.from_pylist([passed], schema=_ROWS)


def _json(failure: Failure) -> str:
    return json.dumps(asdict(failure))
