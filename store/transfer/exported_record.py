"""The JSON that an export carries beside its tensors: the feature set's record, and facts of each sample."""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from store.errors import StoreError
from store.features import FeatureSetRecord, TensorLayout
from store.transfer.errors import UnusableFileError
from store.transfer.import_stream import MediaFacts


def record_to_json(record: FeatureSetRecord) -> str:
    """The record as indented JSON."""
    return json.dumps(asdict(record), indent=1, allow_nan=False)


def record_from_json(text: str, where: str) -> FeatureSetRecord:
    """The record that `record_to_json` wrote; raises UnusableFileError for anything else."""
    try:
        content = json.loads(text)
        tensors = tuple(TensorLayout(**tensor) for tensor in content.pop("tensors"))
        return FeatureSetRecord(tensors=tensors, **content)
    except (ValueError, TypeError, KeyError, AttributeError, StoreError) as error:
        raise UnusableFileError(
            where, f"describes no feature set that this version can read ({error}); export it again"
        ) from error


def media_to_json(media: MediaFacts) -> dict[str, Any]:
    """The facts that are known, as plain values."""
    return {name: value for name, value in asdict(media).items() if value is not None}


def media_from_json(content: Mapping[str, Any], where: str) -> MediaFacts:
    """The facts that `media_to_json` wrote; other keys are left alone.

    Raises UnusableFileError for a fact of another type.
    """
    kinds: dict[str, tuple[type, ...]] = {"duration": (int, float), "fps": (int, float), "n_frames": (int,)}
    kinds |= {"source_hash": (str,), "attributes": (dict,)}
    given = {field.name: content[field.name] for field in fields(MediaFacts) if field.name in content}
    for name, value in given.items():
        if type(value) not in kinds[name]:
            raise UnusableFileError(where, f"has {name} {value!r} of a wrong type; export it again")
    return MediaFacts(**given)
