"""Options that the commands of `pave store` share, and what they name."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from store import FeatureSet, FeatureStore, Snapshot

store_option = click.option(
    "--store",
    "url",
    default="data/store",
    show_default=True,
    help="Where the feature store is: a folder, or s3://BUCKET/PREFIX.",
)
version_option = click.option(
    "--version",
    "version",
    help="Number, tag or moment (2026-11-01T12:00) of a catalog version. [default: the newest]",
)


def opened(url: str) -> FeatureStore:
    """The store, which must be there."""
    from store import FeatureStore

    return FeatureStore.open(url, create=False)


def snapshot_of(store: FeatureStore, version: str | None) -> Snapshot:
    """The version that `--version` or an argument names; raises StoreError where there is none."""
    if version is None or version.isdecimal():
        return store.snapshot(None if version is None else int(version))
    try:
        return store.snapshot(at=datetime.fromisoformat(version))
    except ValueError:
        return store.snapshot(tag=version)


def feature_set_named(name: str, url: str, version: str | None) -> FeatureSet:
    """The feature set written dataset/channel or dataset/channel/fingerprint, at a version."""
    from pipelines.errors import PipelineError

    parts = name.split("/")
    if len(parts) not in (2, 3):
        raise PipelineError(f"{name!r} names no feature set; write dataset/channel[/fingerprint]")
    return snapshot_of(opened(url), version).feature_set(*parts)


def size(num_bytes: int) -> str:
    """1.5 MB and the like."""
    number, units = float(num_bytes), ["B", "kB", "MB", "GB", "TB"]
    while number >= 1000 and len(units) > 1:
        number, units = number / 1000, units[1:]
    return f"{number:.0f} {units[0]}" if units[0] == "B" else f"{number:.1f} {units[0]}"
