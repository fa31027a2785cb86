"""Reading datasets of an HDF5 file that somebody else may have written: nothing outside the file is opened."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from store.features import Array
from store.transfer.errors import OutsideFolderError, UnusableFileError
from store.transfer.sample_names import is_text, printable
from store.transfer.source_files import SkippedFile

# What h5py raises on damaged or foreign content.
_UNREADABLE = (OSError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, MemoryError)


def read_array(file: Any, path: Path, name: str, rows: slice = slice(None)) -> Array:
    """Rows of one dataset, in memory; uint16 with the attribute dtype="bfloat16" becomes bfloat16.

    Raises UnusableFileError when it is not there or cannot be read, OutsideFolderError for links and for data that
    is kept in other files.
    """
    where = f"{path}:{printable(name)}"
    dataset = _dataset(file, where, name)
    try:
        if dataset.ndim == 0:
            raise UnusableFileError(where, "is a single value, not an array")
        array: Array = dataset[rows]
        is_bfloat16 = array.dtype == np.uint16 and str(dataset.attrs.get("dtype")) == "bfloat16"
    except _UNREADABLE as error:
        raise UnusableFileError(where, f"cannot be read ({error}); check the file") from error
    return array.view(ml_dtypes.bfloat16) if is_bfloat16 else array


def has(file: Any, path: Path, name: str) -> bool:
    """Whether there is something of that name at the top; raises UnusableFileError when that cannot be told."""
    try:
        return name in file
    except _UNREADABLE as error:
        raise UnusableFileError(str(path), f"cannot be listed ({error}); check the file") from error


def read_attribute(file: Any, path: Path, name: str, dataset: str = "") -> str | None:
    """An attribute of the file, or of one of its datasets, as text; None when it is not there.

    Raises UnusableFileError when it cannot be read.
    """
    where = f"{path}:{printable(dataset)}"
    node = _dataset(file, where, dataset) if dataset else file
    try:
        value = node.attrs.get(name)
    except _UNREADABLE as error:
        raise UnusableFileError(where, f"has an unreadable attribute {name} ({error}); check it") from error
    return None if value is None else str(value)


def read_text(file: Any, path: Path, name: str) -> str:
    """The text of a dataset with one value; raises UnusableFileError when it is none."""
    where = f"{path}:{name}"
    try:
        return str(_dataset(file, where, name).asstr()[()])
    except _UNREADABLE as error:
        raise UnusableFileError(where, f"cannot be read as text ({error}); check the file") from error


def sample_names(file: Any, path: Path, group: str = "") -> tuple[list[str], list[SkippedFile]]:
    """Names of all datasets below a group, sorted, and the links and names that cannot be used."""
    import h5py

    names: list[str] = []
    skipped: list[SkippedFile] = []
    found: list[str] = []
    try:
        top = file[group] if group else file
        if group and not isinstance(file.get(group, getlink=True), h5py.HardLink):
            raise UnusableFileError(f"{path}:{group}", "is a link; export it again")
        if not isinstance(top, h5py.Group):
            raise UnusableFileError(f"{path}:{group}", "is no group; export it again")
        top.visit_links(found.append)  # an exception in there would end as a SystemError
        for name in found:
            if not isinstance(top.get(name, getlink=True), h5py.HardLink):
                skipped.append(SkippedFile(printable(name), "is a link, which is not followed"))
            elif not is_text(name):
                skipped.append(SkippedFile(printable(name), "gives no sample id that is text; rename it"))
            elif isinstance(top[name], h5py.Dataset):
                names.append(name)
    except _UNREADABLE as error:
        raise UnusableFileError(str(path), f"cannot be listed ({error}); check the file") from error
    return sorted(names), skipped


def read_index(file: Any, path: Path, datasets: Sequence[str]) -> tuple[list[str], list[int], list[str]]:
    """`sample_ids` (n), `row_offsets` (n + 1) and, where there is one, `media` (n) of a concatenated file.

    Raises UnusableFileError when they do not fit each other or the datasets.
    """
    try:
        texts = {
            name: _dataset(file, f"{path}:{name}", name).asstr()[:].tolist()
            for name in ("sample_ids", "media")
            if name == "sample_ids" or has(file, path, name)
        }
    except _UNREADABLE as error:
        raise UnusableFileError(str(path), f"has an index that is not text ({error}); check it") from error
    offsets = read_array(file, path, "row_offsets")
    sample_ids, media = texts["sample_ids"], texts.get("media", [])
    totals = {
        name: (_dataset(file, f"{path}:{name}", name).shape or (0,))[0]
        for name in (*datasets, "timestamps")
        if name in datasets or has(file, path, name)
    }
    if (
        not isinstance(sample_ids, list)
        or offsets.dtype.kind not in "iu"
        or offsets.shape != (len(sample_ids) + 1,)
        or offsets[0] != 0
        or (np.diff(offsets.astype(np.int64)) < 0).any()
        or set(totals.values()) != {int(offsets[-1])}
        or len(media) not in (0, len(sample_ids))
    ):
        raise UnusableFileError(
            str(path),
            f"has {len(sample_ids)} sample_ids and row_offsets {offsets.dtype}{list(offsets.shape)} that do not cut "
            f"the rows of {totals} into samples; write the index again",
        )
    return sample_ids, offsets.tolist(), media


def _dataset(file: Any, where: str, name: str) -> Any:
    """The dataset of that name, reached without links and kept in this file."""
    import h5py

    node = file
    try:
        for part in name.split("/"):
            link = node.get(part, getlink=True) if isinstance(node, h5py.Group) else None
            if link is None:
                raise UnusableFileError(where, "is not there; check the file and the name")
            if not isinstance(link, h5py.HardLink):
                raise OutsideFolderError(where, "is reached through a link, which is not followed")
            node = node[part]
        if not isinstance(node, h5py.Dataset):
            raise UnusableFileError(where, "is not a dataset")
        if node.external or node.is_virtual:
            raise OutsideFolderError(where, "keeps its data in other files; copy them into this one")
    except _UNREADABLE as error:
        raise UnusableFileError(where, f"cannot be opened ({error}); check the file") from error
    return node
