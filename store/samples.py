"""Which rows of a manifest are news to the samples table."""

from collections.abc import Sequence
from dataclasses import asdict

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from store.catalog import SCHEMAS
from store.errors import SampleIdError, StoreError
from store.features import check_name
from store.query import LATEST_SAMPLES
from store.records import SampleRow

_SCHEMA = pa.schema([field for field in SCHEMAS["samples"] if field.name != "commit_seq"])


def sample_table(rows: pa.Table | Sequence[SampleRow]) -> pa.Table:
    """The rows as a table with the columns of `SampleRow`, checked.

    Raises StoreError for other columns or types, SampleIdError for an empty or repeated id, UnsafeNameError
    for a dataset that cannot be a folder name.
    """
    if not isinstance(rows, pa.Table):
        rows = pa.Table.from_pylist([asdict(row) for row in rows], schema=_SCHEMA)
    if set(rows.column_names) != set(_SCHEMA.names):
        raise StoreError(
            f"samples have columns {sorted(rows.column_names)}; give exactly {sorted(_SCHEMA.names)}"
        )
    try:
        table = rows.select(_SCHEMA.names).cast(_SCHEMA)
    except (pa.ArrowInvalid, ValueError) as error:
        raise StoreError(f"samples do not fit the table: {' '.join(str(error).split())}") from error
    for dataset in table["dataset"].unique().to_pylist():
        check_name("dataset", dataset)
    if pc.any(pc.equal(table["sample_id"], "")).as_py():
        raise SampleIdError("", "a sample id is text and not empty; name the sample")
    counts = table.group_by(["dataset", "sample_id"]).aggregate([([], "count_all")])
    repeated = counts.filter(pc.greater(counts["count_all"], 1))
    if len(repeated):
        first = repeated.slice(0, 1).to_pylist()[0]
        raise SampleIdError(
            first["sample_id"],
            f"comes {first['count_all']} times in dataset {first['dataset']}; list it once",
        )
    return table


def news(known: pa.Table, samples: pa.Table) -> pa.Table:
    """The rows of `samples` (from `sample_table`) that are not in `known`, or differ from the newest there.

    Args: known: all rows of the samples table, `commit_seq` included.
    """
    columns = ", ".join(_SCHEMA.names)
    with duckdb.connect(":memory:") as connection:
        connection.register("known", known)
        connection.register("given", samples)
        # EXCEPT treats two NULLs as equal
        latest = LATEST_SAMPLES.format(rows="known")
        changed = connection.sql(f"SELECT {columns} FROM given EXCEPT SELECT {columns} FROM ({latest})")
        return changed.to_arrow_table().cast(_SCHEMA)
