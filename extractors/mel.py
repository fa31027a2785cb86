"""From sound to the log-mel windows that ImageBind's audio branch takes.

The maths is that of the original release, its quirks included: 2 s windows with 1 s hop, means removed in
place on the shared waveform, the first channel only, a Kaldi-style filter bank.

Letters: C channels, n samples, K windows, F frames of a window, B mel bins.
"""

import math
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

SAMPLE_RATE = 16000
WINDOW_SECONDS = 2
HOP_SECONDS = 1
NUM_MEL_BINS = 128
TARGET_LENGTH = 204
MEL_MEAN = -4.268
MEL_STD = 9.138

_FRAME = 400  # samples, 25 ms
_FRAME_HOP = 160
_FFT = 512
_LOW_HZ = 20.0
_PREEMPHASIS = 0.97
_FLOOR = 2.0**-23
_SINC_HALF_WIDTH = 6
_SINC_ROLLOFF = 0.99
_PHASES_AT_ONCE = 64  # bound the filter tables of odd sample rates, and their number
_MOST_TABLES = 16
_TABLE_NUMBERS = 2**19  # of one table at most, where the rates' common divisor is small
_WINDOWS_AT_ONCE = 64  # bounds the memory of long clips


def resample(waveform: npt.NDArray[np.float32], rate: int) -> npt.NDArray[np.float32]:
    """Resample (C, n) samples at `rate` Hz to (C, ceil(16000 n / rate)) with a Hann-windowed sinc.

    Polyphase: with rate/16000 = o/m in lowest terms, output k*m + j is a dot product around the input
    position k*o + j*o/m with the filter of phase j. Zeros are assumed outside the waveform.
    """
    if rate == SAMPLE_RATE:
        return waveform
    divisor = math.gcd(rate, SAMPLE_RATE)
    o, m = rate // divisor, SAMPLE_RATE // divisor
    base = _SINC_ROLLOFF * min(o, m)
    w = math.ceil(_SINC_HALF_WIDTH * o / base)
    num_samples = waveform.shape[1]
    periods = num_samples // o + 1
    padded = torch.from_numpy(np.pad(waveform, ((0, 0), (w, w + o + 1))))[:, None]  # (C, 1, n + 2w + o + 1)
    block = max(_PHASES_AT_ONCE, math.ceil(m / _MOST_TABLES))
    while block > 1 and block * (o * block // m + 2 * w) > _TABLE_NUMBERS:
        block = math.ceil(block / 2)
    phases = []
    for first in range(0, m, block):
        j = np.arange(first, min(first + block, m))[:, None]
        # filters are zero further than w from their centre, so a block of phases needs few taps
        start, end = o * first // m - w, o * int(j[-1, 0]) // m + w + 2
        i = np.arange(start, end)
        t = np.clip((i / o - j / m) * base, -_SINC_HALF_WIDTH, _SINC_HALF_WIDTH)
        taps = base / o * np.cos(np.pi * t / (2 * _SINC_HALF_WIDTH)) ** 2 * np.sinc(t)
        kernel = torch.from_numpy(taps.astype(np.float32))[:, None]  # (phases, 1, taps)
        needed = padded[:, :, start + w : end + w + (periods - 1) * o]
        phases.append(F.conv1d(needed, kernel, stride=o))  # (C, phases, periods)
    interleaved = torch.cat(phases, dim=1).transpose(1, 2).flatten(1)  # (C, periods * m)
    return interleaved[:, : math.ceil(m * num_samples / o)].numpy()


def audio_windows(waveform: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Cut (C, n) samples at 16 kHz into (K, 32000) windows of the first channel, K = n // 16000 - 1.

    From each window the mean over all its channels is removed *in place*: the second half of a window is
    already shifted when the next window, which starts there, takes its own mean. `waveform` is kept.
    Raises `ValueError` for less than one window (2 s).
    """
    size, hop = WINDOW_SECONDS * SAMPLE_RATE, HOP_SECONDS * SAMPLE_RATE
    num_windows = (waveform.shape[1] - size) // hop + 1
    if num_windows < 1:
        raise ValueError(f"{waveform.shape[1]} samples are less than one window of {size}")
    shared = waveform.copy()
    windows = np.empty((num_windows, size), dtype=np.float32)
    for index in range(num_windows):
        window = shared[:, index * hop : index * hop + size]
        window -= np.float32(window.mean(dtype=np.float64))
        windows[index] = window[0]
    return windows


@cache
def _mel_filters(num_bins: int) -> Tensor:
    """(257, B) triangular filters, triangular in mel = 1127 ln(1 + Hz / 700), from 20 Hz to 8 kHz."""
    low = 1127 * math.log(1 + _LOW_HZ / 700)
    step = (1127 * math.log(1 + SAMPLE_RATE / 2 / 700) - low) / (num_bins + 1)
    left = low + step * np.arange(num_bins)
    mel = 1127 * np.log(1 + np.arange(_FFT // 2 + 1) * SAMPLE_RATE / _FFT / 700)[:, None]
    filters = np.clip(np.minimum((mel - left) / step, (left + 2 * step - mel) / step), 0, None)
    filters[-1] = 0  # the Nyquist frequency counts for nothing
    return torch.from_numpy(filters.astype(np.float32))


def log_mel(windows: Tensor, num_bins: int = NUM_MEL_BINS) -> Tensor:
    """Kaldi-style log filter bank of (K, n) samples at 16 kHz: (K, F, B), F = 1 + (n - 400) // 160.

    Per frame of 400 samples: mean removed, pre-emphasis, symmetric Hann window, 512-point power spectrum,
    filters, natural logarithm with a floor of 2^-23. No dither, no energy term.
    """
    frames = windows.unfold(1, _FRAME, _FRAME_HOP)  # (K, F, 400)
    frames = frames - frames.mean(dim=2, keepdim=True)
    before = torch.cat([frames[..., :1], frames[..., :-1]], dim=2)
    frames = (frames - _PREEMPHASIS * before) * torch.hann_window(_FRAME, periodic=False)
    power = torch.fft.rfft(frames, n=_FFT).abs().square()  # (K, F, 257)
    energy: Tensor = power @ _mel_filters(num_bins)  # (K, F, B)
    return energy.clamp(min=_FLOOR).log()


def fit_length(mel: Tensor, target_length: int) -> Tensor:
    """Turn (K, F, B) into (K, B, target_length): frames beyond it are cut, missing ones are zeros."""
    mel = mel[:, :target_length].transpose(1, 2)
    return F.pad(mel, (0, target_length - mel.shape[2]))


def mel_windows(waveform: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The tower's input from (C, n) samples at 16 kHz: (K, 1, 128, 204) normalised log-mels.

    Padding is zero before the normalisation. Raises `ValueError` for less than 2 s.
    """
    windows = torch.from_numpy(audio_windows(waveform))
    mels = [
        (fit_length(log_mel(some), TARGET_LENGTH) - MEL_MEAN) / MEL_STD
        for some in torch.split(windows, _WINDOWS_AT_ONCE)
    ]
    return torch.cat(mels)[:, None].numpy()
