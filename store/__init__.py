"""The feature store: ragged feature tensors in immutable Zarr v3 parts, found through a Delta Lake catalog.

The model, as rules:

1. Features of a sample are `values` (T, S, D) = time steps, tokens per step, dimension; optional companions
   with the same T; and `timestamps` (T,) in seconds from the start of the media.
2. A feature set (dataset, channel, fingerprint) is what one extractor configuration makes of one dataset.
3. A worker writes samples into a part: `store.writer(record)`, `write(...)`, `close()`. A part never changes.
4. `store.commit(parts)` makes parts visible, all of them in one transaction; until then nobody sees them.
5. `store.snapshot()` is pinned to one catalog version. The newest committed row of a sample wins within it.

    >>> store = FeatureStore.open("features")
    >>> store.register(record)
    >>> with store.writer(record) as part:
    ...     part.write("clip-1", Features(values, timestamps), duration=12.0)
    >>> store.commit([part.close()])
    >>> store.snapshot().feature_set("avsd", "audio")["clip-1"].values

The names below are loaded on first use, so that importing `store` alone costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from store.errors import StoreError as StoreError
    from store.feature_set import FeatureSet as FeatureSet
    from store.feature_store import FeatureStore as FeatureStore
    from store.feature_store import open_store as open_store
    from store.features import Features as Features
    from store.features import FeatureSetRecord as FeatureSetRecord
    from store.features import TensorLayout as TensorLayout
    from store.part_writer import PartWriter as PartWriter
    from store.records import FailureRow as FailureRow
    from store.records import InstructionRow as InstructionRow
    from store.records import PartRecord as PartRecord
    from store.records import SampleRow as SampleRow
    from store.shared_batches import SharedBatches as SharedBatches
    from store.snapshot import Snapshot as Snapshot
    from store.verify import VerifyReport as VerifyReport

_HOME = {
    "FailureRow": "store.records",
    "FeatureSet": "store.feature_set",
    "FeatureSetRecord": "store.features",
    "FeatureStore": "store.feature_store",
    "Features": "store.features",
    "InstructionRow": "store.records",
    "PartRecord": "store.records",
    "PartWriter": "store.part_writer",
    "SampleRow": "store.records",
    "SharedBatches": "store.shared_batches",
    "Snapshot": "store.snapshot",
    "StoreError": "store.errors",
    "TensorLayout": "store.features",
    "VerifyReport": "store.verify",
    "open_store": "store.feature_store",
}


def __getattr__(name: str) -> Any:
    """The public class or function of that name, from the module that holds it."""
    if name not in _HOME:
        raise AttributeError(f"module 'store' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
