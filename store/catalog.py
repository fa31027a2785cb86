"""The Delta tables of a store: their schemas, appending and reading.

Rows are only ever appended. In tables with `commit_seq` that column is the table version of the commit, so it
orders all commits: a commit that meets another one is made again on top of it.

Nothing here may run in a forked child: delta-rs has threads.
"""

import json
import logging
import os
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

import duckdb
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Schema, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError

from store.durable import sync_path
from store.errors import StoreError
from store.location import Location

TableName = Literal["catalog", "samples", "instructions", "feature_sets", "failures", "retention"]
Rows: TypeAlias = Sequence[Mapping[str, Any]] | pa.Table

_text, _whole, _real, _truth = pa.string(), pa.int64(), pa.float64(), pa.bool_()
_time = pa.timestamp("us", tz="UTC")


def _schema(required: Mapping[str, pa.DataType], optional: Mapping[str, pa.DataType]) -> pa.Schema:
    fields = [pa.field(name, kind, nullable=False) for name, kind in required.items()]
    return pa.schema(fields + [pa.field(name, kind) for name, kind in optional.items()])


_SQL_TYPES = {_text: "VARCHAR", _whole: "BIGINT", _real: "DOUBLE", _truth: "BOOLEAN", _time: "TIMESTAMPTZ"}
_FEATURE_SET_KEY = {"dataset": _text, "channel": _text, "fingerprint": _text}

