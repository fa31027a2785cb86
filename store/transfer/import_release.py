"""Importing the `.pt` feature folders of the original PAVE release.

    report = import_release(store, Path("features"), ReleaseImport("audio", dataset="avsd"))

What each kind's files look like is in `store.transfer.release_kinds`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path, PurePosixPath

import numpy as np

from store.feature_store import FeatureStore
from store.features import Array, DtypeName, Features, FeatureSetRecord, TensorLayout
from store.transfer.errors import DuplicateSourceError, ImportSettingsError, UnusableFileError
from store.transfer.import_stream import (
    PART_BYTES,
    ImportReport,
    MediaFacts,
    Progress,
    SampleSource,
    import_samples,
    no_progress,
)
from store.transfer.imported_record import MadeBy, imported_record
from store.transfer.release_kinds import RELEASE_KINDS, ReleaseKind, ReleaseKindName, interleaved
from store.transfer.sample_names import printable
from store.transfer.source_files import FoundFiles, IdRule, IdTable, file_inside, find_files
from store.transfer.torch_files import read_torch_tensor

_DTYPES: tuple[DtypeName, ...] = ("bfloat16", "float16", "float32")


@dataclass(frozen=True)
class ReleaseImport:
    """How to import a folder of the original release.

    Attributes:
        kind: "audio", "dense", "depth3d" or "exo".
        dataset: name in the store.
        channel: name in the store, None for the kind's.
        made_by: what made the numbers, None for what is known of the release.
        dtype: of all files, None for the kind's (depth3d: that of the first readable file).
        id_pattern, id_format: from relative path to sample id, see `IdRule`; None for the kind's pattern. With
            exo all files that give one id are the cameras of one take.
        ids: path of a file, or for exo of a take's folder -> sample ids; instead of a pattern.

    Raises ImportSettingsError for an unknown kind or dtype, or a wrong pattern or format.
    """

    kind: ReleaseKindName
    dataset: str
    channel: str | None = None
    made_by: MadeBy | None = None
    dtype: DtypeName | None = None
    id_pattern: str | None = None
    id_format: str = "{id}"
    ids: Mapping[str, tuple[str, ...]] | None = None

    def __post_init__(self) -> None:
        if self.kind not in RELEASE_KINDS:
            raise ImportSettingsError(
                f"there is no kind {self.kind!r}; choose one of {sorted(RELEASE_KINDS)}"
            )
        if self.dtype not in (None, *_DTYPES):
            raise ImportSettingsError(
                f"dtype {self.dtype!r} cannot be stored; choose one of {sorted(_DTYPES)}"
            )
        self.rule()

    def rule(self) -> IdRule | IdTable:
        """From a relative path to sample ids."""
        if self.ids is not None:
            return IdTable(self.ids)
        return IdRule(self.id_pattern or RELEASE_KINDS[self.kind].pattern, self.id_format)


def import_release(
    store: FeatureStore,
    folder: Path,
    settings: ReleaseImport,
    *,
    part_bytes: int = PART_BYTES,
    progress: Progress = no_progress,
) -> ImportReport:
    """Imports what the feature set does not have yet; bad files become failures and the others go on.

    The names of an exo take's cameras, in the order of their interleaving, are the sample's attribute "cameras".

    Raises SourceNotFoundError, DuplicateSourceError naming both files, UnusableFileError when no file is there
    to tell the dtype, StoreError when the store cannot be written.
    """
    kind = RELEASE_KINDS[settings.kind]
    found = find_files(Path(folder), settings.rule())
    if kind.several_files:
        _check_cameras(found)
    else:
        found.one_per_sample()
    dtype = settings.dtype or kind.dtype or _first_dtype(found, kind)
    sources = [
        SampleSource(
            sample_id,
            str(found.folder / (_parent(paths[0]) if kind.several_files else paths[0])),
            partial(_load, found.folder, tuple(paths), kind, dtype),
            MediaFacts(attributes={"cameras": _cameras(paths)} if kind.several_files else None),
        )
        for sample_id, paths in found.samples.items()
    ]
    return import_samples(
        store,
        _record(settings, kind, dtype),
        sources,
        skipped=found.skipped,
        part_bytes=part_bytes,
        progress=progress,
    )


def _record(settings: ReleaseImport, kind: ReleaseKind, dtype: DtypeName) -> FeatureSetRecord:
    return imported_record(
        settings.dataset,
        settings.channel or settings.kind,
        settings.made_by or kind.made_by,
        TensorLayout("values", kind.tokens, kind.dim, dtype),
        kind.rate_hz,
        {"imported": f"release {settings.kind}"},
    )


def _load(folder: Path, paths: tuple[str, ...], kind: ReleaseKind, dtype: DtypeName) -> Features:
    tensors = [_read(folder, path, kind, dtype) for path in paths]
    values = interleaved(tensors) if kind.several_files else tensors[0]
    return Features(values, kind.timestamps(len(values)))


def _read(folder: Path, path: str, kind: ReleaseKind, dtype: DtypeName | None) -> Array:
    """The tensor of one file as (T, S, D), checked; dtype None allows each that can be stored."""
    tensor = read_torch_tensor(file_inside(folder, path))
    where = str(folder / path)
    free = tuple(-1 if wanted == -1 else size for wanted, size in zip(kind.shape, tensor.shape, strict=False))
    if tensor.ndim != len(kind.shape) or free != kind.shape:
        wanted = ", ".join("any" if size == -1 else str(size) for size in kind.shape)
        raise UnusableFileError(where, f"has shape {list(tensor.shape)}, not ({wanted}); check the kind")
    if str(tensor.dtype) not in ((dtype,) if dtype else _DTYPES):
        raise UnusableFileError(
            where,
            f"is {tensor.dtype}, but this import is of {dtype or ' or '.join(_DTYPES)}; import files of another "
            "dtype on their own",
        )
    # the store checks this too, but cannot tell which camera it was
    if kind.several_files and not np.isfinite(tensor).all():
        raise UnusableFileError(where, "holds NaN or infinity; every stored value must be finite")
    return kind.values(tensor)


def _first_dtype(found: FoundFiles, kind: ReleaseKind) -> DtypeName:
    first_error: UnusableFileError | None = None
    for paths in found.samples.values():
        try:
            name = str(_read(found.folder, paths[0], kind, None).dtype)
        except UnusableFileError as error:
            first_error = first_error or error
            continue
        return next(dtype for dtype in _DTYPES if dtype == name)
    assert first_error is not None  # find_files found at least one file
    raise UnusableFileError(
        first_error.where, f"{first_error.reason}; no other file in the folder can be read either"
    )


def _parent(path: str) -> PurePosixPath:
    return PurePosixPath(path).parent


def _cameras(paths: list[str]) -> list[str]:
    """The names of a take's cameras, from the names of its files."""
    return [PurePosixPath(path).stem for path in paths]


def _check_cameras(found: FoundFiles) -> None:
    """Sorts each take's files by name and refuses two of one name."""
    for sample_id, paths in found.samples.items():
        paths.sort(key=lambda path: (PurePosixPath(path).name, path))
        for left, right in pairwise(paths):
            if PurePosixPath(left).stem == PurePosixPath(right).stem:
                raise DuplicateSourceError(
                    f"{printable(left)} and {printable(right)} in {found.folder} are both camera "
                    f"{PurePosixPath(left).stem!r} of sample {sample_id!r}; give an id pattern that tells them apart"
                )
