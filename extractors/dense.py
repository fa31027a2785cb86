"""The channel `dense`: five tokens a frame, two frames a second, (T, 5, D).

T is a multiple of the tower's chunk of 8 frames. Token 0 is the class token, the others the means of the four
quarters of the picture, row by row. A clip of some minutes is decoded into its pixels; of a longer one `decode`
finds out which frames are needed, and `encode` reads them a few chunks at a time, so that the memory does not
grow with the clip.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import groupby, islice
from operator import attrgetter
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from extractors.clip_requests import ChosenFrames, Indices, Picture, PictureRequest
from extractors.config import DenseConfig
from extractors.contract import Decoded, Features, FeatureSpec, Sample, TensorSpec
from extractors.dense_frames import DEFAULT_RATE, FRAMES_PER_SECOND, dense_frame_indices
from extractors.dense_pixels import CLIP_MEAN, CLIP_STD, PickedPicture, pick, squares
from extractors.errors import ExtractorError, MediaError
from extractors.frame_stream import stream_frames
from extractors.joint_decoding import decode_clip
from extractors.languagebind_video import VideoTower, pool_tokens
from extractors.true_float32 import true_float32
from extractors.video_tower_source import VideoTowerSource

VERSION = "1"  # of the code: raise it with every change of the numbers beyond rounding
LANGUAGEBIND_LICENCE = "MIT"
NUM_TOKENS = 5
MAX_FRAMES_HELD = 256  # about two minutes, at most 154 MB at 224 x 224
MAX_REPEATS = 60  # of a frame: one in half a minute is no moving picture, or the file's times are wrong
_CHUNKS_AT_ONCE = 4  # bounds the memory of long clips


@dataclass(frozen=True, kw_only=True)
class LongClip(Decoded):
    """A clip that has more frames than are held, or frames of several sizes: `encode` reads those of `indices` (T,)
    from the file again."""

    path: Path
    indices: Indices


class DenseExtractor:
    """Video to (T, 5, D) at 2 Hz; see `extractors.contract.Extractor`."""

    channel = "dense"

    def __init__(self, config: DenseConfig) -> None:
        self.config = config
        self.source = VideoTowerSource(config.tower, config.weights, config.random_size)
        self._device = "cpu"
        self._tower: VideoTower | None = None

    @cached_property
    def spec(self) -> FeatureSpec:
        """The spec; reads the weights once to hash them. Raises `WeightsError`."""
        config = self.config
        published = LANGUAGEBIND_LICENCE if config.tower == "languagebind" else "unknown"
        return FeatureSpec(
            channel=self.channel,
            extractor=f"{config.tower}-video",
            version=VERSION,
            tensors=(TensorSpec("values", NUM_TOKENS, self.source.size.hidden_size, config.dtype),),
            rate_hz=float(FRAMES_PER_SECOND),
            licence=published if config.seed is None else "none (random weights)",
            identity={
                **self.source.identity(),
                "min_frames": config.min_frames,
                "frame_choice": "two-a-second-linspace-truncated",
                "default_rate": DEFAULT_RATE,
                "resize": "bilinear-short-side-centre-crop",
                "mean": CLIP_MEAN,
                "std": CLIP_STD,
                "pool": "class-and-quarters",
                "dtype": config.dtype,
            },
        )

    def load(self, device: str) -> None:
        """Put the tower on `device`. Raises `WeightsError`."""
        self._tower = self.source.build().to(device)
        self._device = device

    def decode(self, sample: Sample) -> Decoded:
        """Read the frames of the sample's "video" file: "pixels" (T, R, C, 3) uint8, or a `LongClip`.

        These are what the tower's square depends on, picked of pictures of "size" (H, W) int64
        (`extractors.dense_pixels`). `timestamps` are the frames' times. Raises `MediaError`, for long clips too: all
        of it is decoded.
        """
        return decode_clip(self, sample)

    def clip_request(self, sample: Sample) -> PictureRequest[PickedPicture, Decoded]:
        """The pictures that `decode` reads; of a clip that needs more than `MAX_FRAMES_HELD`, their times only."""
        sample_id = sample.sample_id

        def finish(found: ChosenFrames[PickedPicture]) -> Decoded:
            clip = found.duration, found.fps, found.n_frames
            sizes = {frame.size for frame in found.frames}
            if len(sizes) == 1:
                pixels = np.stack([frame.pixels for frame in found.frames])
                picked: dict[str, np.ndarray] = {"pixels": pixels, "size": np.array(sizes.pop(), np.int64)}
                return Decoded(sample_id, picked, found.timestamps, *clip)
            path, indices = sample.path("video"), found.indices
            return LongClip(sample_id, {}, found.timestamps, *clip, path=path, indices=indices)

        return PictureRequest(
            partial(self._choose, sample_id=sample_id), self._pick, finish, most=MAX_FRAMES_HELD
        )

    @true_float32()
    def encode(self, batch: Sequence[Decoded]) -> list[Features]:
        """Make "values" (T, 5, D) of each sample.

        Raises `ExtractorError` before `load`, and `MediaError` for a long clip whose file has changed.
        """
        if self._tower is None:
            raise ExtractorError("the dense extractor has no weights yet; call load(device) before encode")
        features = []
        for decoded in batch:
            shape = (len(decoded.timestamps), NUM_TOKENS, self.source.size.hidden_size)
            values = torch.empty(shape, dtype=getattr(torch, self.config.dtype))
            first = 0
            # a sample is never mixed with others, so its numbers do not depend on the batch
            with torch.inference_mode():
                for pixels in self._pieces(decoded):
                    tokens = pool_tokens(self._tower(pixels))
                    values[first : first + len(pixels)] = tokens.to("cpu", values.dtype)
                    first += len(pixels)
            features.append(Features.checked(self.spec, decoded, {"values": values}))
        return features

    def _choose(self, num_decoded: int, fps: float | None, sample_id: str) -> Indices:
        """Which frames. Raises `MediaError` for a rate so low that the same few would be given for ever."""
        size = self.source.size
        if fps is not None and fps * MAX_REPEATS < FRAMES_PER_SECOND:
            reason = f"the video has one picture in {1 / fps:.0f} s"
            raise MediaError(sample_id, reason, "leave it out, or give a file with moving pictures")
        return dense_frame_indices(num_decoded, fps, self.config.min_frames, size.num_frames)

    def _pick(self, picture: Picture) -> PickedPicture:
        return pick(picture, self.source.size.image_size)

    def _pieces(self, decoded: Decoded) -> Iterator[Tensor]:
        """The tower's input, some chunks at a time; the same pieces whether pixels are held or read."""
        num_frames = _CHUNKS_AT_ONCE * self.source.size.num_frames
        if not isinstance(decoded, LongClip):
            pixels, (height, width) = decoded.tensors["pixels"], decoded.tensors["size"].tolist()
            for first in range(0, len(pixels), num_frames):
                yield self._squares(pixels[first : first + num_frames], (height, width))
            return
        with closing(stream_frames(decoded.path, decoded.sample_id, decoded.indices, self._pick)) as frames:
            while piece := list(islice(frames, num_frames)):
                yield torch.cat(
                    [
                        self._squares(np.stack([frame.pixels for frame in some]), size)
                        for size, some in groupby(piece, key=attrgetter("size"))
                    ]
                )

    def _squares(self, pixels: np.ndarray, size: tuple[int, int]) -> Tensor:
        return squares(torch.tensor(pixels).to(self._device), size, self.source.size.image_size)
