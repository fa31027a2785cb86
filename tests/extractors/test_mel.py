"""Resampling, windows and log-mels against the original release's numbers and against their formulas."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from extractor_goldens import golden_cases, read_case

from extractors.mel import MEL_MEAN, MEL_STD, audio_windows, fit_length, log_mel, mel_windows, resample

CASES = golden_cases("extractors/audio_mel*.safetensors")
SECOND = 16000

golden = pytest.mark.golden
each_case = pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)


def waveform(stored: torch.Tensor) -> np.ndarray:
    """Turn the case's 16-bit numbers into sound."""
    return (stored.numpy() / 32768).astype(np.float32)


@golden
@each_case
def test_mels_and_resampling_are_the_release_s(path: Path) -> None:
    tensors, metadata = read_case(path)
    clips = {name: about for name, about in json.loads(metadata["info"]).items() if not name.startswith("_")}
    assert clips
    for name, about in clips.items():
        wave = waveform(tensors[f"{name}.waveform_int16"])
        assert wave.shape == (about["channels"], about["num_samples"])
        wave = resample(wave, about["sample_rate"])
        if f"{name}.resampled_16k_head" in tensors:
            head = tensors[f"{name}.resampled_16k_head"].numpy()
            np.testing.assert_allclose(wave[:, : head.shape[1]], head, rtol=0, atol=1e-5)
        error = np.abs(mel_windows(wave) - tensors[f"{name}.mel"].numpy())
        assert len(error) == about["windows"]
        assert error.max() <= 1e-3, name
        assert error.mean() <= 2e-5, name


@golden
@each_case
def test_the_filter_bank_alone_is_the_release_s(path: Path) -> None:
    tensors, _ = read_case(path)
    names = [name for name in tensors if name.startswith("fbank_raw.log_mel_")]
    assert names
    wave = torch.from_numpy(waveform(tensors["fbank_raw.waveform_int16"]))
    for name in names:
        expected = tensors[name]
        error = (log_mel(wave - wave.mean(), expected.shape[1])[0] - expected).abs()
        # the bound of the normalised numbers, in the units before the normalisation
        assert error.max() <= 1e-3 * 9.138
        assert error.mean() <= 2e-5 * 9.138


@golden
@each_case
def test_mels_are_cut_and_padded_like_the_release_s(path: Path) -> None:
    tensors, _ = read_case(path)
    names = [name for name in tensors if name.startswith("cut.mel_target")]
    assert names
    wave = torch.from_numpy(waveform(tensors["cut.waveform_int16"]))
    for name in names:
        expected = tensors[name]
        mel = fit_length(log_mel(wave - wave.mean(), expected.shape[1]), expected.shape[2])
        assert (mel - expected).abs().max() <= 1e-3 * 9.138


@golden
@each_case
def test_the_number_of_windows_is_the_release_s(path: Path) -> None:
    counts = json.loads(read_case(path)[1]["info"])["_window_counts_16k"]
    for num_samples, expected in counts:
        wave = np.zeros((1, num_samples), dtype=np.float32)
        if expected == "error":
            with pytest.raises(ValueError, match=f"{num_samples} samples are less than one window"):
                audio_windows(wave)
        else:
            assert audio_windows(wave).shape == (expected, 2 * SECOND)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 22254, 32000, 44100, 44101, 48000, 96000])
def test_resampling_is_the_windowed_sinc(rate: int) -> None:
    # the formula for one output at a time, in float64, with all the taps that it names
    rng = np.random.default_rng(rate)
    wave = rng.uniform(-1, 1, size=(2, 3 * rate // 10)).astype(np.float32)
    found = resample(wave, rate)
    divisor = math.gcd(rate, SECOND)
    o, m = rate // divisor, SECOND // divisor
    assert found.shape == (2, math.ceil(m * wave.shape[1] / o))
    base = 0.99 * min(o, m)
    w = math.ceil(6 * o / base)
    padded = np.pad(wave.astype(np.float64), ((0, 0), (w, w + o)))
    last = found.shape[1] - 1
    for output in [0, 1, 2, last - 1, last, *rng.integers(0, last, 20)]:
        k, j = divmod(int(output), m)
        t = np.clip((np.arange(-w, w + o) / o - j / m) * base, -6, 6)
        taps = base / o * np.cos(np.pi * t / 12) ** 2 * np.sinc(t)
        expected = padded[:, k * o : k * o + 2 * w + o] @ taps
        np.testing.assert_allclose(found[:, output], expected, rtol=0, atol=2e-6)


def test_sound_at_16_khz_is_left_alone() -> None:
    wave = np.random.default_rng(1).uniform(-1, 1, size=(2, 999)).astype(np.float32)
    np.testing.assert_array_equal(resample(wave, SECOND), wave)


def test_a_window_sees_the_means_taken_from_the_one_before() -> None:
    # with a level per second, the mean of each window is that of (what is left of the first, the second)
    levels = [1.0, 5.0, -3.0, 2.0]
    wave = np.repeat(np.float32(levels), SECOND)[None]
    kept = wave.copy()
    windows = audio_windows(wave)
    left = levels[0]
    for window, second in zip(windows, levels[1:], strict=True):
        mean = (left + second) / 2
        np.testing.assert_allclose(window[[0, -1]], [left - mean, second - mean], atol=1e-6)
        left = second - mean
    np.testing.assert_array_equal(wave, kept)


def test_the_right_channel_moves_the_mean_only() -> None:
    left = np.random.default_rng(2).uniform(-0.1, 0.1, size=3 * SECOND).astype(np.float32)
    mono, stereo = audio_windows(left[None]), audio_windows(np.stack([left, np.full_like(left, 0.5)]))
    shift = mono - stereo
    np.testing.assert_allclose(shift[0], shift[0, 0], atol=1e-6)
    assert 0.2 < shift[0, 0] < 0.3


def test_silence_and_padding_have_their_known_values() -> None:
    mel = mel_windows(np.zeros((1, 2 * SECOND), dtype=np.float32))
    assert mel.shape == (1, 1, 128, 204)
    assert mel.dtype == np.float32
    np.testing.assert_allclose(mel[..., :198], -1.2776, atol=1e-4)
    np.testing.assert_allclose(mel[..., 198:], 0.46706, atol=1e-5)


def test_frames_that_windows_share_are_those_of_each_window_alone() -> None:
    # a level per second: every window has a step in its middle, once its first half has lost another mean
    rng = np.random.default_rng(3)
    levels = np.repeat(rng.uniform(-0.3, 0.3, size=(2, 9)), SECOND, axis=1)
    wave = (levels + rng.normal(0, 1e-3, size=levels.shape)).astype(np.float32)
    alone = fit_length(log_mel(torch.from_numpy(audio_windows(wave))), 204)
    np.testing.assert_allclose(mel_windows(wave)[:, 0], (alone - MEL_MEAN) / MEL_STD, rtol=0, atol=1e-3)
    shared = log_mel(torch.from_numpy(wave[:1]))[0].unfold(0, 198, 100)  # (K, 128, 198)
    assert (shared - alone[..., :198])[..., 98:100].abs().max() > 0.1


def test_a_long_clip_gives_the_windows_of_its_parts() -> None:
    # more windows than are transformed at once; each is the same as alone, apart from the shared means
    wave = np.random.default_rng(5).normal(0, 0.1, size=(1, 70 * SECOND)).astype(np.float32)
    mel = mel_windows(wave)
    assert mel.shape == (69, 1, 128, 204)
    alone = mel_windows(wave[:, 66 * SECOND : 68 * SECOND])
    np.testing.assert_allclose(mel[66], alone[0], atol=0.02)
