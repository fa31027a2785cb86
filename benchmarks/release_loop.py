"""The loop of the original release, after the description of what it does to a clip: one process, one clip after the
other, each decoded whole, preprocessed with plain tensor operations, encoded and saved as a `.pt`.

    audio   resampled with one table of all phases; each window of two seconds by itself to a log-mel, windows
            stacked, encoded. The release rewrites the sound as MP3 first; that step is left out here.
    dense   the frames decoded on all cores, those that are chosen made pictures and stacked, brought to [0, 1] and
            normalised, resized as a whole, of which the middle is cut, encoded

The reading of sound, the log-mel of one window, the choice of frames and the towers are ours. The features are those
of the extractors, but for rounding.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from extractors.audio import AudioExtractor
from extractors.clip_reader import read_one
from extractors.clip_requests import SoundRequest
from extractors.contract import Decoded, Extractor, Sample
from extractors.dense import DenseExtractor
from extractors.dense_frames import dense_frame_indices
from extractors.dense_pixels import CLIP_MEAN, CLIP_STD, crop_geometry
from extractors.languagebind_video import pool_tokens
from extractors.media_info import probe
from extractors.mel import MEL_MEAN, MEL_STD, SAMPLE_RATE, TARGET_LENGTH, fit_length, log_mel

_HALF_WIDTH = 6  # zero crossings of the resampling filter on each side
_ROLLOFF = 0.99


class ReleaseLoop:
    """The loop with the encoder of an extractor, loaded on `device`."""

    def __init__(self, extractor: Extractor, device: str) -> None:
        self._features: Callable[[Sample], Tensor]
        if isinstance(extractor, AudioExtractor):
            extractor.load(device)
            self._features = lambda sample: audio_features(extractor, sample)
        elif isinstance(extractor, DenseExtractor):
            tower = extractor.source.build().to(device)
            self._features = lambda sample: dense_features(extractor, tower, device, sample)
        else:
            raise ValueError(f"the release's way with {extractor.channel} is not written down here")

    def run(self, samples: Sequence[Sample], folder: Path) -> None:
        """Do the clips: `folder`/SAMPLE.pt holds the values (T, S, D)."""
        for sample in samples:
            torch.save(self._features(sample), folder / f"{sample.sample_id}.pt")


def audio_features(extractor: AudioExtractor, sample: Sample) -> Tensor:
    """(T, 1, D) of a clip's sound."""
    sound = SoundRequest(0, lambda waveform, rate: resample(torch.from_numpy(waveform), rate))
    waveform = read_one(sample.path("video"), sample.sample_id, sound)  # (C, n)
    num_windows = waveform.shape[1] // SAMPLE_RATE - 1
    mels = []
    for first in range(num_windows):
        window = waveform[:, first * SAMPLE_RATE : (first + 2) * SAMPLE_RATE]
        window -= window.mean()
        mels.append((fit_length(log_mel(window[:1]), TARGET_LENGTH) - MEL_MEAN) / MEL_STD)
    decoded = Decoded(
        sample.sample_id,
        {"mel": torch.stack(mels).numpy()},  # (T, 1, 128, 204)
        np.arange(1.0, num_windows + 1),
        waveform.shape[1] / SAMPLE_RATE,
        None,
        None,
    )
    return extractor.encode([decoded])[0].tensors["values"]


def resample(waveform: Tensor, rate: int) -> Tensor:
    """(C, n) at `rate` Hz to 16 kHz, all phases of the filter in one convolution."""
    divisor = math.gcd(rate, SAMPLE_RATE)
    step, phases = rate // divisor, SAMPLE_RATE // divisor
    base = _ROLLOFF * min(step, phases)
    width = math.ceil(_HALF_WIDTH * step / base)
    taps = torch.arange(-width, width + step, dtype=torch.float64) / step
    phase = torch.arange(phases, dtype=torch.float64)[:, None] / phases
    t = ((taps - phase) * base).clamp(-_HALF_WIDTH, _HALF_WIDTH)
    kernel = base / step * torch.cos(torch.pi * t / (2 * _HALF_WIDTH)) ** 2 * torch.sinc(t)
    padded = F.pad(waveform, (width, width + step))[:, None]
    found = F.conv1d(padded, kernel.float()[:, None], stride=step)  # (C, phases, periods)
    return found.transpose(1, 2).flatten(1)[:, : math.ceil(phases * waveform.shape[1] / step)]


def dense_features(extractor: DenseExtractor, tower: torch.nn.Module, device: str, sample: Sample) -> Tensor:
    """(T, 5, D) of a clip's pictures."""
    path = sample.path("video")
    info = probe(path, sample.sample_id)  # a reader with an index counts the frames first
    size = extractor.source.size
    indices = dense_frame_indices(info.n_frames, info.fps, extractor.config.min_frames, size.num_frames)
    pictures: dict[int, np.ndarray] = {}
    wanted = set(indices.tolist())
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        for index, frame in enumerate(container.decode(video=0)):
            if index in wanted:
                pictures[index] = frame.to_ndarray(format="rgb24")
    chosen = np.stack([pictures[index] for index in indices.tolist()])
    video = torch.from_numpy(chosen).to(device).permute(0, 3, 1, 2) / 255  # (T, 3, H, W)
    mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (CLIP_MEAN, CLIP_STD))
    video = (video - mean) / std
    side = size.image_size
    geometry = crop_geometry(*chosen.shape[1:3], side)
    whole = F.interpolate(video, (geometry.height, geometry.width), mode="bilinear", align_corners=False)
    cut = whole[:, :, geometry.top : geometry.top + side, geometry.left : geometry.left + side]
    with torch.inference_mode():
        return pool_tokens(tower(cut.contiguous())).cpu()
