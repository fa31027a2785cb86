"""What every extractor takes and gives.

Rules:
- `spec` says what the features look like and everything that changes their numbers; it needs no decoding
  and puts nothing on a device. `spec.fingerprint()` is the key of a feature set.
- `decode` runs on the CPU and raises `MediaError`; `encode` runs on the device given to `load`.
- A channel of the "video" clip has `clip_request` too, so that a clip is read once for several channels
  (`extractors/joint_decoding.py`).
- What `decode` returns does not grow without bound: a channel that reads long clips densely gives back which
  frames are needed, and reads them in `encode`, piece by piece (`extractors/dense.py`).
- The features of a sample are bit-identical whatever other samples are in the batch.

Letters: T time steps, S tokens per step, D dimension. Features are always laid out (T, S, D).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from extractors.errors import ExtractorError, MediaError

if TYPE_CHECKING:  # the records are light: only encoding needs torch
    import torch
    from pydantic import BaseModel

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"
DType: TypeAlias = Literal["bfloat16", "float16", "float32"]
EXO_ROLE = "exo/"  # of an outside camera's video; its id follows
Timestamps: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """One media item. `media` maps a role to an absolute path.

    The role "video" is the clip, "scene" an RGB-D scene (a folder or an HDF5 file), "images" a folder of
    numbered pictures, and "exo/<camera>" the video of one outside camera.
    """

    sample_id: str
    dataset: str
    media: Mapping[str, Path]

    def path(self, role: str) -> Path:
        """Return the file of `role`; raises `MediaError` when the sample has none."""
        if role not in self.media:
            raise MediaError(self.sample_id, f"the sample has no {role!r} file", "add it to the manifest")
        return self.media[role]

    def paths(self, prefix: str) -> dict[str, Path]:
        """Return the files of all roles that start with `prefix`, by the rest of the role's name.

        Raises `MediaError` when the sample has none.
        """
        found = {
            role.removeprefix(prefix): path for role, path in self.media.items() if role.startswith(prefix)
        }
        if not found:
            raise MediaError(
                self.sample_id, f"the sample has no {prefix + '...'!r} file", "add it to the manifest"
            )
        return found


@dataclass(frozen=True)
class TensorSpec:
    """One stored tensor (T, tokens, dim) of a feature set; T differs from sample to sample."""

    name: str
    tokens: int
    dim: int
    dtype: DType


@dataclass(frozen=True)
class FeatureSpec:
    """What one extractor configuration makes.

    `tensors` starts with "values"; the others are companions with the same T. `rate_hz` is the steps per
    second, None where steps are not evenly spaced in time across samples. `identity` holds all that changes
    the numbers and is no field of its own: weights hash, preprocessing, layer, pooling, dtype.
    """

    channel: str
    extractor: str
    version: str
    tensors: tuple[TensorSpec, ...]
    rate_hz: float | None
    licence: str
    identity: Mapping[str, JSON]

    def fingerprint(self) -> str:
        """Return 16 hex digits of the sha256 over the canonical JSON of all fields but the licence.

        The licence changes no number, and a local copy of a hub checkpoint does not know its licence.
        Raises `TypeError` on a value that JSON cannot hold exactly.
        """
        numbers = {
            "channel": self.channel,
            "extractor": self.extractor,
            "version": self.version,
            "tensors": [asdict(tensor) for tensor in self.tensors],
            "rate_hz": self.rate_hz,
            "identity": self.identity,
        }
        text = json.dumps(_canonical(numbers, "spec"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _canonical(value: object, where: str) -> object:
    """Return `value` as plain dicts, lists and scalars; raises `TypeError` on anything else."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"{where} has a key that is not a string")
        return {key: _canonical(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item, f"{where}[{index}]") for index, item in enumerate(value)]
    raise TypeError(f"{where} is {value!r} ({type(value).__name__}), which JSON cannot hold")


@dataclass(frozen=True)
class Decoded:
    """A decoded sample, ready to encode: CPU arrays, (T,) seconds, and what is known of the clip.

    `attributes` is what else should be kept beside the features, as plain JSON values.
    """

    sample_id: str
    tensors: Mapping[str, npt.NDArray[np.generic]]
    timestamps: Timestamps
    duration: float | None
    fps: float | None
    n_frames: int | None
    attributes: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True)
class Features:
    """The features of a sample: CPU tensors "values" (T, S, D) and companions, in the spec's dtypes.

    `timestamps` (T,) float64 are seconds from the clip's start, NaN where time has no meaning.
    """

    sample_id: str
    tensors: Mapping[str, torch.Tensor]
    timestamps: Timestamps
    duration: float | None
    fps: float | None
    n_frames: int | None
    attributes: Mapping[str, JSON] = field(default_factory=dict)

    @classmethod
    def checked(cls, spec: FeatureSpec, decoded: Decoded, tensors: Mapping[str, torch.Tensor]) -> Features:
        """Make the features of `decoded`, checked against `spec`.

        Raises `ExtractorError` when names, shapes or dtypes differ from the spec, a tensor is not on the
        CPU, numbers are not finite, or the timestamps are not T rising float64 numbers.
        """
        who = f"{decoded.sample_id}: {spec.channel} features"
        expected = [tensor.name for tensor in spec.tensors]
        if list(tensors) != expected:
            raise ExtractorError(f"{who} are {list(tensors)}, the spec says {expected}; fix the extractor")
        times = decoded.timestamps
        if times.ndim != 1 or times.dtype != np.float64 or len(times) == 0 or np.any(np.diff(times) < 0):
            raise ExtractorError(f"{who} need (T,) rising float64 timestamps, T > 0; fix the extractor")
        for tensor_spec in spec.tensors:
            tensor = tensors[tensor_spec.name]
            shape = (len(times), tensor_spec.tokens, tensor_spec.dim)
            found = (tuple(tensor.shape), str(tensor.dtype), tensor.device.type)
            if found != (shape, f"torch.{tensor_spec.dtype}", "cpu"):
                raise ExtractorError(
                    f"{who}: {tensor_spec.name!r} is {found}, the spec says {shape} {tensor_spec.dtype} "
                    "on the cpu; fix the extractor"
                )
            if not bool(tensor.isfinite().all()):
                raise ExtractorError(
                    f"{who}: {tensor_spec.name!r} holds NaN or infinite numbers; "
                    "check the weights, or store a wider dtype"
                )
        return cls(
            decoded.sample_id,
            tensors,
            times,
            decoded.duration,
            decoded.fps,
            decoded.n_frames,
            decoded.attributes,
        )


class Extractor(Protocol):
    """An extractor of one channel, made from its `config`; picklable before `load`."""

    channel: str
    config: BaseModel

    @property
    def spec(self) -> FeatureSpec:
        """What the features look like and all that changes their numbers."""

    def load(self, device: str) -> None:
        """Put the weights on `device`; raises `WeightsError`."""

    def decode(self, sample: Sample) -> Decoded:
        """Read a sample's media on the CPU; raises `MediaError`."""

    def encode(self, batch: Sequence[Decoded]) -> list[Features]:
        """Encode decoded samples on the device, one result per sample in order.

        Raises `MediaError` for a long clip that can no longer be read as it was decoded.
        """
