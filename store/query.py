"""SQL over the store's tables, with DuckDB.

Views: `features` (the samples that have features in the snapshot, with their feature set and split),
`samples` and `instructions` (the newest row of each), `feature_sets`, `failures` (every failed attempt).
"""

import duckdb
import pyarrow as pa

from store import catalog
from store.errors import QueryError
from store.manifest_rows import newest
from store.snapshot import Snapshot

_VIEWS = f"""
CREATE VIEW samples AS {newest("samples", "sample_rows")};
CREATE VIEW instructions AS {newest("instructions", "instruction_rows")};
CREATE VIEW feature_sets AS SELECT DISTINCT * FROM feature_set_rows;
CREATE VIEW failures AS SELECT * FROM failure_rows;
CREATE VIEW features AS
WITH latest AS (
    SELECT * FROM catalog_rows
    QUALIFY row_number() OVER (
        PARTITION BY dataset, channel, fingerprint, sample_id ORDER BY commit_seq DESC, part DESC
    ) = 1
)
SELECT l.dataset, l.channel, l.fingerprint, f.extractor, f.version, f.rate_hz, l.sample_id, s.split,
       l.row1 - l.row0 AS steps, l.nbytes, l.duration, l.fps, l.n_frames, l.source_hash, l.attributes,
       l.part, l.row0, l.row1, l.crc32c, l.commit_seq
FROM latest l
LEFT JOIN feature_sets f USING (dataset, channel, fingerprint)
LEFT JOIN samples s USING (dataset, sample_id)
WHERE l.op = 'put'
"""


def run_query(snapshot: Snapshot, sql: str) -> pa.Table:
    """The result of one SELECT-like statement over the views; the connection can reach no file.

    Raises QueryError, in one line, for SQL that is wrong or does anything but read.
    """
    with duckdb.connect(":memory:", config={"enable_external_access": "false"}) as connection:
        location = snapshot.location
        connection.register("catalog_rows", catalog.read(location, "catalog", version=snapshot.version))
        connection.register("sample_rows", catalog.read(location, "samples"))
        connection.register("instruction_rows", catalog.read(location, "instructions"))
        connection.register("feature_set_rows", catalog.read(location, "feature_sets"))
        connection.register("failure_rows", catalog.read(location, "failures"))
        connection.execute(_VIEWS)
        connection.execute("SET lock_configuration = true")
        try:
            statements = connection.extract_statements(sql)
            if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
                raise QueryError(
                    "only one SELECT statement may be run here; the store is changed through Python"
                )
            return connection.sql(sql).to_arrow_table()
        except duckdb.Error as error:
            raise QueryError(_one_line(error)) from error


def _one_line(error: duckdb.Error) -> str:
    """DuckDB's message and its hint, without the excerpt of the statement that follows."""
    message = str(error).partition("\n\nLINE ")[0]
    return " ".join(message.split())