SCHEMAS: dict[TableName, pa.Schema] = {
    "catalog": _schema(
        _FEATURE_SET_KEY
        | {"sample_id": _text, "part": _text, "row0": _whole, "row1": _whole, "nbytes": _whole}
        | {"crc32c": _whole, "op": _text, "commit_seq": _whole},
        {"duration": _real, "fps": _real, "n_frames": _whole, "source_hash": _text, "attributes": _text},
    ),
    "samples": _schema(
        {"dataset": _text, "sample_id": _text, "media": _text, "commit_seq": _whole},
        {"split": _text, "duration": _real, "fps": _real, "n_frames": _whole}
        | {"audio_streams": _whole, "source_hash": _text, "error": _text},
    ),
    "instructions": _schema(
        {"dataset": _text, "instruction_id": _text, "sample_id": _text, "split": _text}
        | {"question_type": _text, "question": _text, "answer": _text, "commit_seq": _whole},
        {"chance": _real, "history": _text, "accepted_answers": _text, "attributes": _text},
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
    "retention": _schema(
        {"event": _text, "name": _text, "version": _whole, "time": _time, "commit_seq": _whole}, {}
    ),
}

_log = logging.getLogger(__name__)
_TREE_DRAWING = re.compile("\x1b\\[[0-9;]*m|\u21b3")
_CHECKPOINT_INTERVAL = 100
# What comes after a commit has landed must not make it look like one that failed.
_NOTHING_AFTER = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
_FEW_FILES = 16
_MAX_ATTEMPTS = 1000
_LONGEST_PAUSE_SECONDS = 0.25


def create_tables(location: Location) -> None:
    """Makes the tables that are not there yet, empty; several processes may race here."""
    with ThreadPoolExecutor() as threads:  # an object store takes its time to answer
        list(threads.map(lambda name: _create_table(location, name), SCHEMAS))


def _create_table(location: Location, name: TableName) -> None:
    try:
        DeltaTable.create(
            location.table_url(name),
            SCHEMAS[name],
            mode="ignore",
            # Old snapshots must stay readable for as long as the store lives.
            configuration={"delta.enableExpiredLogCleanup": "false"},
            storage_options=location.table_options(),
            # A retry would write the table's metadata a second time, under the feet of committers.
            commit_properties=CommitProperties(max_commit_retries=0),
        )
    except CommitFailedError:
        _open(location, name)  # lost the race: the other process made the table
    except (DeltaError, OSError) as error:
        raise _table_error("create", location, name, error) from error
    if location.folder is not None:
        sync_path(location.folder / name / "_delta_log")


def latest_version(location: Location, name: TableName) -> int:
    """Newest version of the table."""
    return int(_open(location, name).version())


def version_at(location: Location, name: TableName, moment: datetime) -> int:
    """The version that was the newest at a moment, 0 when the table was not there yet.

    Object stores keep times in whole seconds, so versions of one second are told apart in files only.
    """
    table = _open(location, name)
    try:
        table.load_as_version(moment)
    except (DeltaError, OSError) as error:
        raise _table_error("read", location, name, error) from error
    return int(table.version())


def commit_times(location: Location, name: TableName, limit: int) -> dict[int, datetime]:
    """The newest versions of the table and when (UTC) each was committed, newest first."""
    table = _open(location, name)
    try:
        entries = table.history(limit)
    except (DeltaError, OSError) as error:
        raise _table_error("read", location, name, error) from error
    return {
        int(entry["version"]): datetime.fromtimestamp(entry["timestamp"] / 1000, tz=UTC) for entry in entries
    }


def append(location: Location, name: TableName, rows: Rows | Callable[[int], Rows]) -> int:
    """Appends rows in one transaction and returns its version; safe with other committers.

    `commit_seq` is filled in here where the table has it. The transaction is durable when this returns.

    Args:
        rows: with the table's columns but `commit_seq`; or a function of the newest version that makes them,
            called again whenever another commit came in between. No rows from it: no commit.
    """
    if location.folder is not None and not os.access(location.folder / name / "_delta_log", os.W_OK):
        # delta-rs would find out in a thread of its own, which panics on stderr
        raise _table_error("append to", location, name, PermissionError("permission denied"))
    table = _open(location, name)
    for attempt in range(_MAX_ATTEMPTS):
        seen = int(table.version())
        columns = _columns(name, rows(seen) if callable(rows) else rows, seen + 1)
        if not len(columns) and callable(rows):
            return seen
        try:
            write_deltalake(
                table,
                columns,
                mode="append",
                # A retry of delta-rs would land on a later version than `commit_seq` says.
                commit_properties=CommitProperties(max_commit_retries=0),
                post_commithook_properties=_NOTHING_AFTER,
            )
        except (DeltaError, OSError) as error:
            table = _open(location, name)
            if not isinstance(error, CommitFailedError) or table.version() == seen:
                raise _table_error("append to", location, name, error) from error
            time.sleep(random.uniform(0, min(_LONGEST_PAUSE_SECONDS, 0.002 * 2 ** min(attempt, 10))))
            continue
        _make_durable(location, name, seen + 1)
        _make_checkpoint(location, name, table)
        return seen + 1
    raise StoreError(
        f"the table {location.table_url(name)} is too busy: {_MAX_ATTEMPTS} commits met others; try again"
    )


def read(
    location: Location,
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
    files = data_files(location, name, version)
    try:
        if files:
            return _read_files(files, name, chosen, where or {})
        return _scan(_open(location, name, version), name, chosen, where or {})
    except (DeltaError, OSError, duckdb.Error) as error:
        raise _table_error("read", location, name, error) from error


def _read_files(files: list[str], name: TableName, columns: list[str], where: Mapping[str, str]) -> pa.Table:
    """Rows of local files, in half the time of delta-rs."""
    wanted = " AND ".join(f"{column} = '{value}'" for column, value in where.items()) or "true"
    sql = f"SELECT {', '.join(columns)} FROM {rows_of_files(name, files)} WHERE {wanted}"
    with duckdb.connect(":memory:") as connection:
        rows = connection.sql(sql).to_arrow_table()
    return rows.cast(pa.schema([SCHEMAS[name].field(column) for column in columns]))


def rows_of_files(name: TableName, files: Sequence[str]) -> str:
    """SQL for the rows in these files of a table; columns that older files do not have are null."""
    typed = ", ".join(f"NULL::{_SQL_TYPES[field.type]} AS {field.name}" for field in SCHEMAS[name])
    paths = ", ".join("'" + path.replace("'", "''") + "'" for path in files)
    return (
        f"(SELECT {typed} WHERE false UNION ALL BY NAME FROM read_parquet([{paths}], union_by_name = true))"
    )


def _scan(table: DeltaTable, name: TableName, columns: list[str], where: Mapping[str, str]) -> pa.Table:
    """Rows of a table anywhere, through delta-rs."""
    there = {field.name for field in table.schema().fields}
    predicate = " AND ".join(f"{column} = '{value}'" for column, value in where.items())
    reader = table.scan(
        columns=[column for column in columns if column in there], predicate=predicate or None
    )
    rows = pa.table(reader)
    for column in columns:
        if column not in there:  # a version from before the column was added
            rows = rows.append_column(column, pa.nulls(len(rows), SCHEMAS[name].field(column).type))
    # delta-rs hands out string views, which pyarrow cannot sort
    return rows.select(columns).cast(pa.schema([SCHEMAS[name].field(column) for column in columns]))


def add_new_columns(location: Location, name: TableName) -> None:
    """Adds the columns that an older format did not have; rows that are there have no value in them."""
    table = _open(location, name)
    there = {field.name for field in table.schema().fields}
    new = [field for field in Schema.from_arrow(SCHEMAS[name]).fields if field.name not in there]
    if new:
        try:
            table.alter.add_columns(new)
        except (DeltaError, OSError) as error:
            raise _table_error("change", location, name, error) from error


def data_files(location: Location, name: TableName, version: int | None = None) -> list[str] | None:
    """Paths of the Parquet files that hold the table's rows, each row once, for DuckDB to read.

    None in an object store, and where DuckDB would take the folder's name for a pattern. Files from before a
    column was added do not have it.
    """
    if location.folder is None or set(str(location.folder)) & set("*?["):
        return None
    # the folders are percent-encoded in these; the tables have no partitions, so the names are all that is needed
    uris = _open(location, name, version).file_uris()
    return [str(location.folder / name / uri.rpartition("/")[2]) for uri in uris]


def merge_small_files(location: Location, name: TableName) -> None:
    """Rewrites the table's small files into few, where there are many; versions before keep theirs."""
    table = _open(location, name)
    if len(table.file_uris()) <= _FEW_FILES:
        return
    try:
        merged = table.optimize.compact(post_commithook_properties=_NOTHING_AFTER)
    except (DeltaError, OSError) as error:
        raise _table_error("compact", location, name, error) from error
    if merged["numFilesAdded"]:
        _make_durable(location, name, int(table.version()))
        _make_checkpoint(location, name, table)


def _columns(name: TableName, rows: Rows, commit_seq: int) -> pa.Table:
    schema = SCHEMAS[name]
    given = pa.schema([field for field in schema if field.name != "commit_seq"])
    table = pa.Table.from_pylist(list(rows), schema=given) if isinstance(rows, Sequence) else rows
    if "commit_seq" in schema.names:
        seen = pa.array([commit_seq] * len(table), pa.int64())
        table = table.append_column(schema.field("commit_seq"), seen)
    return table.select(schema.names)


def _open(location: Location, name: TableName, version: int | None = None) -> DeltaTable:
    try:
        return DeltaTable(location.table_url(name), version=version, storage_options=location.table_options())
    except (DeltaError, OSError) as error:
        raise _table_error("open", location, name, error) from error


def _make_durable(location: Location, name: TableName, version: int) -> None:
    """fsync of the data files that the transaction added, then of its log entry."""
    if location.folder is None:
        return
    table = Path(location.folder, name)
    entry = table / "_delta_log" / f"{version:020d}.json"
    for line in entry.read_text().splitlines():
        action = json.loads(line)
        if "add" in action:
            sync_path(table / action["add"]["path"])
    for path in (table, entry, entry.parent):
        sync_path(path)


def _make_checkpoint(location: Location, name: TableName, table: DeltaTable) -> None:
    """Sums up the log every so many versions, so that opening the table stays quick.

    Only a warning when that fails: the commit is done, and the next checkpoint makes up for this one.
    """
    interval = table.metadata().configuration.get("delta.checkpointInterval", _CHECKPOINT_INTERVAL)
    if table.version() % int(interval):
        return
    try:
        table.create_checkpoint()
    except (DeltaError, OSError) as error:
        _log.warning("%s", _table_error("make a checkpoint of", location, name, error))


def _table_error(verb: str, location: Location, name: str, error: Exception) -> StoreError:
    # delta-rs draws some errors as a coloured tree, with the cause in its last line
    reason = " ".join(_TREE_DRAWING.sub("", str(error)).split()) or type(error).__name__
    return StoreError(
        f"cannot {verb} the table {location.table_url(name)}: {reason}; "
        "check that the store is whole and writable and that there is free space"
    )
