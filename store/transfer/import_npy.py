"""Importing a folder of `.npy` files, one a sample.

report = import_npy(store, Path("features"), ArrayImport("clips", "audio", MadeBy("my-encoder", "3")))
"""

import tokenize
from functools import partial
from pathlib import Path

import numpy as np

from store.feature_store import FeatureStore
from store.features import Array, DtypeName, Features
from store.transfer.array_import import ArrayImport, first_layout, time_steps
from store.transfer.errors import UnusableFileError
from store.transfer.import_stream import (
    PART_BYTES,
    ImportReport,
    Progress,
    SampleSource,
    import_samples,
    no_progress,
)
from store.transfer.source_files import IdRule, file_inside, find_files

# What NumPy raises on damaged or foreign content.
_UNREADABLE = (OSError, EOFError, ValueError, SyntaxError, TypeError, OverflowError, tokenize.TokenError)

NPY_IDS = IdRule(r"(?P<id>.+)\.npy")


def import_npy(
    store: FeatureStore,
    folder: Path,
    settings: ArrayImport,
    *,
    ids: IdRule = NPY_IDS,
    part_bytes: int = PART_BYTES,
    progress: Progress = no_progress,
) -> ImportReport:
    """Imports what the feature set does not have yet; bad files become failures and the others go on.

    Each file holds (T, S, D), or (T, D) with S = 1. The first readable one decides S, D and, where the settings
    name none, the dtype.

    Raises SourceNotFoundError, DuplicateSourceError naming both files, UnusableFileError when no file can be
    read, StoreError when the store cannot be written.
    """
    found = find_files(Path(folder), ids)
    paths = found.one_per_sample()
    layout = first_layout(partial(_read, found.folder, path, settings.dtype) for path in paths.values())

    def load(path: str) -> Features:
        return settings.features(_read(found.folder, path, layout.dtype))

    return import_samples(
        store,
        settings.record(layout, "npy"),
        [
            SampleSource(sample_id, str(found.folder / path), partial(load, path))
            for sample_id, path in paths.items()
        ],
        skipped=found.skipped,
        part_bytes=part_bytes,
        progress=progress,
    )


def _read(folder: Path, path: str, dtype: DtypeName | None) -> Array:
    where = str(folder / path)
    try:
        # mapped first: a header that claims more than the file holds is then found without the memory for it
        array = np.load(file_inside(folder, path), mmap_mode="r", allow_pickle=False)
    except _UNREADABLE as error:
        raise UnusableFileError(
            where, f"is no readable .npy file without objects ({type(error).__name__}); write it again"
        ) from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise UnusableFileError(where, "is an .npz archive; save each array as .npy")
    return np.array(time_steps(array, where, dtype))
