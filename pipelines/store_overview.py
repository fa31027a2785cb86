"""Every feature set of a store with what it holds: samples, failures, size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from store import FeatureStore

_OVERVIEW = """
WITH filled AS (
    SELECT dataset, channel, fingerprint, count(*) AS samples, count(DISTINCT part) AS parts,
           sum(steps) AS steps, sum(nbytes) AS bytes, sum(duration) / 3600 AS hours
    FROM features GROUP BY ALL
), failed AS (
    SELECT dataset, channel, fingerprint, count(DISTINCT sample_id) AS failures
    FROM failures f ANTI JOIN features USING (dataset, channel, fingerprint, sample_id) GROUP BY ALL
), known AS (
    SELECT dataset, count(*) AS known FROM samples GROUP BY ALL
)
SELECT dataset || '/' || channel || '/' || fingerprint AS feature_set,
       coalesce(samples, 0) AS samples, coalesce(known, 0) AS known, coalesce(failures, 0) AS failures,
       coalesce(parts, 0) AS parts, coalesce(steps, 0) AS steps, hours, coalesce(bytes, 0) AS bytes,
       extractor || '@' || version AS extractor, licence, config
FROM feature_sets LEFT JOIN filled USING (dataset, channel, fingerprint)
     LEFT JOIN failed USING (dataset, channel, fingerprint) LEFT JOIN known USING (dataset)
ORDER BY ALL
"""


def overview(store: FeatureStore, version: int | None = None) -> list[dict[str, Any]]:
    """A row for each feature set at a catalog version (None: the newest).

    `feature_set` is dataset/channel/fingerprint. `samples` have features, of `known` ones of the dataset; `failures`
    are samples that failed and have none. `hours` of media are None where nothing has a duration; sizes are in bytes.
    """
    rows: list[dict[str, Any]] = store.query(_OVERVIEW, version).to_pylist()
    return rows
