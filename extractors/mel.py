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

from extractors.heartbeat import beat

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
_PHASES_AT_ONCE = 16  # filters of near phases overlap: so many in one product cost the least
_MOST_TABLES = 64  # of filters: odd sample rates have thousands of phases
_FRAMES_AT_ONCE = 800  # what stays in the processor's cache
_FRAMES_PER_HOP = HOP_SECONDS * SAMPLE_RATE // _FRAME_HOP
_FRAMES_PER_WINDOW = 1 + (WINDOW_SECONDS * SAMPLE_RATE - _FRAME) // _FRAME_HOP
_MIDDLE = range(98, 100)  # frames of a window in which its second half begins


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
    together = -(-_PHASES_AT_ONCE // m)  # periods that count as one, where a period has few phases
    o_all, m_all = o * together, m * together
    num_samples = waveform.shape[1]
    periods = num_samples // o_all + 1
    padded = torch.from_numpy(np.pad(waveform, ((0, 0), (w, w + o_all + 1))))  # (C, 2w + n + o_all + 1)
    block = max(_PHASES_AT_ONCE, math.ceil(m_all / _MOST_TABLES))
    phases = []
    for first in range(0, m_all, block):
        j = np.arange(first, min(first + block, m_all))[:, None]
        # filters are zero further than w from their centre, so a block of phases needs few taps
        start, end = o * first // m - w, o * int(j[-1, 0]) // m + w + 2
        i = np.arange(start, end)
        t = np.clip((i / o - j / m) * base, -_SINC_HALF_WIDTH, _SINC_HALF_WIDTH)
        taps = base / o * np.cos(np.pi * t / (2 * _SINC_HALF_WIDTH)) ** 2 * np.sinc(t)
        kernel = torch.from_numpy(taps.astype(np.float32))  # (phases, taps)
        needed = padded[:, start + w : end + w + (periods - 1) * o_all]
        beat()
        phases.append(needed.unfold(1, end - start, o_all) @ kernel.T)  # (C, periods, phases)
    interleaved = torch.cat(phases, dim=2).flatten(1)  # (C, periods * m_all)
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
    pieces = torch.split(frames.flatten(0, 1), _FRAMES_AT_ONCE)
    energy = torch.cat([_mel_energy(some, num_bins) for some in pieces])  # (K * F, B)
    return energy.clamp_(min=_FLOOR).log_().view(*frames.shape[:2], num_bins)


def _mel_energy(frames: Tensor, num_bins: int) -> Tensor:
    """The filters' energies of (N, 400) frames: (N, B)."""
    centred = frames - frames.mean(dim=1, keepdim=True)
    padded = frames.new_zeros(len(frames), _FFT)
    emphasised = padded[:, :_FRAME]
    torch.mul(centred[:, :1], 1 - _PREEMPHASIS, out=emphasised[:, :1])
    torch.sub(centred[:, 1:], centred[:, :-1], alpha=_PREEMPHASIS, out=emphasised[:, 1:])
    emphasised *= torch.hann_window(_FRAME, periodic=False)
    squares = torch.view_as_real(torch.fft.rfft(padded)).square_()  # (N, 257, 2)
    return (squares[..., 0] + squares[..., 1]) @ _mel_filters(num_bins)


def fit_length(mel: Tensor, target_length: int) -> Tensor:
    """Turn (K, F, B) into (K, B, target_length): frames beyond it are cut, missing ones are zeros."""
    mel = mel[:, :target_length].transpose(1, 2)
    return F.pad(mel, (0, target_length - mel.shape[2]))


def mel_windows(waveform: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The tower's input from (C, n) samples at 16 kHz: (K, 1, 128, 204) normalised log-mels.

    Padding is zero before the normalisation. Raises `ValueError` for less than 2 s.

    Windows overlap, and a frame's numbers do not depend on a mean that its window lost, since it loses its own: each
    frame is computed once for both windows. Only the two in a window's middle have two means in them.
    """
    windows = audio_windows(waveform)
    first_channel = torch.from_numpy(waveform[:1, : (len(windows) + 1) * HOP_SECONDS * SAMPLE_RATE])
    mel = log_mel(first_channel)[0].unfold(0, _FRAMES_PER_WINDOW, _FRAMES_PER_HOP)  # (K, B, 198)
    mel = fit_length(mel.transpose(1, 2), TARGET_LENGTH)  # (K, B, 204)
    start, end = _MIDDLE.start * _FRAME_HOP, (_MIDDLE.stop - 1) * _FRAME_HOP + _FRAME
    middle = log_mel(torch.from_numpy(windows[:, start:end]))  # (K, 2, B)
    mel[..., _MIDDLE.start : _MIDDLE.stop] = middle.transpose(1, 2)
    return mel.sub_(MEL_MEAN).div_(MEL_STD)[:, None].numpy()
