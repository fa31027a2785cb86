"""The feature store: opening, writing, committing, reading and upkeep. See `store` for the model."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from store import catalog, marker, retention
from store.compact import CompactReport, compact_store
from store.errors import (
    StoreError,
    StoreFormatError,
    StoreNotFoundError,
    UnknownFeatureSetError,
)
from store.features import FeatureSetRecord, check_name
from store.kept_rows import changes
from store.location import Location, location_of
from store.manifest_rows import manifest_table, news
from store.part_layout import PARTS
from store.part_writer import PartWriter
from store.query import run_query
from store.records import FailureRow, InstructionRow, PartRecord, SampleRow
from store.snapshot import Snapshot, pinned, registered_feature_sets
from store.vacuum import VacuumReport, vacuum_store
from store.verify import VerifyReport, verify_store

_PART_BYTES = 128 * 1024 * 1024


class FeatureStore:
    """A store in one place; made by `FeatureStore.open`.

    It holds nothing but the place's address: it pickles, and processes and threads may use it at once. Only
    reading through a `FeatureSet` is allowed in a forked child.

    Attributes:
        location: where it is.
    """

    def __init__(self, location: Location) -> None:
        self.location = location

    @property
    def url(self) -> str:
        """What `open` takes to come here."""
        return self.location.url

    @classmethod
    def open(cls, url: str | Path, create: bool = True) -> "FeatureStore":
        """Opens the store at a place, making it first where there is none.

        Args: url: a path or file:// URL; memory://NAME, which is gone when the process ends; or
            s3://BUCKET/PREFIX.

        Raises StoreNotFoundError when there is none and `create` is false, StoreFormatError for a newer or
        older format or a folder with other files in it, StoreError for other URLs and places not writable.
        """
        location = location_of(url)
        try:
            marker.check_current(location)
        except StoreNotFoundError:
            if not create:
                raise
            _create(location)
            marker.check_current(location)
        return cls(location)

    def register(self, record: FeatureSetRecord) -> None:
        """Makes a feature set known, before its parts are committed; again is harmless.

        Raises LayoutConflictError when its fingerprint is registered with another layout.
        """

        def row(_: int) -> list[dict[str, Any]]:
            registered = registered_feature_sets(self.location).get(
                (record.dataset, record.channel, record.fingerprint)
            )
            if registered is None:
                return [record.to_row()]
            registered.check_same_layout(record)
            return []

        catalog.append(self.location, "feature_sets", row)

    def writer(self, record: FeatureSetRecord, durable: bool = True) -> PartWriter:
        """A writer of one new part of the feature set; see `PartWriter`."""
        return PartWriter(self.location, record, durable)

    def commit(self, records: Sequence[PartRecord]) -> int:
        """Makes finished parts visible, all in one transaction; returns the new catalog version.

        Durable when it returns, and safe with other committers. With no rows it returns the newest version.

        Of a sample that is in several of the parts, the newest part's features win.

        Raises UnknownFeatureSetError for a feature set that is not registered, StoreError for a part that is
        not in this store or a table that cannot be written; nothing is committed then.
        """
        registered = registered_feature_sets(self.location)
        filled = [record for record in records if record.rows]
        for record in filled:
            if (record.dataset, record.channel, record.fingerprint) not in registered:
                raise UnknownFeatureSetError(
                    f"the feature set of {record.part} is not registered; call store.register(...) first"
                )
            if not self._holds(record.part):
                raise StoreError(
                    f"there is no part {record.part} in {self.url}; write it with store.writer(...)"
                )
        rows = [
            {
                "dataset": record.dataset,
                "channel": record.channel,
                "fingerprint": record.fingerprint,
                **asdict(row),
            }
            for record in filled
            for row in record.rows
        ]
        if not filled:
            return catalog.latest_version(self.location, "catalog")
        return catalog.append(self.location, "catalog", rows)

    def record_failures(self, rows: Sequence[FailureRow]) -> None:
        """Appends failed samples to the `failures` table; the rows of earlier attempts stay."""
        if rows:
            catalog.append(self.location, "failures", [asdict(row) for row in rows])

    def known_failures(self, dataset: str, channel: str, fingerprint: str) -> dict[str, FailureRow]:
        """The newest failure of each sample of the feature set, by sample id.

        A sample that was done later is still here: ask `FeatureSet.missing` first.
        """
        where = {"dataset": dataset, "channel": channel, "fingerprint": fingerprint}
        for kind, name in where.items():
            check_name(kind, name)
        rows = catalog.read(self.location, "failures", where=where).sort_by([("time", "ascending")])
        return {row["sample_id"]: FailureRow(**row) for row in rows.to_pylist()}

    def add_samples(self, rows: pa.Table | Sequence[SampleRow]) -> int:
        """Appends the samples that are new or have changed; returns how many that were.

        Args: rows: a table with exactly the columns of `SampleRow`, or such rows.

        Raises StoreError for other columns or types, SampleIdError for an empty or repeated id.
        """
        return self._add("samples", manifest_table("samples", rows))

    def add_instructions(self, rows: pa.Table | Sequence[InstructionRow]) -> int:
        """Appends the instructions that are new or have changed; returns how many that were.

        Args: rows: a table with exactly the columns of `InstructionRow`, or such rows.

        Raises StoreError for other columns or types, SampleIdError for an empty or repeated id.
        """
        return self._add("instructions", manifest_table("instructions", rows))

    def snapshot(
        self, version: int | None = None, *, at: datetime | None = None, tag: str | None = None
    ) -> Snapshot:
        """The store at one catalog version; the newest without arguments.

        Args:
            at: take the version that was the newest at that moment (local time without a time zone).
            tag: take the version of that name.

        Raises StoreError for a version or tag that is not there or was vacuumed, and for several arguments.
        """
        if sum(given is not None for given in (version, at, tag)) > 1:
            raise StoreError("a snapshot is named by a version, a moment or a tag; give one of them")
        if at is not None:
            version = catalog.version_at(self.location, "catalog", at.astimezone())
        if tag is not None:
            version = retention.tagged_version(self.location, tag)
        return pinned(self.location, version)

    def tag(self, name: str, version: int | None = None) -> int:
        """Names a catalog version, None for the newest, and returns it; no vacuum breaks it from then on.

        Raises UnsafeNameError for a name that cannot be a file's, StoreError for a name that another version
        has and a version that is not there or was vacuumed.
        """
        version = pinned(self.location, version).version
        retention.add_tag(self.location, name, version)
        return version

    def untag(self, name: str) -> None:
        """Takes a tag away; raises StoreError for an unknown one."""
        retention.remove_tag(self.location, name)

    def tags(self) -> dict[str, retention.Tag]:
        """The tags by name."""
        return retention.read_retention(self.location).tags

    def commits(self, limit: int = 100) -> dict[int, datetime]:
        """The newest catalog versions and when (UTC) each was committed, newest first."""
        return catalog.commit_times(self.location, "catalog", limit)

    def query(self, sql: str, version: int | None = None, parameters: Sequence[object] = ()) -> pa.Table:
        """The result of one SELECT over the views `features`, `samples`, `instructions`, `feature_sets`, `failures`.

        Args:
            version: the catalog version that `features` shows, None for the newest.
            parameters: the values of the `?` in it, so that text from outside is never part of the SQL.

        Raises QueryError, in one line, for SQL that is wrong or does anything but read.
        """
        return run_query(self.snapshot(version), sql, parameters)

    def verify(self, progress: Callable[[int, int], None] | None = None) -> VerifyReport:
        """Reads every byte that a readable version sees and checks it. Safe while others write.

        Args: progress: called with the samples done and their number.
        """
        return verify_store(self.location, progress)

    def diff(self, before: int, after: int) -> pa.Table:
        """What happened to samples between two catalog versions.

        Returns: dataset, channel, fingerprint, sample_id, change ('added', 'removed' or 'replaced'),
        source_hash_before, source_hash_after. A sample that was only moved to another part has not changed.

        Raises StoreError for a version that is not there.
        """
        newest = catalog.latest_version(self.location, "catalog")
        for version in (before, after):
            if not 0 <= version <= newest:
                raise StoreError(f"{self.url} has no catalog version {version}; name one from 0 to {newest}")
        return changes(self.location, before, after)

    def compact(
        self, target_bytes: int = _PART_BYTES, progress: Callable[[int, int], None] | None = None
    ) -> CompactReport:
        """Makes big parts of small ones; readers and writers go on undisturbed. See `CompactReport`.

        Args:
            target_bytes: size of the new parts; parts of less than half of it are merged.
            progress: called with the samples done and their number.
        """
        return compact_store(self.location, target_bytes, progress)

    def vacuum(self, grace: timedelta = timedelta(days=7), dry_run: bool = True) -> VacuumReport:
        """Removes the parts that nobody needs, or says which. See `VacuumReport`.

        Args:
            grace: versions that were the newest within this time stay readable, and parts that are not
                committed yet stay. Every reader and writer that began within it is undisturbed.
            dry_run: change nothing.

        Raises StoreError for a negative time, and where a part cannot be removed.
        """
        return vacuum_store(self.location, grace, dry_run)

    def _add(self, name: catalog.TableName, table: pa.Table) -> int:
        num_new = 0

        def rows(version: int) -> pa.Table:
            nonlocal num_new
            fresh = news(name, catalog.read(self.location, name, version=version), table)
            num_new = len(fresh)
            return fresh

        catalog.append(self.location, name, rows)
        return num_new

    def _holds(self, part: str) -> bool:
        try:
            return self.location.exists(part)
        except OSError as error:
            raise StoreError(f"cannot look at {part} of {self.url}: {error.strerror}; try again") from error


def open_store(url: str | Path, create: bool = True) -> FeatureStore:
    """The same as `FeatureStore.open`."""
    return FeatureStore.open(url, create)


def _create(location: Location) -> None:
    """Makes folders and tables, and the marker last, so that a killed creation is simply done again."""
    try:
        foreign = [name for name in location.names() if name not in (*catalog.SCHEMAS, PARTS)]
        # another process may have finished the same creation since the caller looked
        if foreign and foreign != [marker.MARKER]:
            raise StoreFormatError(
                f"{location.url} is no store but has other files in it, such as {foreign[0]!r}; "
                "give an empty folder"
            )
        location.make()
        catalog.create_tables(location)
        marker.write_marker(location)
    except OSError as error:
        raise StoreError(
            f"cannot open a store at {location.url}: {error.strerror}; choose a folder that you may write to"
        ) from error
