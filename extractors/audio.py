"""The channel `audio`: one ImageBind embedding a second from a clip's sound, (T, 1, D).

A step is the 2 s window around its timestamp; windows lie completely inside the clip, so a clip of N whole
seconds has N - 1 steps, at 1.0, 2.0, ... seconds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch

from extractors.clip_requests import SoundRequest, Waveform
from extractors.config import AudioConfig
from extractors.contract import JSON, Decoded, Features, FeatureSpec, Sample, TensorSpec
from extractors.errors import ExtractorError, MediaError, WeightsError
from extractors.imagebind_audio import ImageBindAudio, TowerSize, audio_tensors, load_tower, random_tower
from extractors.joint_decoding import decode_clip
from extractors.mel import (
    HOP_SECONDS,
    MEL_MEAN,
    MEL_STD,
    NUM_MEL_BINS,
    SAMPLE_RATE,
    TARGET_LENGTH,
    WINDOW_SECONDS,
    mel_windows,
    resample,
)
from extractors.true_float32 import true_float32
from extractors.weights import hub_file, is_hub_id, tensors_hash

VERSION = "1"  # of the code: raise it with every change of the numbers beyond rounding
HUB_FILES = ("imagebind_huge.pth", "model.safetensors")
IMAGEBIND_LICENCE = "CC-BY-NC-SA 4.0"
_WINDOWS_AT_ONCE = 64  # bounds the memory of long clips
_WINDOWS_ON_CPU = 8  # what stays near the processor: 64 take a fifth longer


def tower_size(config: AudioConfig) -> TowerSize:
    """The size of the tower that the settings name."""
    return TowerSize(config.embed_dim, config.num_blocks, config.num_heads, config.out_dim)


class AudioExtractor:
    """Sound to (T, 1, D) at 1 Hz; see `extractors.contract.Extractor`."""

    channel = "audio"

    def __init__(self, config: AudioConfig) -> None:
        self.config = config
        self._device = "cpu"
        self._tower: ImageBindAudio | None = None

    @cached_property
    def spec(self) -> FeatureSpec:
        """The spec; reads the weights once to hash them. Raises `WeightsError`."""
        config = self.config
        weights: Mapping[str, JSON]
        weights = (
            {"random_seed": config.seed}
            if config.seed is not None
            else {"sha256": tensors_hash(self._tensors())}
        )
        return FeatureSpec(
            channel=self.channel,
            extractor="imagebind-audio",
            version=VERSION,
            tensors=(TensorSpec("values", 1, config.out_dim, config.dtype),),
            rate_hz=1 / HOP_SECONDS,
            licence=IMAGEBIND_LICENCE if config.seed is None else "none (random weights)",
            identity={
                "weights": weights,
                "tower": asdict(tower_size(config)),
                "stream": config.stream,
                "sample_rate": SAMPLE_RATE,
                "window_seconds": WINDOW_SECONDS,
                "hop_seconds": HOP_SECONDS,
                "mel_bins": NUM_MEL_BINS,
                "mel_frames": TARGET_LENGTH,
                "mel_mean": MEL_MEAN,
                "mel_std": MEL_STD,
                "dtype": config.dtype,
            },
        )

    def load(self, device: str) -> None:
        """Put the tower on `device`. Raises `WeightsError`."""
        seed, size = self.config.seed, tower_size(self.config)
        tower = random_tower(seed, size) if seed is not None else load_tower(self._tensors(), size)
        self._tower = tower.to(device)
        self._device = device

    def decode(self, sample: Sample) -> Decoded:
        """Read the sound of the sample's "video" file: tensor "mel" (T, 1, 128, 204) float32.

        `duration` is that of the sound, in seconds. Raises `MediaError`, for less than one window too.
        """
        return decode_clip(self, sample)

    def clip_request(self, sample: Sample) -> SoundRequest[Decoded]:
        """The sound that `decode` reads."""
        return SoundRequest(self.config.stream, partial(_log_mels, sample.sample_id))

    @true_float32()
    def encode(self, batch: Sequence[Decoded]) -> list[Features]:
        """Embed the windows of each sample: "values" (T, 1, D). Raises `ExtractorError` before `load`."""
        if self._tower is None:
            raise ExtractorError("the audio extractor has no weights yet; call load(device) before encode")
        features = []
        with torch.inference_mode():
            for decoded in batch:
                mels = torch.tensor(decoded.tensors["mel"])
                at_once = _WINDOWS_ON_CPU if self._device == "cpu" else _WINDOWS_AT_ONCE
                # a sample is never mixed with others, so its numbers do not depend on the batch
                pieces = [self._tower(mel.to(self._device)) for mel in torch.split(mels, at_once)]
                values = torch.cat(pieces)[:, None].to("cpu", getattr(torch, self.config.dtype))  # (T, 1, D)
                features.append(Features.checked(self.spec, decoded, {"values": values}))
        return features

    def _tensors(self) -> dict[str, torch.Tensor]:
        """The checkpoint's audio tensors. Raises `WeightsError`."""
        weights = self.config.weights
        if not is_hub_id(weights):
            return audio_tensors(Path(weights))
        for name in HUB_FILES:
            found = hub_file(weights, name)
            if found is not None:
                return audio_tensors(found)
        files = " or ".join(HUB_FILES)
        raise WeightsError(f"{weights!r} is no file here and no hub model with {files}; check the name")


def _log_mels(sample_id: str, waveform: Waveform, rate: int) -> Decoded:
    """The windows of a clip's sound. Raises `MediaError` for less than one."""
    duration = waveform.shape[1] / rate
    waveform = resample(waveform, rate)
    if waveform.shape[1] < WINDOW_SECONDS * SAMPLE_RATE:
        heard = np.floor(duration * 10) / 10  # rounding would call 1.96 s 2.0 s
        reason = f"audio of {heard:.1f} s is shorter than the {WINDOW_SECONDS} s window"
        raise MediaError(sample_id, reason, "leave it out or give a longer clip")
    mel = mel_windows(waveform)
    timestamps = HOP_SECONDS * np.arange(len(mel), dtype=np.float64) + WINDOW_SECONDS / 2
    return Decoded(sample_id, {"mel": mel}, timestamps, duration, fps=None, n_frames=None)
