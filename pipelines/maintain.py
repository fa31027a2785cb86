"""Upkeep of a feature store: check every byte, bring parts to size, remove what nobody can read any more."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from pipelines.config import Settings
from pipelines.errors import DamagedStoreError
from pipelines.progress import ProgressFactory, silent
from store import FeatureStore

_NUM_TOLD = 3


class MaintainConfig(Settings):
    """Which store is looked after, and what is kept of it."""

    store: str = Field(default="data/store", description="folder or URL of the feature store")
    compact: bool = Field(default=True, description="move the samples of small parts into big ones")
    part_mb: int = Field(default=128, ge=1, description="size of the parts that compacting makes")
    vacuum: bool = Field(default=True, description="remove parts that no readable version needs")
    grace_days: float = Field(
        default=7.0,
        ge=0,
        allow_inf_nan=False,
        description="versions that were the newest within this time stay readable, tagged ones for ever",
    )


class MaintainReport(Settings):
    """What was checked, moved and removed; sizes are in bytes."""

    store: str
    version: int
    checked_samples: int
    checked_parts: int
    checked_bytes: int
    moved_samples: int
    parts_before: int
    parts_after: int
    removed_parts: int
    removed_bytes: int

    def summary(self) -> str:
        """A few lines for people."""
        return (
            f"store {self.store}, version {self.version}: {self.checked_samples} samples in "
            f"{self.checked_parts} parts are sound ({self.checked_bytes:,} bytes)\n"
            f"moved {self.moved_samples} samples from {self.parts_before} parts to {self.parts_after}; "
            f"removed {self.removed_parts} parts ({self.removed_bytes:,} bytes)"
        )


def maintain(config: MaintainConfig, progress: ProgressFactory = silent) -> MaintainReport:
    """Verify, compact and vacuum, in this order; readers and writers go on undisturbed.

    Raises StoreError where there is no store, and DamagedStoreError, before anything is moved or removed, for one
    that is not sound: an older version may hold the only good copy of a sample.
    """
    store = FeatureStore.open(config.store, create=False)
    with progress("verify") as stage:
        checked = store.verify(stage.update)
    if checked.problems:
        told = "; ".join(str(problem) for problem in checked.problems[:_NUM_TOLD])
        more = len(checked.problems) - _NUM_TOLD
        raise DamagedStoreError(
            f"{store.url} is damaged in {len(checked.problems)} places: {told}"
            f"{f' (and {more} more)' if more > 0 else ''}; nothing was moved or removed; restore these parts from a "
            f"copy, or extract the samples again; see `pave store verify --store {store.url}`"
        )
    moved_samples = parts_before = parts_after = removed_parts = removed_bytes = 0
    if config.compact:
        with progress("compact") as stage:
            compacted = store.compact(config.part_mb * 1_000_000, stage.update)
        moved_samples = compacted.num_samples
        parts_before, parts_after = compacted.num_parts_before, compacted.num_parts_after
    if config.vacuum:
        removed = store.vacuum(timedelta(days=config.grace_days), dry_run=False)
        removed_parts, removed_bytes = len(removed.superseded) + len(removed.orphans), removed.num_bytes
    return MaintainReport(
        store=store.url,
        version=store.snapshot().version,
        checked_samples=checked.num_rows,
        checked_parts=checked.num_parts,
        checked_bytes=checked.num_bytes,
        moved_samples=moved_samples,
        parts_before=parts_before,
        parts_after=parts_after,
        removed_parts=removed_parts,
        removed_bytes=removed_bytes,
    )
