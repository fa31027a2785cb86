"""The soundtracks of SideCue."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.sidecue_world import SAMPLE_RATE, Level

TONE_SECONDS = 0.4
TONE_HARMONICS = 12
LOUDNESS = 0.4  # the peak of a tone; a full scale is 1
# The loudness of the noise (its standard deviation), by level: 52, 26 and 18 dB below the tones' peak or less.
NOISE: dict[Level, float] = {"easy": 0.001, "medium": 0.02, "hard": 0.05}


def render_sound(
    seconds: int, tones: Sequence[tuple[float, float]], seed: int, noise: float
) -> NDArray[np.float32]:
    """A soundtrack, ``(seconds * SAMPLE_RATE,)`` float32 in [-1, 1]: noise and faded tones.

    A tone is a buzz (a fundamental and its harmonics), so that it stands out in many mel bins.

    Args:
        tones: start in seconds and fundamental in hertz of each.
        seed: of the noise.
        noise: its standard deviation.
    """
    rng = np.random.default_rng(seed)
    sound = rng.normal(0, noise, seconds * SAMPLE_RATE)
    length = int(TONE_SECONDS * SAMPLE_RATE)
    time = np.arange(length) / SAMPLE_RATE
    fade = np.minimum(1, np.minimum(time, TONE_SECONDS - time) / 0.02)
    order = np.arange(1, TONE_HARMONICS + 1)[:, None]
    for start, hertz in tones:
        first = int(start * SAMPLE_RATE)
        tone = (np.sin(2 * math.pi * hertz * order * time + order) / np.sqrt(order)).sum(axis=0)
        sound[first : first + length] += LOUDNESS * fade * tone / np.abs(tone).max()
    return sound.astype(np.float32)
