"""The feature store: opening, writing, committing and reading. See `store` for the model."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pyarrow as pa

from store import catalog
from store.durable import sync_path
from store.errors import StoreError, StoreFormatError, StoreNotFoundError, UnknownFeatureSetError
from store.features import FeatureSetRecord, check_name
from store.part_layout import PARTS, time_ordered_uuid
from store.part_writer import PartWriter
from store.query import run_query
from store.records import FailureRow, PartRecord, SampleRow
from store.samples import news, sample_table
from store.snapshot import Snapshot, pinned, registered_feature_sets
from store.verify import VerifyReport, verify_store

_MARKER = "store.json"
_FORMAT = "pave-feature-store"
_FORMAT_VERSION = 1


class FeatureStore:
    """A store in a local folder; made by `FeatureStore.open`.

    It holds nothing but the folder's path: it pickles, and processes and threads may use it at once. Only
    reading through a `FeatureSet` is allowed in a forked child.

    Attributes:
        root: absolute path of the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def open(cls, url: str | Path, create: bool = True) -> "FeatureStore":
        """Opens the store at a folder (a path or file:// URL), making it first where there is none.

        Raises StoreNotFoundError when there is none and `create` is false, StoreFormatError for a newer
        format or a folder with other files in it, StoreError for other URLs and places not writable.
        """
        root = _local_path(url)
        try:
            if root.exists() and not root.is_dir():
                raise StoreError(f"{root} is a file; give the store a folder of its own")
            if not (root / _MARKER).exists():
                if not create:
                    raise StoreNotFoundError(
                        f"there is no feature store at {root}; check the path or extract first"
                    )
                _create(root)
            _check_format(root / _MARKER)
        except OSError as error:
            raise StoreError(
                f"cannot open a store at {root}: {error.strerror}; choose a folder that you may write to"
            ) from error
        return cls(root)

    def register(self, record: FeatureSetRecord) -> None:
        """Makes a feature set known, before its parts are committed; again is harmless.

        Raises LayoutConflictError when its fingerprint is registered with another layout.
        """
        registered = registered_feature_sets(self.root).get(
            (record.dataset, record.channel, record.fingerprint)
        )
        if registered is None:
            catalog.append(self.root, "feature_sets", [record.to_row()])
        else:
            registered.check_same_layout(record)

    def writer(self, record: FeatureSetRecord) -> PartWriter:
        """A writer of one new part of the feature set; raises StoreError where it cannot be written."""
        return PartWriter(self.root, record)

    def commit(self, records: Sequence[PartRecord]) -> int:
        """Makes finished parts visible, all in one transaction; returns the new catalog version.

        Durable when it returns, and safe with other committers. With no rows it returns the newest version.

        Raises UnknownFeatureSetError for a feature set that is not registered, StoreError for a part that is
        not in this store or a table that cannot be written; nothing is committed then.
        """
        registered = registered_feature_sets(self.root)
        filled = [record for record in records if record.rows]
        for record in filled:
            if (record.dataset, record.channel, record.fingerprint) not in registered:
                raise UnknownFeatureSetError(
                    f"the feature set of {record.part} is not registered; call store.register(...) first"
                )
            if not (self.root / record.part).is_dir():
                raise StoreError(
                    f"there is no part {record.part} in {self.root}; write it with store.writer(...)"
                )
        if not filled:
            return catalog.latest_version(self.root, "catalog")
        return catalog.append(
            self.root,
            "catalog",
            [
                {
                    "dataset": record.dataset,
                    "channel": record.channel,
                    "fingerprint": record.fingerprint,
                    **asdict(row),
                }
                for record in filled
                for row in record.rows
            ],
        )

    def record_failures(self, rows: Sequence[FailureRow]) -> None:
        """Appends failed samples to the `failures` table; the rows of earlier attempts stay."""
        if rows:
            catalog.append(self.root, "failures", [asdict(row) for row in rows])

    def known_failures(self, dataset: str, channel: str, fingerprint: str) -> dict[str, FailureRow]:
        """The newest failure of each sample of the feature set, by sample id.

        A sample that was done later is still here: ask `FeatureSet.missing` first.
        """
        where = {"dataset": dataset, "channel": channel, "fingerprint": fingerprint}
        for kind, name in where.items():
            check_name(kind, name)
        rows = catalog.read(self.root, "failures", where=where).sort_by([("time", "ascending")])
        return {row["sample_id"]: FailureRow(**row) for row in rows.to_pylist()}

    def add_samples(self, rows: pa.Table | Sequence[SampleRow]) -> int:
        """Appends the samples that are new or have changed; returns how many that were.

        Args: rows: a table with exactly the columns of `SampleRow`, or such rows.

        Raises StoreError for other columns or types, SampleIdError for an empty or repeated id.
        """
        fresh = news(catalog.read(self.root, "samples"), sample_table(rows))
        if len(fresh):
            catalog.append(self.root, "samples", fresh)
        return len(fresh)

    def snapshot(self, version: int | None = None) -> Snapshot:
        """The store at one catalog version, None for the newest; raises StoreError for an unknown one."""
        return pinned(self.root, version)

    def query(self, sql: str, version: int | None = None) -> pa.Table:
        """The result of one SELECT over the views `features`, `samples`, `feature_sets` and `failures`.

        Args: version: the catalog version that `features` shows, None for the newest.

        Raises QueryError, in one line, for SQL that is wrong or does anything but read.
        """
        return run_query(self.snapshot(version), sql)

    def verify(self) -> VerifyReport:
        """Reads every committed byte and checks it; see `VerifyReport`. Safe while others write."""
        return verify_store(self.root)


def open_store(url: str | Path, create: bool = True) -> FeatureStore:
    """The same as `FeatureStore.open`."""
    return FeatureStore.open(url, create)


def _local_path(url: str | Path) -> Path:
    if isinstance(url, str) and "://" in url:
        parts = urlsplit(url)
        if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
            raise StoreError(f"{url} is not a local folder; only local folders are supported now")
        url = unquote(parts.path)
    return Path(url).absolute()


def _create(root: Path) -> None:
    """Makes folders and tables, and the marker last, so that a killed creation is simply done again."""
    root.mkdir(parents=True, exist_ok=True)
    ours = {*catalog.SCHEMAS, PARTS}
    foreign = sorted(path.name for path in root.iterdir() if path.name not in ours and path.name[0] != ".")
    # another process may have finished the same creation since the caller looked
    if foreign and foreign != [_MARKER]:
        raise StoreFormatError(
            f"{root} is no store but has other files in it, such as {foreign[0]!r}; give an empty folder"
        )
    (root / PARTS).mkdir(exist_ok=True)
    catalog.create_tables(root)
    temporary = root / f".{_MARKER}-{time_ordered_uuid()}"
    temporary.write_text(json.dumps({"format": _FORMAT, "format_version": _FORMAT_VERSION}) + "\n")
    sync_path(temporary)
    temporary.rename(root / _MARKER)
    sync_path(root)


def _check_format(marker: Path) -> None:
    try:
        content = json.loads(marker.read_text())
        known, version = content["format"] == _FORMAT, int(content["format_version"])
    except (ValueError, KeyError, TypeError) as error:
        raise StoreFormatError(
            f"{marker} is not readable as a store's marker; restore it from a backup"
        ) from error
    if not known:
        raise StoreFormatError(f"{marker} belongs to something else; give another folder")
    if version > _FORMAT_VERSION:
        raise StoreFormatError(
            f"the store at {marker.parent} has format {version}, newer than {_FORMAT_VERSION}; "
            "upgrade this package"
        )
