"""What is stored: the features of one sample, and the record that describes a whole feature set.

Shapes: T time steps, S tokens per step, D dimension.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import ml_dtypes
import numpy as np

from store.errors import LayoutConflictError, StoreError, UnsafeNameError

Array = np.ndarray[Any, np.dtype[Any]]
DtypeName = Literal["bfloat16", "float16", "float32"]

# In memory; on disk bfloat16 is kept as uint16, because Zarr 3.1 has no bfloat16.
_NUMPY_DTYPES: dict[str, np.dtype[Any]] = {
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float16": np.dtype(np.float16),
    "float32": np.dtype(np.float32),
}
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_ARRAYS_OF_EVERY_PART = frozenset({"timestamps", "row_offsets", "crc32c"})


def check_name(kind: str, name: str) -> None:
    """Raises UnsafeNameError unless `name` can be a folder name on every file system."""
    if not isinstance(name, str) or not _SAFE_NAME.fullmatch(name):
        raise UnsafeNameError(
            f"{kind} {name!r} cannot be a folder name; use letters, digits, '.', '_' and '-', "
            "a letter or digit first, at most 128 of them"
        )


@dataclass(frozen=True)
class TensorLayout:
    """The shape of one stored tensor, `(T, tokens, dim)` with T free, its dtype, and whether it may hold NaN.

    Attributes:
        finite: whether NaN and infinity are refused when a sample is written.

    Raises UnsafeNameError for a name that cannot be a folder, StoreError for sizes or dtypes out of range.
    """

    name: str
    tokens: int
    dim: int
    dtype: DtypeName
    finite: bool = True

    def __post_init__(self) -> None:
        check_name("tensor name", self.name)
        if self.name in _ARRAYS_OF_EVERY_PART:
            raise UnsafeNameError(f"tensor name {self.name!r} belongs to the part format; choose another")
        if self.tokens < 1 or self.dim < 1:
            raise StoreError(
                f"tensor {self.name!r} has no size ({self.tokens}, {self.dim}); both must be >= 1"
            )
        if self.dtype not in _NUMPY_DTYPES:
            raise StoreError(
                f"tensor {self.name!r} has dtype {self.dtype!r}; use one of {sorted(_NUMPY_DTYPES)}"
            )

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The dtype in memory (`ml_dtypes.bfloat16` for bfloat16)."""
        return _NUMPY_DTYPES[self.dtype]

    @property
    def storage_dtype(self) -> np.dtype[Any]:
        """The dtype on disk: uint16 for bfloat16, else the same as in memory."""
        return np.dtype(np.uint16) if self.dtype == "bfloat16" else self.numpy_dtype

    @property
    def row_bytes(self) -> int:
        """Bytes of one time step."""
        return self.tokens * self.dim * self.storage_dtype.itemsize


@dataclass(frozen=True, eq=False)
class Features:
    """The features of one sample.

    Attributes:
        values: (T, S, D), T >= 1, in the dtype of the feature set (bf16 is `ml_dtypes.bfloat16`).
        timestamps: (T,) float64, seconds from the start of the media; NaN where time has no meaning.
        companions: further tensors by name, each (T, S', D') with the T of `values`.
    """

    values: Array
    timestamps: Array
    companions: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class FeatureSetRecord:
    """What one extractor configuration makes of one dataset.

    Attributes:
        dataset, channel, fingerprint: the identity; each is a folder name.
        extractor, version: who made the numbers.
        tensors: the layouts; the first is named "values", the others are its companions.
        rate_hz: time steps per second, or None where there is no fixed rate.
        licence: of the encoder's weights.
        config: the full configuration, as JSON.

    Raises UnsafeNameError for names, StoreError for layouts or a config that JSON cannot hold.
    """

    dataset: str
    channel: str
    extractor: str
    version: str
    fingerprint: str
    tensors: tuple[TensorLayout, ...]
    rate_hz: float | None
    licence: str
    config: dict[str, Any]

    def __post_init__(self) -> None:
        check_name("dataset", self.dataset)
        check_name("channel", self.channel)
        check_name("fingerprint", self.fingerprint)
        names = [tensor.name for tensor in self.tensors]
        if names[:1] != ["values"] or len(set(names)) != len(names):
            raise StoreError(
                f"{self.name}: tensors are {names}; the first must be 'values' and no name comes twice"
            )
        try:
            json.dumps(self.config, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise StoreError(
                f"{self.name}: the config is not JSON ({error}); keep plain values in it"
            ) from error

    @property
    def name(self) -> str:
        """dataset/channel/fingerprint, as people and folders write it."""
        return f"{self.dataset}/{self.channel}/{self.fingerprint}"

    @property
    def values(self) -> TensorLayout:
        """The layout of the main tensor."""
        return self.tensors[0]

    def tensor(self, name: str) -> TensorLayout:
        """The layout of that name; raises StoreError naming the tensors there are."""
        for layout in self.tensors:
            if layout.name == name:
                return layout
        raise StoreError(f"{self.name} has no tensor {name!r}; it has {[t.name for t in self.tensors]}")

    def to_row(self) -> dict[str, Any]:
        """The row of the `feature_sets` table."""
        return {
            "dataset": self.dataset,
            "channel": self.channel,
            "fingerprint": self.fingerprint,
            "extractor": self.extractor,
            "version": self.version,
            "tokens": self.values.tokens,
            "dim": self.values.dim,
            "dtype": self.values.dtype,
            "tensors": json.dumps([vars(tensor) for tensor in self.tensors]),
            "rate_hz": self.rate_hz,
            "licence": self.licence,
            "config": json.dumps(self.config, allow_nan=False, sort_keys=True),
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "FeatureSetRecord":
        """The record that `to_row` wrote."""
        return cls(
            dataset=row["dataset"],
            channel=row["channel"],
            extractor=row["extractor"],
            version=row["version"],
            fingerprint=row["fingerprint"],
            tensors=tuple(TensorLayout(**tensor) for tensor in json.loads(row["tensors"])),
            rate_hz=row["rate_hz"],
            licence=row["licence"],
            config=json.loads(row["config"]),
        )

    def check_same_layout(self, other: "FeatureSetRecord") -> None:
        """Raises LayoutConflictError unless `other` stores the same tensors the same way."""
        for what in ("extractor", "version", "tensors", "rate_hz"):
            mine, theirs = getattr(self, what), getattr(other, what)
            if mine != theirs:
                raise LayoutConflictError(
                    f"{self.name} is registered with another {what} ({mine} there, {theirs} here); "
                    "whatever changes the numbers must change the fingerprint"
                )
