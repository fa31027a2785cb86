"""SideCue's world `flashes`: the picture flashes twice between the key frames, and a tone sounds with one flash.

The rim of the picture blinks twice as well, on key frames: the video-only questions are about these blinks.

Questions of the channel `dense`: which colour flashed first, and which second. The question `flash_at_tone`, which
colour flashed when the tone sounded, needs `dense` and `audio` together.

Why the key frames alone cannot answer: a flash is one frame long, on a frame that `dense` samples (two a second) and
that is none of `NUM_KEY_FRAMES` key frames, so that these are the same whatever the flashes are: in the file too, where
no frame is predicted from another. Their colours and moments, and which of them has the tone, are drawn last, without
looking at what is visible. Dense frames in turn show none of the blinks.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.sidecue_sound import NOISE, TONE_SECONDS, render_sound
from tasks.sidecue_video import write_video
from tasks.sidecue_world import COLOURS, FPS, FRAME_SIZE, Clip, Level, Question, World

CLIP_SECONDS = (8, 9)
NUM_KEY_FRAMES = 10
NUM_DENSE_FRAMES = 16  # of clips of 8 and of 9 seconds: two a second, in chunks of 8
RIM = 12  # pixels
BACKGROUND, RIM_GREY = 128, 60
# How far a flash is from the background's grey to its colour, by level.
STRENGTH: dict[Level, float] = {"easy": 1.0, "medium": 0.5, "hard": 0.25}
# How far the flashes are apart at least, by level. A sound window reaches 1 s to each side of its middle.
APART_SECONDS: dict[Level, float] = {"easy": 4.0, "medium": 3.0, "hard": 2.0}
BLINKS_APART_SECONDS = 3.0


@dataclass(frozen=True)
class FlashClip(Clip):
    """One drawn clip. Frame numbers rise; `tone_flash` is the number of the flash with the tone.

    `strength` is that of the flashes: 1 is the full colour, 0 none. `noise` is the loudness of the noise.
    """

    world = "flashes"

    seconds: int
    blink_frames: tuple[int, int]
    blink_colours: tuple[str, str]
    flash_frames: tuple[int, int]
    flash_colours: tuple[str, str]
    strength: float
    tone_flash: int
    tone_time: float
    tone_hertz: float
    noise: float
    sound_seed: int


def frames_of(seconds: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The frames that only `dense` sees, and those that are only key frames; rising."""
    last = seconds * FPS - 1
    dense = np.linspace(0, last, NUM_DENSE_FRAMES, dtype=np.int64)
    key = np.linspace(0, last, NUM_KEY_FRAMES, dtype=np.int64)
    return np.setdiff1d(dense, key), np.setdiff1d(key, dense)


def _draw_two(
    frames: NDArray[np.int64], apart: float, rng: np.random.Generator
) -> tuple[tuple[int, int], tuple[str, str]]:
    """Two of `frames` that are `apart` seconds from each other at least, and two colours."""
    pairs = [(a, b) for a in frames.tolist() for b in frames.tolist() if b - a >= apart * FPS]
    one, other = (str(colour) for colour in rng.permutation(list(COLOURS))[:2])
    return pairs[int(rng.integers(len(pairs)))], (one, other)


def draw_flash_clip(number: int, split: str, rng: np.random.Generator, level: Level) -> FlashClip:
    seconds = int(rng.choice(CLIP_SECONDS))
    only_dense, only_key = frames_of(seconds)
    blink_frames, blink_colours = _draw_two(only_key, BLINKS_APART_SECONDS, rng)

    # All that key frames show is complete here (see the module's docstring).
    flash_frames, flash_colours = _draw_two(only_dense, APART_SECONDS[level], rng)
    tone_flash = int(rng.integers(2))
    middle = (flash_frames[tone_flash] + 0.5) / FPS
    tone_time = min(max(middle - TONE_SECONDS / 2, 0), seconds - TONE_SECONDS)
    return FlashClip(
        number=number,
        split=split,
        seconds=seconds,
        blink_frames=blink_frames,
        blink_colours=blink_colours,
        flash_frames=flash_frames,
        flash_colours=flash_colours,
        strength=STRENGTH[level],
        tone_flash=tone_flash,
        tone_time=round(tone_time, 4),
        tone_hertz=round(float(rng.uniform(200, 600)), 1),
        noise=NOISE[level],
        sound_seed=int(rng.integers(2**31)),
        answers={
            "flash_first": flash_colours[0],
            "flash_second": flash_colours[1],
            "flash_at_tone": flash_colours[tone_flash],
            "blink_first": blink_colours[0],
            "blink_second": blink_colours[1],
        },
    )


def render_flash_frames(clip: FlashClip) -> NDArray[np.uint8]:
    """The clip's pictures, ``(seconds * FPS, FRAME_SIZE, FRAME_SIZE, 3)`` uint8 RGB."""
    num_frames = clip.seconds * FPS
    frames = np.full((num_frames, FRAME_SIZE, FRAME_SIZE, 3), RIM_GREY, np.uint8)
    for frame, name in zip(clip.blink_frames, clip.blink_colours, strict=True):
        frames[frame] = COLOURS[name]
    frames[:, RIM:-RIM, RIM:-RIM] = BACKGROUND
    for frame, name in zip(clip.flash_frames, clip.flash_colours, strict=True):
        grey = frames[frame].astype(float)
        frames[frame] = np.round(grey + clip.strength * (np.array(COLOURS[name]) - grey))
    return frames


def write_flash_clip(root: Path, clip: FlashClip) -> None:
    """The clip's file, under its name in `root`."""
    sound = render_sound(clip.seconds, [(clip.tone_time, clip.tone_hertz)], clip.sound_seed, clip.noise)
    write_video(root / clip.media["video"], render_flash_frames(clip), sound, frames_alone=True)


FLASHES = World(
    questions={
        "flash_first": Question(
            (
                "Which colour flashed first?",
                "What was the colour of the first flash?",
                "The picture flashed twice. Which colour came first?",
            ),
            channels=("dense",),
        ),
        "flash_second": Question(
            (
                "Which colour flashed second?",
                "What was the colour of the last flash?",
                "The picture flashed twice. Which colour came second?",
            ),
            channels=("dense",),
        ),
        "flash_at_tone": Question(
            (
                "Which colour flashed when the tone sounded?",
                "What was the colour of the flash at the moment of the beep?",
            ),
            channels=("audio", "dense"),
        ),
        "blink_first": Question(
            ("Which colour did the rim blink first?", "The rim blinked twice. Which colour came first?")
        ),
        "blink_second": Question(
            (
                "Which colour did the rim blink second?",
                "The rim blinked twice. Which colour came second?",
            ),
        ),
    },
    draw=draw_flash_clip,
    write=write_flash_clip,
)
