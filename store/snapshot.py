"""One catalog version: what a training run reads from start to end."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from store import catalog
from store.errors import StoreError, UnknownFeatureSetError
from store.feature_set import FeatureSet
from store.features import Array, FeatureSetRecord, check_name
from store.location import Location
from store.retention import check_kept, read_retention
from store.sample_index import id_hashes

_READ_COLUMNS = ("fingerprint", "sample_id", "part", "row0", "row1", "op", "commit_seq")


@dataclass(frozen=True)
class Snapshot:
    """The store as it was at one catalog version; made by `FeatureStore.snapshot`. Pickles.

    Attributes:
        location: of the store.
        version: of the catalog table. Later commits are not seen.
    """

    location: Location
    version: int

    def feature_set(self, dataset: str, channel: str, fingerprint: str | None = None) -> FeatureSet:
        """The features of one dataset and channel.

        Args:
            fingerprint: which configuration. None takes the only one that has features in this snapshot.
                A registered one without features is an empty feature set.

        Raises UnknownFeatureSetError naming the choices when none or several fit.
        """
        where = {"dataset": dataset, "channel": channel}
        for kind, name in where.items():
            check_name(kind, name)
        if fingerprint is not None:
            check_name("fingerprint", fingerprint)
            where["fingerprint"] = fingerprint
        rows = catalog.read(
            self.location, "catalog", version=self.version, columns=_READ_COLUMNS, where=where
        )
        if fingerprint is None:
            fingerprint = self._only_choice(dataset, channel, rows["fingerprint"].unique().to_pylist())
        record = self._record(dataset, channel, fingerprint)
        return FeatureSet(self.location, record, self.version, latest_rows(rows))

    def _only_choice(self, dataset: str, channel: str, fingerprints: list[str]) -> str:
        if len(fingerprints) == 1:
            return fingerprints[0]
        if fingerprints:
            raise UnknownFeatureSetError(
                f"{dataset}/{channel} has several feature sets at catalog version {self.version}; "
                f"name one fingerprint of {', '.join(sorted(fingerprints))}"
            )
        raise UnknownFeatureSetError(
            f"{dataset}/{channel} has no features at catalog version {self.version}; "
            f"run `pave extract {channel}`, or name one of: {self._registered()}"
        )

    def _record(self, dataset: str, channel: str, fingerprint: str) -> FeatureSetRecord:
        records = registered_feature_sets(self.location)
        if (dataset, channel, fingerprint) not in records:
            raise UnknownFeatureSetError(
                f"no feature set {dataset}/{channel}/{fingerprint} is registered; "
                f"name one of: {self._registered()}"
            )
        return records[dataset, channel, fingerprint]

    def _registered(self) -> str:
        names = [record.name for record in registered_feature_sets(self.location).values()]
        return ", ".join(sorted(names)) or "(the store has no feature sets yet)"


def pinned(location: Location, version: int | None) -> Snapshot:
    """The snapshot of that version, the newest for None.

    Raises StoreError when there is no such version, or it was vacuumed.
    """
    newest = catalog.latest_version(location, "catalog")
    if version is None:
        return Snapshot(location, newest)
    if not 0 <= version <= newest:
        raise StoreError(f"{location.url} has no catalog version {version}; name one from 0 to {newest}")
    check_kept(location, read_retention(location), version)
    return Snapshot(location, version)


def latest_rows(rows: pa.Table) -> pa.Table:
    """The newest row of each sample of one feature set, without deleted samples, in the order of `id_hash`.

    Newest is by `commit_seq`; between racing commits by the part, whose name is ordered by time.

    Returns: columns `sample_id`, `part` (dictionary-encoded), `row0`, `row1` and `id_hash` (see `id_hashes`).
    """
    hashes = id_hashes(rows["sample_id"])
    # sorting hash and position as one number is faster than an indirect sort
    order = np.sort(hashes.astype(np.uint64) << np.uint64(32) | np.arange(len(rows), dtype=np.uint64))
    order = (order & np.uint64(0xFFFFFFFF)).astype(np.int64)
    hashes = hashes[order]
    keep = pc.equal(rows["op"], "put").to_numpy()[order]
    same_as_next = np.zeros(len(rows) + 1, dtype=bool)
    same_as_next[1:-1] = hashes[1:] == hashes[:-1]
    # samples with more than one row, and the few ids that share a hash by chance
    shared = np.flatnonzero(same_as_next[1:] | same_as_next[:-1])
    if len(shared):
        keep[shared] &= _is_newest(rows.take(pa.array(order[shared])))
    order = order[keep]
    ids, part = rows["sample_id"].combine_chunks(), rows["part"].dictionary_encode().combine_chunks()
    columns = {
        "sample_id": ids.take(pa.array(order)),
        "part": part.take(pa.array(order)),
        "row0": rows["row0"].to_numpy()[order],
        "row1": rows["row1"].to_numpy()[order],
        "id_hash": hashes[keep],
    }
    return pa.table(columns)


def _is_newest(rows: pa.Table) -> Array:
    """Whether each row is the newest of its sample, (n,) bool."""
    newest_last = [("sample_id", "ascending"), ("commit_seq", "ascending"), ("part", "ascending")]
    order = pc.sort_indices(rows, newest_last)
    ids = rows["sample_id"].combine_chunks().take(order)
    found = np.ones(len(rows), dtype=bool)
    found[order.to_numpy()[:-1]] = pc.not_equal(ids.slice(0, len(ids) - 1), ids.slice(1)).to_numpy(
        zero_copy_only=False
    )
    return found


def registered_feature_sets(location: Location) -> dict[tuple[str, str, str], FeatureSetRecord]:
    """Every registered feature set by (dataset, channel, fingerprint)."""
    rows = catalog.read(location, "feature_sets").to_pylist()
    return {
        (row["dataset"], row["channel"], row["fingerprint"]): FeatureSetRecord.from_row(row) for row in rows
    }
