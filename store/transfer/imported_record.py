"""The identity of an imported feature set: what the caller knows of who made the numbers, and its fingerprint."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from store.features import FeatureSetRecord, TensorLayout
from store.transfer.errors import ImportSettingsError


@dataclass(frozen=True)
class MadeBy:
    """What made the numbers, as far as the caller knows.

    Attributes:
        extractor, version: the program; both are part of the fingerprint.
        licence: of the encoder's weights; changes no number, so it is not part of the fingerprint.
        identity: whatever else changes the numbers (encoder, revision, layer ...), as plain JSON values.
            Never a path. Part of the fingerprint.

    Raises ImportSettingsError for an identity that JSON does not hold exactly.
    """

    extractor: str
    version: str
    licence: str = "unknown"
    identity: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.extractor or not self.version:
            raise ImportSettingsError("an import needs the extractor's name and version; give both")
        try:
            exact = json.loads(json.dumps(dict(self.identity), allow_nan=False)) == dict(self.identity)
        except (TypeError, ValueError) as error:
            raise ImportSettingsError(
                f"the identity is not JSON ({error}); keep plain values in it"
            ) from error
        if not exact:
            raise ImportSettingsError("the identity has values that JSON changes; keep plain values in it")


def imported_record(
    dataset: str,
    channel: str,
    made_by: MadeBy,
    values: TensorLayout,
    rate_hz: float | None,
    config: Mapping[str, Any],
) -> FeatureSetRecord:
    """The record of an imported feature set without companions.

    Args:
        config: kept beside the identity for people; not part of the fingerprint.
    """
    return FeatureSetRecord(
        dataset=dataset,
        channel=channel,
        extractor=made_by.extractor,
        version=made_by.version,
        fingerprint=fingerprint(channel, made_by, (values,), rate_hz),
        tensors=(values,),
        rate_hz=rate_hz,
        licence=made_by.licence,
        config={"identity": dict(made_by.identity), **config},
    )


def fingerprint(channel: str, made_by: MadeBy, tensors: Sequence[TensorLayout], rate_hz: float | None) -> str:
    """16 hex digits over all that says which numbers these are; no dataset, path or licence."""
    numbers = {
        "channel": channel,
        "extractor": made_by.extractor,
        "version": made_by.version,
        # named one by one: what else a layout may hold must not change old fingerprints
        "tensors": [[layout.name, layout.tokens, layout.dim, layout.dtype] for layout in tensors],
        "rate_hz": rate_hz,
        "identity": dict(made_by.identity),
    }
    text = json.dumps(numbers, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
