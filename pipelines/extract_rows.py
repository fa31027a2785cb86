"""The rows that travel between the stages of an extraction: work, decoded and encoded samples, failures.

A sample's arrays are a column of buffers: pickled by one stage and read by the next without a copy.
"""

import json
import pickle
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

WORK = pa.schema([(name, pa.string()) for name in ("sample_id", "source_hash", "media", "channels")])
ROWS = pa.schema(
    [
        ("sample_id", pa.string()),
        ("channel", pa.string()),
        ("source_hash", pa.string()),
        ("payload", pa.list_(pa.large_binary())),  # of one sample and channel; null for a failure
        ("failure", pa.string()),  # JSON of Failure
        ("log", pa.string()),  # what workers logged meanwhile (worker_log)
    ]
)
RESULTS = pa.schema([(name, pa.string()) for name in ("part", "failure", "log")])


@dataclass(frozen=True)
class WorkItem:
    """One sample to do for some channels. `media` maps a role to an absolute path; `duration` is in seconds,
    if known."""

    sample_id: str
    media: dict[str, str]
    source_hash: str | None
    duration: float | None
    channels: tuple[str, ...]


@dataclass(frozen=True)
class Failure:
    """One sample that could not be done for a channel; `permanent` as in the store's `FailureRow`."""

    sample_id: str
    channel: str
    error_type: str
    message: str
    permanent: bool

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))


def work_table(items: Sequence[WorkItem]) -> pa.Table:
    """The items as rows of `WORK`."""
    rows = [
        {
            "sample_id": item.sample_id,
            "source_hash": item.source_hash,
            "media": json.dumps(item.media),
            "channels": json.dumps(item.channels),
        }
        for item in items
    ]
    return pa.Table.from_pylist(rows, schema=WORK)


def result_row(row: dict[str, Any], result: object) -> pa.Table:
    """The row of `ROWS` that carries a result, or a `Failure`, of the sample and channel of `row`."""
    failure = result.to_json() if isinstance(result, Failure) else None
    payload = None if failure is not None else _packed(result)
    return _table(row, payload, failure)


def failed_row(row: dict[str, Any]) -> pa.Table:
    """The same failure again."""
    return _table(row, None, row["failure"])


def unpacked(rows: pa.Table, index: int) -> Any:
    """The result in a row; its arrays are views of the table's memory. Only for rows of this very run."""
    head, *buffers = (buffer.as_buffer() for buffer in rows["payload"][index].values)
    return pickle.loads(head, buffers=buffers)


def _packed(result: object) -> pa.Array:
    """A cell of `payload`. Made of buffers, because `pa.array` never releases a memoryview that it is given."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(result, protocol=5, buffer_callback=buffers.append)
    cells = [
        pa.LargeBinaryArray.from_buffers(
            pa.large_binary(), 1, [None, pa.py_buffer(np.array([0, data.size], np.int64)), data]
        )
        for data in map(pa.py_buffer, (head, *(buffer.raw() for buffer in buffers)))
    ]
    return pa.ListArray.from_arrays([0, len(cells)], pa.concat_arrays(cells))


def _table(row: dict[str, Any], payload: pa.Array | None, failure: str | None) -> pa.Table:
    cells = {
        "sample_id": [row["sample_id"]],
        "channel": [row["channel"]],
        "source_hash": [row["source_hash"]],
        "payload": [None] if payload is None else payload,
        "failure": [failure],
        "log": [row.get("log")],
    }
    return pa.Table.from_pydict(cells, schema=ROWS)
