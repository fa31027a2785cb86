"""Catalog rows that a readable version sees, and what differs between two versions."""

from collections.abc import Mapping
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from store import catalog
from store.location import Location
from store.retention import Retention, read_retention

# A row is seen by the versions from its commit up to the next row of the same sample.
_SPANS = """
SELECT *, lead(commit_seq) OVER (
    PARTITION BY dataset, channel, fingerprint, sample_id ORDER BY commit_seq, part
) AS until FROM catalog_rows
"""


@dataclass(frozen=True)
class KeptRows:
    """The `put` rows that some readable version sees.

    Attributes:
        rows: catalog rows, sorted by part and row0.
        version: the catalog version at which they were read.
        retention: which versions were readable.
    """

    rows: pa.Table
    version: int
    retention: Retention


def kept_rows(location: Location, retention: Retention | None = None) -> KeptRows:
    """The rows that the readable versions need; None for what is readable now."""
    retention = retention or read_retention(location)
    version = catalog.latest_version(location, "catalog")
    seen = f"until IS NULL OR (until > {retention.oldest} AND until > commit_seq)"
    for tagged in retention.versions_before:
        seen += f" OR (commit_seq <= {tagged} AND until > {tagged})"
    rows = _select(
        catalog.read(location, "catalog", version=version),
        f"""SELECT * EXCLUDE (until) FROM ({_SPANS}) WHERE op = 'put' AND ({seen}) ORDER BY part, row0""",
    )
    return KeptRows(rows, version, retention)


def newest_rows(location: Location, version: int, where: Mapping[str, str]) -> pa.Table:
    """The `put` rows that a version sees, sorted by part and row0.

    Args: where: column -> safe name (see `check_name`) that it must equal.
    """
    return _select(
        catalog.read(location, "catalog", version=version, where=where),
        f"SELECT * EXCLUDE (until) FROM ({_SPANS}) WHERE op = 'put' AND until IS NULL ORDER BY part, row0",
    )


def committed_twice(location: Location, version: int) -> pa.Table:
    """part and sample_id of rows that are there more than once: one commit named a sample of a part twice."""
    return _select(
        catalog.read(location, "catalog", version=version),
        """SELECT part, sample_id FROM catalog_rows WHERE op = 'put'
        GROUP BY dataset, channel, fingerprint, sample_id, part, commit_seq HAVING count(*) > 1 ORDER BY ALL""",
    )


def changes(location: Location, before: int, after: int) -> pa.Table:
    """What happened to samples between two versions, in either direction.

    Returns: dataset, channel, fingerprint, sample_id, change ('added', 'removed', or 'replaced' when the
    stored numbers differ), source_hash_before and source_hash_after of the media, sorted. A sample that was
    only moved to another part has not changed.
    """
    rows = catalog.read(location, "catalog", version=max(before, after))
    key = "dataset, channel, fingerprint, sample_id"
    at = f"SELECT * FROM ({_SPANS}) WHERE op = 'put' AND commit_seq <= {{0}} AND (until IS NULL OR until > {{0}})"
    return _select(
        rows,
        f"""
        WITH old AS ({at.format(before)}), new AS ({at.format(after)})
        SELECT {key},
               CASE WHEN old.part IS NULL THEN 'added' WHEN new.part IS NULL THEN 'removed' ELSE 'replaced' END
                   AS change,
               old.source_hash AS source_hash_before, new.source_hash AS source_hash_after
        FROM old FULL JOIN new USING ({key})
        WHERE old.part IS NULL OR new.part IS NULL OR (old.crc32c, old.nbytes) != (new.crc32c, new.nbytes)
        ORDER BY {key}
        """,
    )


def _select(rows: pa.Table, sql: str) -> pa.Table:
    with duckdb.connect(":memory:") as connection:
        connection.register("catalog_rows", rows)
        return connection.sql(sql).to_arrow_table()
