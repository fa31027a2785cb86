"""Importing an HDF5 file: one of our exports, or somebody else's arrays.

    report = import_hdf5(store, Path("avsd-audio.h5"))                                   # our export
    report = import_hdf5(store, Path("features.h5"), ArrayImport("clips", "audio"))      # other arrays

Other files have either one dataset a sample, (T, S, D) or (T, D), whose full name (without the first '/') is the
id; or one dataset of all samples with `sample_ids`, `row_offsets` and, optionally, `timestamps` beside it.
"""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from store.feature_store import FeatureStore
from store.features import DtypeName, Features, FeatureSetRecord
from store.transfer.array_import import ArrayImport, first_layout, time_steps
from store.transfer.errors import ImportSettingsError, SourceNotFoundError, UnusableFileError
from store.transfer.exported_record import media_from_json, record_from_json
from store.transfer.hdf5_layout import FORMAT, FORMAT_VERSION, PERCENT, RECORD, opened_hdf5, tensor_path
from store.transfer.hdf5_reading import has, read_array, read_attribute, read_index, read_text, sample_names
from store.transfer.import_stream import (
    PART_BYTES,
    ImportReport,
    MediaFacts,
    Progress,
    SampleSource,
    import_samples,
    no_progress,
)
from store.transfer.sample_names import decode_name, is_text, printable
from store.transfer.source_files import SkippedFile


def import_hdf5(
    store: FeatureStore,
    path: Path,
    settings: ArrayImport | None = None,
    *,
    values: str = "values",
    part_bytes: int = PART_BYTES,
    progress: Progress = no_progress,
) -> ImportReport:
    """Imports what the feature set does not have yet; bad samples become failures and the others go on.

    Args:
        settings: what the arrays are; None for our own exports, which bring their record with them.
        values: name of the dataset of all samples, where there is one.

    Raises ImportSettingsError when settings are given for an export or missing for other files,
    SourceNotFoundError for a file without datasets, UnusableFileError when it is damaged, DuplicateSourceError
    when its index names a sample twice, StoreError when the store cannot be written.
    """
    path = Path(path)
    with opened_hdf5(path) as file:
        ours = read_attribute(file, path, "format") == FORMAT
        if ours and settings is not None:
            raise ImportSettingsError(
                f"{path} is an export and brings its feature set with it; leave out dataset, channel and the rest"
            )
        if ours:
            record, sources, skipped = _exported(file, path)
        elif settings is None:
            raise ImportSettingsError(f"{path} says nothing of its feature set; give a dataset and a channel")
        elif has(file, path, "sample_ids") and has(file, path, "row_offsets"):
            record, sources, skipped = _concatenated_arrays(file, path, settings, values)
        else:
            record, sources, skipped = _one_array_a_sample(file, path, settings)
        return import_samples(
            store, record, sources, skipped=skipped, part_bytes=part_bytes, progress=progress
        )


_Found = tuple[FeatureSetRecord, list[SampleSource], list[SkippedFile]]


def _exported(file: Any, path: Path) -> _Found:
    """What `export_hdf5` wrote."""
    if read_attribute(file, path, "format_version") != str(FORMAT_VERSION):
        raise UnusableFileError(
            str(path),
            f"is not an export of format {FORMAT_VERSION}; import it with the version that wrote it",
        )
    record = record_from_json(read_text(file, path, RECORD), f"{path}:{RECORD}")
    if read_attribute(file, path, "layout") == "concatenated":
        sources, skipped = _sources_by_index(
            file, path, record, [tensor_path(tensor.name) for tensor in record.tensors]
        )
    else:
        names, skipped = sample_names(file, path, "values")
        sources = []
        for name in names:
            try:
                sample_id = decode_name(name)
            except UnicodeDecodeError:
                skipped.append(SkippedFile(f"values/{printable(name)}", "is not the name of a sample"))
                continue
            where = f"{path}:values/{name}"
            facts = _media_facts(read_attribute(file, path, "media", f"values/{name}") or "{}", where)
            load = partial(_load_exported, file, path, record, name)
            sources.append(SampleSource(sample_id, where, load, facts))
    if str(len(sources) + len(skipped)) != read_attribute(file, path, "num_samples"):
        raise UnusableFileError(str(path), "does not hold as many samples as it says; export it again")
    return record, sources, skipped


