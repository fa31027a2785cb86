"""What importing `.npy` and HDF5 files has in common: the settings, and from any array to features.

Shapes: T time steps, S tokens per step, D dimension.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import ml_dtypes
import numpy as np

from store.features import Array, DtypeName, Features, FeatureSetRecord, TensorLayout
from store.transfer.errors import ImportSettingsError, UnusableFileError
from store.transfer.imported_record import MadeBy, imported_record

_DTYPES: dict[str, DtypeName] = {"bfloat16": "bfloat16", "float16": "float16", "float32": "float32"}
# NumPy writes bfloat16 as two bytes without a type; others keep its bits as uint16.
_BFLOAT16_BITS = (np.dtype("V2"), np.dtype(np.uint16))


@dataclass(frozen=True)
class ArrayImport:
    """How to import arrays that say nothing about themselves.

    Attributes:
        dataset, channel: names in the store.
        made_by: what made the numbers.
        dtype: of all arrays, None for that of the first readable one. "bfloat16" also reads arrays of uint16 and
            of untyped two-byte items as the bits of bfloat16.
        rate_hz: time steps per second: step i is at i / rate_hz seconds. None: time has no meaning (NaN).

    Raises ImportSettingsError for a dtype that cannot be stored or a rate that is not above 0.
    """

    dataset: str
    channel: str
    made_by: MadeBy = field(default_factory=lambda: MadeBy("imported-arrays", "1"))
    dtype: DtypeName | None = None
    rate_hz: float | None = None

    def __post_init__(self) -> None:
        if self.dtype not in (None, *_DTYPES):
            raise ImportSettingsError(
                f"dtype {self.dtype!r} cannot be stored; choose one of {sorted(_DTYPES)}"
            )
        if self.rate_hz is not None and not (np.isfinite(self.rate_hz) and self.rate_hz > 0):
            raise ImportSettingsError(f"rate_hz is {self.rate_hz}; give a number above 0, or none")

    def record(self, layout: TensorLayout, source: str) -> FeatureSetRecord:
        """The record of the feature set; `source` says for people what was imported, and is no path."""
        return imported_record(
            self.dataset, self.channel, self.made_by, layout, self.rate_hz, {"imported": source}
        )

    def features(self, values: Array) -> Features:
        """The features with these values (T, S, D), and timestamps by the rate."""
        steps = np.arange(len(values), dtype=np.float64)
        return Features(values, steps / self.rate_hz if self.rate_hz else np.full(len(values), np.nan))


def time_steps(array: Array, where: str, dtype: DtypeName | None) -> Array:
    """The array as (T, S, D), in memory order and native byte order; (T, D) is read as S = 1.

    Args: dtype: that it must have, None for any that can be stored.

    Raises UnusableFileError for another number of dimensions, no size in S or D, or another dtype.
    """
    if dtype == "bfloat16" and array.dtype in _BFLOAT16_BITS:
        array = np.ascontiguousarray(array).view(ml_dtypes.bfloat16)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.ndim == 2:
        array = array[:, None, :]
    if array.ndim != 3 or 0 in array.shape[1:]:
        raise UnusableFileError(where, f"has shape {list(array.shape)}; features are (T, S, D) or (T, D)")
    if str(array.dtype) not in ((dtype,) if dtype else _DTYPES):
        raise UnusableFileError(
            where,
            f"is {array.dtype}, but this import is of {dtype or ' or '.join(_DTYPES)}; name another dtype, or "
            "convert the file",
        )
    return np.ascontiguousarray(array)


def first_layout(readers: Iterable[Callable[[], Array]]) -> TensorLayout:
    """The layout of the first array (T, S, D) that can be read; raises the first error when none can."""
    first_error: UnusableFileError | None = None
    for read in readers:
        try:
            array = read()
        except UnusableFileError as error:
            first_error = first_error or error
            continue
        return TensorLayout("values", array.shape[1], array.shape[2], _DTYPES[str(array.dtype)])
    assert first_error is not None  # the callers have found at least one
    raise UnusableFileError(first_error.where, f"{first_error.reason}; nothing else can be read either")
