"""Bringing an older store to the format of this version.

1   the first format
2   tables `instructions` and `retention`; catalog column `attributes`; `commit_seq` is the catalog version
    of the commit, and not a lower bound of it; tensors may allow NaN
"""

from pathlib import Path

from store import catalog
from store.location import location_of
from store.marker import FORMAT_VERSION, read_format, write_marker


def migrate_store(url: str | Path) -> tuple[int, int]:
    """Changes the store to the newest format; returns the format before and after. Again is harmless.

    Features and versions stay as they are; a table that gets a column gets a version. Nobody may write to the
    store meanwhile. Raises as `FeatureStore.open` does.
    """
    location = location_of(url)
    before = read_format(location)
    if before < FORMAT_VERSION:
        catalog.create_tables(location)
        catalog.add_new_columns(location, "catalog")
        write_marker(location)
    return before, FORMAT_VERSION
