"""Exporting a feature set to one HDF5 file; see `store.transfer.hdf5_layout` for how it looks.

export_hdf5(store, store.snapshot().feature_set("avsd", "audio"), Path("avsd-audio.h5"))
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from store.feature_set import FeatureSet
from store.feature_store import FeatureStore
from store.features import Array, Features, TensorLayout
from store.transfer.export_target import media_facts, new_target
from store.transfer.exported_record import media_to_json, record_to_json
from store.transfer.hdf5_layout import FORMAT, FORMAT_VERSION, PERCENT, RECORD, Hdf5Layout, tensor_path
from store.transfer.import_stream import MediaFacts, Progress, no_progress
from store.transfer.sample_names import encode_name


def export_hdf5(
    store: FeatureStore,
    feature_set: FeatureSet,
    target: Path,
    *,
    layout: Hdf5Layout = "per_sample",
    progress: Progress = no_progress,
) -> int:
    """Writes all samples, with companions, timestamps and the record, and returns how many there are.

    Memory is bounded by one sample and the ids. The target appears when it is whole.

    Raises ExportError when the target is there already or cannot be written, DamagedPartError when the store's
    bytes cannot be read.
    """
    import h5py

    media = media_facts(store, feature_set)
    with new_target(target) as temporary, _new_file(temporary) as file:
        file.attrs.update(
            format=FORMAT, format_version=FORMAT_VERSION, layout=layout, num_samples=len(feature_set)
        )
        file.create_dataset(RECORD, data=record_to_json(feature_set.record), dtype=h5py.string_dtype())
        write = _write_concatenated if layout == "concatenated" else _write_per_sample
        write(file, feature_set, media, progress)
    return len(feature_set)


@contextmanager
def _new_file(path: Path) -> Iterator[Any]:
    import h5py

    file = h5py.File(path, "w")
    try:
        yield file
    finally:
        try:
            file.close()
        except RuntimeError as error:  # so it says that the disk is full
            raise OSError(str(error)) from error


def _write_per_sample(
    file: Any, feature_set: FeatureSet, media: Mapping[str, MediaFacts], progress: Progress
) -> None:
    for path in (*(tensor_path(layout.name) for layout in feature_set.record.tensors), "timestamps"):
        file.create_group(path)
    for done, sample_id in enumerate(feature_set, start=1):
        features = feature_set[sample_id]
        name = encode_name(sample_id)
        for layout in feature_set.record.tensors:
            dataset = file[tensor_path(layout.name)].create_dataset(name, data=_stored(features, layout))
            dataset.attrs["dtype"] = layout.dtype
        file["values"][name].attrs["media"] = json.dumps(media_to_json(media[sample_id]))
        file["timestamps"].create_dataset(name, data=features.timestamps)
        progress(done, len(feature_set), 0)


def _write_concatenated(
    file: Any, feature_set: FeatureSet, media: Mapping[str, MediaFacts], progress: Progress
) -> None:
    import h5py

    sample_ids = feature_set.sample_ids
    offsets = np.zeros(len(sample_ids) + 1, dtype=np.int64)
    np.cumsum(feature_set.lengths(sample_ids), out=offsets[1:])
    for layout in feature_set.record.tensors:
        shape = (int(offsets[-1]), layout.tokens, layout.dim)
        file.create_dataset(tensor_path(layout.name), shape, layout.storage_dtype).attrs["dtype"] = (
            layout.dtype
        )
    file.create_dataset("timestamps", (int(offsets[-1]),), np.float64)
    file["row_offsets"] = offsets
    percent = any("\0" in sample_id for sample_id in sample_ids)  # HDF5 ends a text there
    names = [encode_name(sample_id) if percent else sample_id for sample_id in sample_ids]
    facts = [json.dumps(media_to_json(media[sample_id])) for sample_id in sample_ids]
    for name, texts in (("sample_ids", names), ("media", facts)):
        dataset = file.create_dataset(name, (len(texts),), h5py.string_dtype())
        if texts:
            dataset[:] = texts
    if percent:
        file["sample_ids"].attrs["encoding"] = PERCENT
    for index, sample_id in enumerate(sample_ids):
        features = feature_set[sample_id]
        rows = slice(int(offsets[index]), int(offsets[index + 1]))
        for layout in feature_set.record.tensors:
            file[tensor_path(layout.name)][rows] = _stored(features, layout)
        file["timestamps"][rows] = features.timestamps
        progress(index + 1, len(sample_ids), 0)


def _stored(features: Features, layout: TensorLayout) -> Array:
    array = features.values if layout.name == "values" else features.companions[layout.name]
    return array.view(layout.storage_dtype)
