"""What the feature files of the original PAVE release (CVPR 2025) look like, one entry a kind.

Shapes: T time steps, S tokens per step, D dimension, V cameras.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from store.features import Array, DtypeName
from store.transfer.imported_record import MadeBy

ReleaseKindName = Literal["audio", "dense", "depth3d", "exo"]

_RELEASE = "original PAVE release (CVPR 2025)"


@dataclass(frozen=True)
class ReleaseKind:
    """One kind of feature file.

    Attributes:
        shape: of the tensor in a file; -1 is any length.
        dtype: of the tensor in a file; None where the release's description names none: the first readable
            file decides.
        tokens, dim: S and D of what is stored.
        rate_hz: time steps per second, None where time has no meaning.
        pattern: default id pattern for a file's relative path.
        several_files: whether a sample is a folder of files, one a camera, and not one file.
        values: from one file's tensor to (T, S, D); for `several_files` it is applied to each file.
        timestamps: from T to (T,) seconds.
        made_by: default identity.
    """

    shape: tuple[int, ...]
    dtype: DtypeName | None
    tokens: int
    dim: int
    rate_hz: float | None
    pattern: str
    values: Callable[[Array], Array]
    timestamps: Callable[[int], Array]
    made_by: MadeBy
    several_files: bool = False


def interleaved(cameras: list[Array]) -> Array:
    """V tensors (T, S, D) as one (T * V, S, D): step 0 of every camera, step 1 of every camera, ..."""
    first = cameras[0]
    result = np.empty((len(first) * len(cameras), *first.shape[1:]), first.dtype)
    for index, camera in enumerate(cameras):
        result[index :: len(cameras)] = camera
    return result


def _as_it_is(tensor: Array) -> Array:
    return tensor


def _one_token_a_step(tensor: Array) -> Array:
    return tensor[:, None, :]


def _views(tensor: Array) -> Array:
    """(1, 32 * 24 * 24, D), in (view, row, column) order, as (32, 24 * 24, D)."""
    return tensor.reshape(32, 576, -1)


def _window_centres(steps: int) -> Array:
    """Window i covers the seconds i to i + 2."""
    return np.arange(1, steps + 1, dtype=np.float64)


def _half_seconds(steps: int) -> Array:
    """Nominal: the release spreads its frames evenly over the clip and calls that 2 a second."""
    return np.arange(steps, dtype=np.float64) / 2


def _no_time(steps: int) -> Array:
    return np.full(steps, np.nan)


def _made_by(kind: str, licence: str, encoder: str) -> MadeBy:
    identity = {"release": _RELEASE, "kind": kind, "encoder": encoder}
    return MadeBy(f"pave-release-{kind}", "1", licence, identity)


RELEASE_KINDS: dict[ReleaseKindName, ReleaseKind] = {
    "audio": ReleaseKind(
        shape=(-1, 1024),
        dtype="bfloat16",
        tokens=1,
        dim=1024,
        rate_hz=1.0,
        pattern=r"(?P<id>.+)\.pt",
        values=_one_token_a_step,
        timestamps=_window_centres,
        made_by=_made_by("audio", "CC-BY-NC-SA 4.0", "ImageBind-huge, audio branch"),
    ),
    "dense": ReleaseKind(
        shape=(-1, 5, 1024),
        dtype="float16",
        tokens=5,
        dim=1024,
        rate_hz=2.0,
        pattern=r"(?P<id>.+)\.pt",
        values=_as_it_is,
        timestamps=_half_seconds,
        made_by=_made_by("dense", "unknown", "LanguageBind video tower of Video-LLaVA-7B"),
    ),
    "depth3d": ReleaseKind(
        shape=(1, 18432, 1024),
        dtype=None,
        tokens=576,
        dim=1024,
        rate_hz=None,
        pattern=r"(?P<id>.+)/video_features\.pt",
        values=_views,
        timestamps=_no_time,
        made_by=_made_by("depth3d", "unknown", "LLaVA-3D, CLIP ViT-L/14-336 with 3D positions"),
    ),
    "exo": ReleaseKind(
        shape=(32, 196, 1152),
        dtype="bfloat16",
        tokens=196,
        dim=1152,
        rate_hz=None,
        pattern=r"(?P<id>.+)/[^/]+\.pt",
        values=_as_it_is,
        timestamps=_no_time,
        made_by=_made_by("exo", "Apache-2.0", "SigLIP so400m-patch14-384"),
        several_files=True,
    ),
}
