"""Exporting a feature set to a folder of safetensors files, one a sample, and importing such a folder.

    <folder>/
      feature_set.json      format, format_version and the FeatureSetRecord
      samples.jsonl         one line a sample: sample_id, file, and duration, fps, n_frames, source_hash if known
      samples/NAME.safetensors      values (T, S, D), companions, timestamps (T,) float64

NAME is the percent-encoded id, cut where it is too long for a file name: `samples.jsonl` has the id.
"""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from store.feature_set import FeatureSet
from store.feature_store import FeatureStore
from store.features import Array, Features, FeatureSetRecord
from store.transfer.errors import SourceNotFoundError, UnusableFileError
from store.transfer.export_target import media_facts, new_target
from store.transfer.exported_record import media_from_json, media_to_json, record_from_json, record_to_json
from store.transfer.import_stream import (
    PART_BYTES,
    ImportReport,
    Progress,
    SampleSource,
    import_samples,
    no_progress,
)
from store.transfer.sample_names import file_name, is_text
from store.transfer.source_files import file_inside

_FORMAT, _FORMAT_VERSION = "pave-feature-set", 1
_RECORD_FILE, _INDEX_FILE, _SAMPLES = "feature_set.json", "samples.jsonl", "samples"
_DTYPES = {
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F16": np.dtype(np.float16),
    "F32": np.dtype(np.float32),
    "F64": np.dtype(np.float64),
}


def export_safetensors(
    store: FeatureStore, feature_set: FeatureSet, target: Path, *, progress: Progress = no_progress
) -> int:
    """Writes all samples, with companions, timestamps and the record, and returns how many there are.

    Memory is bounded by one sample and the ids. The target appears when it is whole.

    Raises ExportError when the target is there already or cannot be written, DamagedPartError when the store's
    bytes cannot be read.
    """
    from safetensors.numpy import save

    media = media_facts(store, feature_set)
    with new_target(target) as folder:
        (folder / _SAMPLES).mkdir(parents=True)
        with (folder / _INDEX_FILE).open("x", encoding="utf-8") as index:
            for done, sample_id in enumerate(feature_set, start=1):
                name = f"{_SAMPLES}/{file_name(sample_id, '.safetensors')}"
                features = feature_set[sample_id]
                tensors = {
                    "values": features.values,
                    **features.companions,
                    "timestamps": features.timestamps,
                }
                # "x": a file system that takes two names for one must not lose a sample
                with (folder / name).open("xb") as file:
                    file.write(save(tensors))
                line = {"sample_id": sample_id, "file": name, **media_to_json(media[sample_id])}
                index.write(json.dumps(line) + "\n")
                progress(done, len(feature_set), 0)
        head = {"format": _FORMAT, "format_version": _FORMAT_VERSION, "num_samples": len(feature_set)}
        content = {**head, "record": json.loads(record_to_json(feature_set.record))}
        (folder / _RECORD_FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return len(feature_set)


def import_safetensors(
    store: FeatureStore,
    folder: Path,
    *,
    part_bytes: int = PART_BYTES,
    progress: Progress = no_progress,
) -> ImportReport:
    """Imports an export of `export_safetensors`: what the feature set does not have yet.

    A file that cannot be used becomes a failure and the others go on.

    Raises SourceNotFoundError when the folder is no such export, UnusableFileError when its record or index is
    damaged, DuplicateSourceError when the index names a sample twice, StoreError when the store cannot be written.
    """
    folder = Path(folder)
    if not (folder / _RECORD_FILE).is_file():
        raise SourceNotFoundError(
            f"{folder} has no {_RECORD_FILE}; only folders from `pave store export --format safetensors` can be read"
        )
    folder = folder.resolve()
    record, num_samples = _record(folder)
    sources: list[SampleSource] = []
    for line, entry in enumerate(_index(folder), start=1):
        where = f"{folder / _INDEX_FILE}:{line}"
        sample_id, name = entry.get("sample_id"), entry.get("file")
        if not isinstance(sample_id, str) or not isinstance(name, str) or not is_text(sample_id):
            raise UnusableFileError(where, "does not name a sample and its file; export it again")
        media = media_from_json(entry, where)
        load = partial(_load, folder, name, record)
        sources.append(SampleSource(sample_id, f"{folder / name} (line {line})", load, media))
    if len(sources) != num_samples:
        raise UnusableFileError(
            str(folder / _INDEX_FILE),
            f"has {len(sources)} samples, but there are {num_samples}; copy the export again",
        )
    return import_samples(store, record, sources, part_bytes=part_bytes, progress=progress)


def _record(folder: Path) -> tuple[FeatureSetRecord, int]:
    where = str(folder / _RECORD_FILE)
    try:
        content = json.loads((folder / _RECORD_FILE).read_text(encoding="utf-8"))
        form, version = content["format"], content["format_version"]
        record, num_samples = json.dumps(content["record"]), int(content["num_samples"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnusableFileError(where, f"cannot be read ({error}); export it again") from error
    if (form, version) != (_FORMAT, _FORMAT_VERSION):
        raise UnusableFileError(
            where, f"is not of format {_FORMAT_VERSION}; import it with the version that wrote it"
        )
    return record_from_json(record, where), num_samples


def _index(folder: Path) -> Iterator[dict[str, Any]]:
    path = folder / _INDEX_FILE
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                entry = json.loads(line)
                if not isinstance(entry, dict):
                    raise ValueError("a line is not an object")
                yield entry
    except (OSError, ValueError) as error:
        raise UnusableFileError(str(path), f"cannot be read ({error}); export it again") from error


def _load(folder: Path, name: str, record: FeatureSetRecord) -> Features:
    from safetensors import SafetensorError, deserialize

    path = file_inside(folder, name)
    try:
        content = dict(deserialize(path.read_bytes()))  # type: ignore[no-untyped-call]
        tensors: dict[str, Array] = {
            tensor: np.frombuffer(entry["data"], _DTYPES[entry["dtype"]]).reshape(entry["shape"])
            for tensor, entry in content.items()
        }
        values, timestamps = tensors.pop("values"), tensors.pop("timestamps")
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise UnusableFileError(
            str(path), f"is no readable safetensors file of {record.name} ({error}); export it again"
        ) from error
    return Features(values, timestamps, tensors)
