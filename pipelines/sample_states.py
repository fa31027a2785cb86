"""What an extraction has to do: each sample of a manifest is done, failing, or to do.

- done: it has features of this configuration that were made from this content;
- failing: its file cannot be used, or it failed for good with this content before;
- to do: the rest; a failure that a retry may cure is in here too.
"""

from dataclasses import dataclass
from typing import Any

from pipelines.manifest import Manifest
from store import FailureRow, FeatureSetRecord, FeatureStore

UNUSABLE = "MediaError"  # the error type of files that the manifest lists with an error


@dataclass(frozen=True)
class SampleStates:
    """The samples of a manifest by what becomes of them.

    Attributes:
        done: ids of the samples that are in the store.
        failing: the failures of the samples that are left out, by id.
        unrecorded: those of `failing` that the store does not know yet.
        to_do: rows of the manifest.
        attempts: how often each sample failed before.
    """

    done: frozenset[str]
    failing: dict[str, FailureRow]
    unrecorded: tuple[FailureRow, ...]
    to_do: tuple[dict[str, Any], ...]
    attempts: dict[str, int]


def sample_states(
    store: FeatureStore, feature_set: FeatureSetRecord, manifest: Manifest, retry_failed: bool
) -> SampleStates:
    """Compare the manifest with the store. With `retry_failed`, samples that failed for good are to do again."""
    key = (feature_set.dataset, feature_set.channel, feature_set.fingerprint)
    stored = _stored_hashes(store, *key)
    known = store.known_failures(*key)
    done, failing, unrecorded, to_do = set(), {}, [], []
    for row in manifest.table.to_pylist():
        sample_id, source_hash = row["sample_id"], row["source_hash"]
        before = known.get(sample_id)
        if before is not None and before.source_hash != source_hash:
            before = None  # another file was there
        if sample_id in stored and stored[sample_id] in (None, source_hash):
            done.add(sample_id)
        elif row["error"] is not None:
            if before is None:
                before = FailureRow(sample_id, *key, UNUSABLE, row["error"], True, source_hash)
                unrecorded.append(before)
            failing[sample_id] = before
        elif before is not None and before.permanent and not retry_failed:
            failing[sample_id] = before
        else:
            to_do.append(row)
    attempts = {sample_id: failure.attempt for sample_id, failure in known.items()}
    return SampleStates(frozenset(done), failing, tuple(unrecorded), tuple(to_do), attempts)


def _stored_hashes(
    store: FeatureStore, dataset: str, channel: str, fingerprint: str
) -> dict[str, str | None]:
    """Content hashes of the samples that have features, None where that was not kept."""
    # the store has checked these names: no quotes in them
    rows = store.query(
        f"SELECT sample_id, source_hash FROM features WHERE dataset = '{dataset}' "
        f"AND channel = '{channel}' AND fingerprint = '{fingerprint}'"
    )
    return dict(zip(rows["sample_id"].to_pylist(), rows["source_hash"].to_pylist(), strict=True))
