"""Rows that come from a manifest: samples and instructions, and which of them are news to the store."""

from collections.abc import Sequence
from dataclasses import asdict

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from store.catalog import SCHEMAS, TableName
from store.errors import SampleIdError, StoreError
from store.features import check_name
from store.newest import newest
from store.records import InstructionRow, SampleRow

# What names a row of each table; a newer row of the same name supersedes it.
ROW_NAMES: dict[TableName, tuple[str, str]] = {
    "samples": ("dataset", "sample_id"),
    "instructions": ("dataset", "instruction_id"),
}


def manifest_table(
    name: TableName, rows: pa.Table | Sequence[SampleRow] | Sequence[InstructionRow]
) -> pa.Table:
    """The rows as a table with the columns of `SampleRow` or `InstructionRow`, checked.

    Raises StoreError for other columns or types, SampleIdError for an empty or repeated id, UnsafeNameError
    for a dataset that cannot be a folder name.
    """
    schema = _given_schema(name)
    if not isinstance(rows, pa.Table):
        rows = pa.Table.from_pylist([asdict(row) for row in rows], schema=schema)
    if set(rows.column_names) != set(schema.names):
        raise StoreError(
            f"{name} have columns {sorted(rows.column_names)}; give exactly {sorted(schema.names)}"
        )
    try:
        table = rows.select(schema.names).cast(schema)
    except (pa.ArrowInvalid, ValueError) as error:
        raise StoreError(f"{name} do not fit the table: {' '.join(str(error).split())}") from error
    for dataset in table["dataset"].unique().to_pylist():
        check_name("dataset", dataset)
    for column in ("sample_id", ROW_NAMES[name][1]):
        if pc.any(pc.equal(table[column], "")).as_py():
            raise SampleIdError("", f"{column} is text and not empty; give one")
    counts = table.group_by(list(ROW_NAMES[name])).aggregate([([], "count_all")])
    repeated = counts.filter(pc.greater(counts["count_all"], 1))
    if len(repeated):
        first = repeated.slice(0, 1).to_pylist()[0]
        raise SampleIdError(
            first[ROW_NAMES[name][1]],
            f"comes {first['count_all']} times in dataset {first['dataset']}; list it once",
        )
    return table


def news(name: TableName, known: pa.Table, given: pa.Table) -> pa.Table:
    """The rows of `given` (from `manifest_table`) that are not in `known`, or differ from the newest there.

    Args: known: all rows of the store's table, `commit_seq` included.
    """
    schema = _given_schema(name)
    columns = ", ".join(schema.names)
    with duckdb.connect(":memory:") as connection:
        connection.register("known", known)
        connection.register("given", given)
        # EXCEPT treats two NULLs as equal
        changed = connection.sql(
            f"SELECT {columns} FROM given EXCEPT SELECT {columns} FROM ({newest('known', ROW_NAMES[name])})"
        )
        return changed.to_arrow_table().cast(schema)


def _given_schema(name: TableName) -> pa.Schema:
    return pa.schema([field for field in SCHEMAS[name] if field.name != "commit_seq"])
