"""Removing the parts that no readable version needs."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from store import catalog
from store.errors import StoreError
from store.kept_rows import kept_rows
from store.location import FoundPart, Location
from store.retention import Retention, read_retention, record_vacuum


@dataclass(frozen=True)
class VacuumReport:
    """The outcome of `FeatureStore.vacuum`.

    Attributes:
        dry_run: whether nothing was changed.
        oldest: the oldest catalog version that stays readable, besides the tagged ones.
        superseded: parts that only older versions saw.
        orphans: parts older than the grace period that no commit names: of writers that were killed.
        num_bytes: size of both.
        num_parts_kept: parts that stay.
    """

    dry_run: bool
    oldest: int
    superseded: tuple[str, ...]
    orphans: tuple[str, ...]
    num_bytes: int
    num_parts_kept: int


def vacuum_store(location: Location, grace: timedelta, dry_run: bool) -> VacuumReport:
    """Removes what is not needed by the versions that were the newest within the grace period, and by tags.

    Versions before that become unreadable, unless a tag names them. A part that is not committed yet is kept
    for the grace period, too, so writers must commit within it.

    Raises StoreError for a negative grace period, and where a part cannot be removed.
    """
    if grace < timedelta(0):
        raise StoreError(f"a grace period of {grace} is negative; give 0 or more")
    now = datetime.now(UTC)
    kept_now = read_retention(location)
    oldest = max(kept_now.oldest, catalog.version_at(location, "catalog", now - grace))
    # the event first: nobody can open or tag an older version any more when its parts go
    retention = Retention(oldest, kept_now.tags) if dry_run else record_vacuum(location, oldest)
    # Parts first: one that is committed in between is then found in the catalog.
    found = sorted(location.part_folders(), key=lambda part: part.path)
    needed = set(kept_rows(location, retention).rows["part"].unique().to_pylist())
    committed = set(catalog.read(location, "catalog", columns=["part"])["part"].unique().to_pylist())
    superseded = [part for part in found if part.path in committed - needed]
    orphans = [part for part in found if part.path not in committed and part.modified < now - grace]
    if not dry_run:
        for part in (*superseded, *orphans):
            _remove(location, part)
    return VacuumReport(
        dry_run=dry_run,
        oldest=oldest,
        superseded=tuple(part.path for part in superseded),
        orphans=tuple(part.path for part in orphans),
        num_bytes=sum(part.nbytes for part in (*superseded, *orphans)),
        num_parts_kept=len(found) - len(superseded) - len(orphans),
    )


def _remove(location: Location, part: FoundPart) -> None:
    try:
        location.remove_part(part.path)
    except FileNotFoundError:
        pass  # another vacuum was quicker
    except OSError as error:
        raise StoreError(
            f"cannot remove {part.path} of {location.url}: {error.strerror}; "
            "check the permissions there and run vacuum again"
        ) from error
