"""The Delta tables of a store: their schemas, appending and reading.

Nothing here may run in a forked child: delta-rs has threads.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError

from store.durable import sync_path
from store.errors import StoreError

TableName = Literal["catalog", "samples", "feature_sets", "failures"]

_text, _whole, _real, _truth = pa.string(), pa.int64(), pa.float64(), pa.bool_()
_time = pa.timestamp("us", tz="UTC")


def _schema(required: Mapping[str, pa.DataType], optional: Mapping[str, pa.DataType]) -> pa.Schema:
    fields = [pa.field(name, kind, nullable=False) for name, kind in required.items()]
    return pa.schema(fields + [pa.field(name, kind) for name, kind in optional.items()])


_FEATURE_SET_KEY = {"dataset": _text, "channel": _text, "fingerprint": _text}

# Rows are only ever appended. `commit_seq` is the table version that the writer saw, plus one.
SCHEMAS: dict[TableName, pa.Schema] = {
    "catalog": _schema(
        _FEATURE_SET_KEY
        | {"sample_id": _text, "part": _text, "row0": _whole, "row1": _whole, "nbytes": _whole}
        | {"crc32c": _whole, "op": _text, "commit_seq": _whole},
        {"duration": _real, "fps": _real, "n_frames": _whole, "source_hash": _text},
    ),
    "samples": _schema(
        {"dataset": _text, "sample_id": _text, "media": _text, "commit_seq": _whole},
        {"split": _text, "duration": _real, "fps": _real, "n_frames": _whole}
        | {"audio_streams": _whole, "source_hash": _text, "error": _text},
    ),
    "feature_sets": _schema(
        _FEATURE_SET_KEY
        | {"extractor": _text, "version": _text, "tokens": _whole, "dim": _whole, "dtype": _text}
        | {"tensors": _text, "licence": _text, "config": _text},
        {"rate_hz": _real},
    ),
    "failures": _schema(
        _FEATURE_SET_KEY
        | {"sample_id": _text, "error_type": _text, "message": _text, "permanent": _truth}
        | {"attempt": _whole, "time": _time},
        {"source_hash": _text},
    ),
}

# Each retry only re-reads the log's end; committers on one machine need far fewer.
_MAX_COMMIT_RETRIES = 1000


def create_tables(root: Path) -> None:
    """Makes the empty tables below `root`, leaving those that are there; several processes may race here."""
    for name, schema in SCHEMAS.items():
        try:
            DeltaTable.create(
                str(root / name),
                schema,
                mode="ignore",
                # Old snapshots must stay readable for as long as the store lives.
                configuration={"delta.enableExpiredLogCleanup": "false"},
                # A retry would write the table's metadata a second time, under the feet of committers.
                commit_properties=CommitProperties(max_commit_retries=0),
            )
        except CommitFailedError:
            _open(root, name)  # lost the race: the other process made the table
        except (DeltaError, OSError) as error:
            raise _table_error("create", root, name, error) from error
        sync_path(root / name / "_delta_log")


def latest_version(root: Path, name: TableName) -> int:
    """Newest version of the table."""
    return int(_open(root, name).version())


def append(root: Path, name: TableName, rows: Sequence[Mapping[str, Any]] | pa.Table) -> int:
    """Appends rows in one transaction and returns its version; safe with other committers.

    `commit_seq` is filled in here where the table has it. The transaction is durable when this returns.
    """
    schema = SCHEMAS[name]
    table = _open(root, name)
    if not os.access(root / name / "_delta_log", os.W_OK):
        # delta-rs would find out in a thread of its own, which panics on stderr
        raise _table_error("append to", root, name, PermissionError("permission denied"))
    columns = (
        pa.Table.from_pylist(list(rows), schema=_without_seq(schema)) if isinstance(rows, Sequence) else rows
    )
    if "commit_seq" in schema.names:
        seen = pa.array([table.version() + 1] * len(columns), pa.int64())
        columns = columns.append_column(pa.field("commit_seq", pa.int64(), nullable=False), seen)
    try:
        write_deltalake(
            table,
            columns.select(schema.names),
            mode="append",
            commit_properties=CommitProperties(max_commit_retries=_MAX_COMMIT_RETRIES),
        )
    except (DeltaError, OSError) as error:
        raise _table_error("append to", root, name, error) from error
    version = int(table.version())
    _sync_transaction(root / name, version)
    return version


def read(
    root: Path,
    name: TableName,
    *,
    version: int | None = None,
    columns: Sequence[str] | None = None,
    where: Mapping[str, str] | None = None,
) -> pa.Table:
    """Rows of the table in no particular order.

    Args:
        version: of the table, None for the newest.
        columns: None for all.
        where: column -> safe name (see `check_name`) that it must equal.

    Raises StoreError when the table or version is not there.
    """
    chosen = list(columns or SCHEMAS[name].names)
    predicate = " AND ".join(f"{column} = '{value}'" for column, value in (where or {}).items())
    try:
        reader = _open(root, name, version).scan(columns=chosen, predicate=predicate or None)
        rows = pa.table(reader)
    except (DeltaError, OSError) as error:
        raise _table_error("read", root, name, error) from error
    # delta-rs hands out string views, which pyarrow cannot sort
    return rows.select(chosen).cast(pa.schema([SCHEMAS[name].field(column) for column in chosen]))


def _open(root: Path, name: TableName, version: int | None = None) -> DeltaTable:
    try:
        return DeltaTable(str(root / name), version=version)
    except (DeltaError, OSError) as error:
        raise _table_error("open", root, name, error) from error


def _without_seq(schema: pa.Schema) -> pa.Schema:
    return pa.schema([field for field in schema if field.name != "commit_seq"])


def _sync_transaction(table: Path, version: int) -> None:
    """fsync of the data files that the transaction added, then of its log entry."""
    entry = table / "_delta_log" / f"{version:020d}.json"
    for line in entry.read_text().splitlines():
        action = json.loads(line)
        if "add" in action:
            sync_path(table / action["add"]["path"])
    for path in (table, entry, entry.parent):
        sync_path(path)


def _table_error(verb: str, root: Path, name: str, error: Exception) -> StoreError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return StoreError(
        f"cannot {verb} the table {root / name}: {reason}; check that the store is whole and writable"
    )
