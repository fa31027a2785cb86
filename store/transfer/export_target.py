"""What every export has in common: samples in order, and a target that appears only when it is whole."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from store.durable import sync_path, sync_tree
from store.feature_set import FeatureSet
from store.feature_store import FeatureStore
from store.part_layout import time_ordered_uuid
from store.transfer.errors import ExportError
from store.transfer.import_stream import MediaFacts


@contextmanager
def new_target(target: Path) -> Iterator[Path]:
    """A temporary path beside the target for the body to make a file or folder at; then it gets its name.

    An exception removes it; a killed process leaves a hidden `.NAME.partial-...` behind, never the target.

    Raises ExportError when the target is there already or cannot be written.
    """
    target = Path(os.path.abspath(target))
    temporary = target.with_name(f".{target.name[:100]}.partial-{time_ordered_uuid()}")
    _check_free(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if temporary.is_dir():
            sync_tree(temporary)
        else:
            sync_path(temporary)
        _check_free(target)  # a rename would replace a file
        temporary.rename(target)
        sync_path(target.parent)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else " ".join(str(error).split())
        raise ExportError(
            f"cannot write the export {target}: {reason}; check the permissions and the free space there"
        ) from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def media_facts(store: FeatureStore, feature_set: FeatureSet) -> dict[str, MediaFacts]:
    """What the catalog knows of each sample's media, by sample id."""
    record = feature_set.record
    # the record has checked the names: there is no quote in them
    rows = store.query(
        "SELECT sample_id, duration, fps, n_frames, source_hash, attributes FROM features WHERE "
        f"dataset = '{record.dataset}' AND channel = '{record.channel}' AND fingerprint = '{record.fingerprint}'",
        feature_set.version,
    )
    facts = {}
    for row in rows.to_pylist():
        sample_id, attributes = row.pop("sample_id"), row.pop("attributes")
        known = None if attributes is None else json.loads(attributes)
        facts[sample_id] = MediaFacts(**row, attributes=known)
    return facts


def _check_free(target: Path) -> None:
    if os.path.lexists(target):
        raise ExportError(f"{target} is there already; remove it or choose another target")
