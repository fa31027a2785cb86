"""SQL over the tables of a store, read-only and closed off from everything else.

Views: `features` (the newest row of each sample in the snapshot, with its feature set and split), `samples` and
`instructions` (the newest row of each), `feature_sets`, `failures` (every failed attempt).
"""

from collections.abc import Sequence

import duckdb
import pyarrow as pa

from store import catalog
from store.errors import QueryError
from store.location import Location
from store.manifest_rows import ROW_NAMES
from store.newest import newest
from store.snapshot import Snapshot

_NEWEST_FEATURES = newest(
    "catalog_rows", ("dataset", "channel", "fingerprint", "sample_id"), "commit_seq DESC, part DESC"
)

_VIEWS = f"""
CREATE VIEW samples AS SELECT * EXCLUDE (commit_seq) FROM (
    {newest("samples_rows", ROW_NAMES["samples"])}
);
CREATE VIEW instructions AS SELECT * EXCLUDE (commit_seq) FROM (
    {newest("instructions_rows", ROW_NAMES["instructions"])}
);
CREATE VIEW feature_sets AS SELECT DISTINCT * FROM feature_sets_rows;
CREATE VIEW failures AS SELECT * FROM failures_rows;
CREATE VIEW features AS
SELECT l.dataset, l.channel, l.fingerprint, f.extractor, f.version, f.rate_hz, l.sample_id, s.split,
       l.row1 - l.row0 AS steps, l.nbytes, l.duration, l.fps, l.n_frames, l.source_hash, l.attributes,
       l.part, l.row0, l.row1, l.crc32c, l.commit_seq
FROM ({_NEWEST_FEATURES}) l
LEFT JOIN feature_sets f USING (dataset, channel, fingerprint)
LEFT JOIN samples s USING (dataset, sample_id)
WHERE l.op = 'put'
"""
_TABLES: tuple[catalog.TableName, ...] = ("catalog", "samples", "instructions", "feature_sets", "failures")


def run_query(snapshot: Snapshot, sql: str, parameters: Sequence[object] = ()) -> pa.Table:
    """The result of one SELECT-like statement over the views; it can reach no other file and no variable.

    `parameters` take the places of the `?` in it.

    Raises QueryError, in one line, for SQL that is wrong or does anything but read.
    """
    with duckdb.connect(":memory:", config={"python_enable_replacements": "false"}) as connection:
        _add_tables(connection, snapshot)
        connection.execute(_VIEWS)
        connection.execute("SET lock_configuration = true")
        try:
            statements = connection.extract_statements(sql)
            if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
                raise QueryError(
                    "only one SELECT statement may be run here; the store is changed through Python"
                )
            return connection.sql(sql, params=list(parameters) or None).to_arrow_table()
        except duckdb.Error as error:
            raise QueryError(_one_line(error)) from error


def _add_tables(connection: "duckdb.DuckDBPyConnection", snapshot: Snapshot) -> None:
    """Makes the relation `TABLE_rows` for each table, and closes the connection off from all other files."""
    versions = {name: snapshot.version if name == "catalog" else None for name in _TABLES}
    files = {name: _readable_files(snapshot.location, name, version) for name, version in versions.items()}
    connection.execute(f"SET allowed_paths = {_list([path for paths in files.values() for path in paths])}")
    connection.execute("SET enable_external_access = false")
    for name, version in versions.items():
        if files[name]:
            rows = catalog.rows_of_files(name, files[name])
            connection.execute(f"CREATE VIEW {name}_rows AS FROM {rows}")
        else:
            connection.register(f"{name}_rows", catalog.read(snapshot.location, name, version=version))


def _readable_files(location: Location, name: catalog.TableName, version: int | None) -> list[str]:
    """The Parquet files of a table, for DuckDB to read itself; none where the rows have to come through Arrow.

    DuckDB reads only the columns and rows that it needs, in a fifth of the time.
    """
    return catalog.data_files(location, name, version) or []


def _list(paths: list[str]) -> str:
    """An SQL list of texts."""
    return "[" + ", ".join("'" + path.replace("'", "''") + "'" for path in paths) + "]"


def _one_line(error: duckdb.Error) -> str:
    """DuckDB's message and its hint, without the excerpt of the statement that follows."""
    message = str(error).partition("\n\nLINE ")[0]
    return " ".join(message.split())