def _load_exported(file: Any, path: Path, record: FeatureSetRecord, name: str) -> Features:
    tensors = {
        tensor.name: read_array(file, path, f"{tensor_path(tensor.name)}/{name}") for tensor in record.tensors
    }
    timestamps = read_array(file, path, f"timestamps/{name}")
    return Features(tensors.pop("values"), timestamps, tensors)


def _media_facts(text: str, where: str) -> MediaFacts:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise UnusableFileError(where, "has media facts that are not JSON; export it again") from error
    return media_from_json(content if isinstance(content, dict) else {}, where)


def _one_array_a_sample(file: Any, path: Path, settings: ArrayImport) -> _Found:
    names, skipped = sample_names(file, path)
    if not names:
        raise SourceNotFoundError(f"{path} has no datasets; check the file")

    def read(name: str, dtype: DtypeName | None) -> Any:
        return time_steps(read_array(file, path, name), f"{path}:{name}", dtype)

    layout = first_layout(partial(read, name, settings.dtype) for name in names)

    def load(name: str) -> Features:
        return settings.features(read(name, layout.dtype))

    sources = [SampleSource(name, f"{path}:{name}", partial(load, name)) for name in names]
    return settings.record(layout, "hdf5"), sources, skipped


def _concatenated_arrays(file: Any, path: Path, settings: ArrayImport, values: str) -> _Found:
    # one row tells the layout
    layout = first_layout(
        [lambda: time_steps(read_array(file, path, values, slice(0, 1)), f"{path}:{values}", settings.dtype)]
    )
    record = settings.record(layout, "hdf5")
    sources, skipped = _sources_by_index(file, path, record, [values], settings)
    return record, sources, skipped


def _sources_by_index(
    file: Any,
    path: Path,
    record: FeatureSetRecord,
    datasets: Sequence[str],
    settings: ArrayImport | None = None,
) -> tuple[list[SampleSource], list[SkippedFile]]:
    """The samples of a concatenated file; `datasets` hold the record's tensors, `settings` is for other files."""
    sample_ids, offsets, media = read_index(file, path, datasets)
    if read_attribute(file, path, "encoding", "sample_ids") == PERCENT:
        try:
            sample_ids = [decode_name(name) for name in sample_ids]
        except UnicodeDecodeError as error:
            raise UnusableFileError(
                f"{path}:sample_ids", "are not percent-encoded; export it again"
            ) from error
    has_timestamps = settings is None or has(file, path, "timestamps")

    def load(index: int) -> Features:
        rows = slice(offsets[index], offsets[index + 1])
        arrays = [read_array(file, path, name, rows) for name in datasets]
        if settings is not None:
            arrays = [time_steps(arrays[0], f"{path}:{datasets[0]}", record.values.dtype)]
        tensors = {tensor.name: array for tensor, array in zip(record.tensors, arrays, strict=True)}
        found = tensors.pop("values")
        if has_timestamps:
            return Features(found, read_array(file, path, "timestamps", rows), tensors)
        assert settings is not None
        return settings.features(found)

    sources: list[SampleSource] = []
    skipped: list[SkippedFile] = []
    for index, sample_id in enumerate(sample_ids):
        where = f"{path}:sample_ids[{index}]"
        if not is_text(sample_id):
            skipped.append(
                SkippedFile(f"sample_ids[{index}]", "is no sample id, which is text and not empty")
            )
            continue
        facts = _media_facts(media[index], where) if media else MediaFacts()
        sources.append(SampleSource(sample_id, where, partial(load, index), facts))
    return sources, skipped
