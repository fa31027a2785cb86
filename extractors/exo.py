"""The channel `exo`: SigLIP tokens of every outside camera of a take, interleaved in time.

Step t of V cameras is the slots t * V to t * V + V - 1 of "values" (T * V, S, D), one camera after another in
the order of their ids. A camera whose video cannot be used is left out; the attributes say which and why.
"""

import math
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from transformers import SiglipVisionConfig

from extractors.config import ExoConfig, Pooling
from extractors.contract import EXO_ROLE, Decoded, Features, FeatureSpec, Sample, TensorSpec
from extractors.errors import ExtractorError, MediaError
from extractors.key_frames import KeyFrames, read_key_frames
from extractors.pictures import MEAN, STD, normalise_pixels, resize_picture
from extractors.true_float32 import true_float32
from extractors.vision_base import pool as pool_bilinear
from extractors.vision_tower import TowerSource, VisionTower

VERSION = "1"  # of the code: raise it with every change of the numbers beyond rounding
LICENCE = "Apache-2.0 (SigLIP)"
# a random tower is for trying out: small, but with the published patches
SMALL_SIGLIP = SiglipVisionConfig(
    image_size=384,
    patch_size=14,
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=2,
    hidden_act="gelu_pytorch_tanh",
)
_FRAMES_AT_ONCE = 32  # bounds memory when many frames are asked for


class ExoExtractor:
    """Outside cameras' videos to (T * V, S, D); see `extractors.contract.Extractor`."""

    channel = "exo"

    def __init__(self, config: ExoConfig) -> None:
        self.config = config
        self.tower = TowerSource("siglip", config.weights, SMALL_SIGLIP)
        self._device = "cpu"
        self._module: VisionTower | None = None

    @cached_property
    def spec(self) -> FeatureSpec:
        """The spec; reads the weights once to hash them. Raises `WeightsError`."""
        config = self.config
        tokens = num_tokens(self.tower.grid, config.pooling)
        return FeatureSpec(
            channel=self.channel,
            extractor="siglip-exo",
            version=VERSION,
            tensors=(TensorSpec("values", tokens, self.tower.config.hidden_size, config.dtype),),
            rate_hz=None,
            licence=LICENCE if config.seed is None else "none (random weights)",
            identity={
                **self.tower.identity(),
                "resize": "pillow-bicubic-square",
                "mean": MEAN,
                "std": STD,
                "pool": config.pooling,
                "num_frames": config.num_frames,
                "frame_choice": "linspace-truncated",
                "camera_order": "sorted",
                "dtype": config.dtype,
            },
        )

    def load(self, device: str) -> None:
        """Put the tower on `device`. Raises `WeightsError`."""
        self._module = self.tower.build().to(device)
        self._device = device

    def decode(self, sample: Sample) -> Decoded:
        """Read the frames of each camera, the roles "exo/<camera>": "pixels" (V, T, H, W, 3) uint8, resized.

        `timestamps` of a step are the mean of the known times of its cameras, which differ where their clips
        do; length and rate are the longest clip's. Attributes: "cameras" in the order of the slots, "missing_cameras"
        with the reason for each. Raises `MediaError` when no camera can be used.
        """
        found: dict[str, KeyFrames] = {}
        missing: dict[str, str] = {}
        for camera, path in sorted(sample.paths(EXO_ROLE).items()):
            try:
                if not path.exists():  # the reading would name the path, which is another on each machine
                    raise MediaError(sample.sample_id, "the file does not exist", "add it")
                found[camera] = read_key_frames(
                    path, sample.sample_id, self.config.num_frames, each=self._resized
                )
            except MediaError as error:
                missing[camera] = error.reason
        if not found:
            reasons = "; ".join(f"{camera}: {reason}" for camera, reason in missing.items())
            hint = "leave the take out, or replace its videos"
            raise MediaError(sample.sample_id, f"no outside camera can be used ({reasons})", hint)
        timed = [frames.timestamps for frames in found.values() if not np.isnan(frames.timestamps).any()]
        times = np.mean(timed, axis=0) if timed else np.full(self.config.num_frames, np.nan)  # (T,)
        longest = max(found.values(), key=lambda frames: frames.duration)
        return Decoded(
            sample.sample_id,
            {"pixels": np.stack([np.stack(frames.frames) for frames in found.values()])},
            np.repeat(times, len(found)),
            longest.duration,
            longest.fps,
            longest.n_frames,
            attributes={"cameras": list(found), "missing_cameras": missing},
        )

    @true_float32()
    def encode(self, batch: Sequence[Decoded]) -> list[Features]:
        """Make "values" of each sample. Raises `ExtractorError` before `load`."""
        if self._module is None:
            raise ExtractorError("the exo extractor has no weights yet; call load(device) before encode")
        features = []
        with torch.inference_mode():
            for decoded in batch:
                # a sample is never mixed with others, so its numbers do not depend on the batch
                cameras = [self._encode_camera(pixels) for pixels in decoded.tensors["pixels"]]
                values = interleave(torch.stack(cameras)).contiguous()
                features.append(Features.checked(self.spec, decoded, {"values": values}))
        return features

    def _encode_camera(self, pixels: np.ndarray) -> Tensor:
        """(T, H, W, 3) uint8 to (T, S, D) in the stored type, on the CPU."""
        assert self._module is not None
        pieces = []
        for first in range(0, len(pixels), _FRAMES_AT_ONCE):
            frames = normalise_pixels(pixels[first : first + _FRAMES_AT_ONCE]).to(self._device)
            pieces.append(pool(self._module(frames), self.config.pooling))
        return torch.cat(pieces).to("cpu", getattr(torch, self.config.dtype))

    def _resized(self, picture: np.ndarray) -> np.ndarray:
        return resize_picture(picture, self.tower.config.image_size)


def num_tokens(grid: int, pooling: Pooling) -> int:
    """S, the tokens of a frame of grid x grid patches after pooling."""
    return int((-(-grid // 2) if pooling == "bilinear" else grid // 2) ** 2)


def pool(tokens: Tensor, pooling: Pooling) -> Tensor:
    """Halve the square grid of (F, P, C): (F, S, C), row by row.

    Bilinear rounds the side up; average and max are over blocks of 2 x 2 and leave an odd last row out.
    """
    if pooling == "bilinear":
        return pool_bilinear(tokens)
    functions: dict[Pooling, Callable[[Tensor, int], Tensor]] = {"average": F.avg_pool2d, "max": F.max_pool2d}
    frames, patches, dim = tokens.shape
    side = math.isqrt(patches)
    grid = tokens.transpose(1, 2).reshape(frames, dim, side, side)
    return functions[pooling](grid, 2).flatten(2).transpose(1, 2)


def interleave(cameras: Tensor) -> Tensor:
    """(V, T, S, C) to (T * V, S, C): slot t * V + v is camera v at step t."""
    return cameras.transpose(0, 1).flatten(0, 1)
