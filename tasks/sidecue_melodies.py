"""SideCue's world `melodies`: one to four tones over a picture that does not change.

Questions of the channel `audio`: how many tones sound, and whether the last is higher or lower than the first. The
tones are drawn without looking at the picture, so nothing that can be seen tells anything about them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.sidecue_shapes import SHAPE_COUNTS, SHAPE_KINDS, SHAPE_QUESTIONS, Shapes, draw_shapes, paint_shapes
from tasks.sidecue_sound import NOISE, TONE_SECONDS, render_sound
from tasks.sidecue_video import write_video
from tasks.sidecue_world import COLOURS, FPS, FRAME_SIZE, Clip, Level, Question, World

CLIP_SECONDS = 9
TONE_COUNTS = (1, 2, 3, 4)
APART_SECONDS = 2.0  # as long as a sound window, so that no window holds two tones
LOWEST_HERTZ, HIGHEST_HERTZ = 150.0, 900.0
# The least ratio between the pitches of the first tone and the last, by level: an octave, a fifth, a major third.
PITCH_RATIO: dict[Level, float] = {"easy": 2.0, "medium": 3 / 2, "hard": 5 / 4}


@dataclass(frozen=True)
class MelodyClip(Clip):
    """One drawn clip. `tones` are starts in seconds and hertz, rising in time; `noise` is its loudness."""

    world = "melodies"

    colour: str
    shape_kind: str
    shapes: Shapes
    tones: tuple[tuple[float, float], ...]
    noise: float
    sound_seed: int


def draw_melody_clip(number: int, split: str, rng: np.random.Generator, level: Level) -> MelodyClip:
    colour = str(rng.choice(list(COLOURS)))
    kind = str(rng.choice(SHAPE_KINDS))
    shapes = draw_shapes(int(rng.choice(SHAPE_COUNTS)), rng)

    # The picture is complete here.
    count = int(rng.choice(TONE_COUNTS))
    # gaps of random length between tones that keep their distance: sorted points in what is left of the clip
    free = CLIP_SECONDS - TONE_SECONDS - APART_SECONDS * (count - 1)
    starts = np.sort(rng.uniform(0, free, count)) + APART_SECONDS * np.arange(count)
    hertz = np.exp(rng.uniform(np.log(LOWEST_HERTZ), np.log(HIGHEST_HERTZ), count))
    answers = {"tone_count": str(count)}
    if count > 1:
        ratio = PITCH_RATIO[level] * float(rng.uniform(1, 1.25))
        low = float(rng.uniform(LOWEST_HERTZ, HIGHEST_HERTZ / ratio))
        rises = bool(rng.integers(2))
        hertz[[0, -1]] = (low, low * ratio) if rises else (low * ratio, low)
        answers["tone_pitch"] = "higher" if rises else "lower"
    return MelodyClip(
        number=number,
        split=split,
        colour=colour,
        shape_kind=kind,
        shapes=shapes,
        tones=tuple(
            (round(float(start), 4), round(float(pitch), 1))
            for start, pitch in zip(starts, hertz, strict=True)
        ),
        noise=NOISE[level],
        sound_seed=int(rng.integers(2**31)),
        answers={
            **answers,
            "melody_colour": colour,
            "shape_count": str(len(shapes)),
            "shape_kind": kind,
        },
    )


def render_melody_frames(clip: MelodyClip) -> NDArray[np.uint8]:
    """The clip's pictures, ``(CLIP_SECONDS * FPS, FRAME_SIZE, FRAME_SIZE, 3)`` uint8 RGB."""
    num_frames = CLIP_SECONDS * FPS
    frames = np.empty((num_frames, FRAME_SIZE, FRAME_SIZE, 3), np.uint8)
    frames[:] = COLOURS[clip.colour]
    paint_shapes(frames, np.arange(num_frames) / FPS, clip.shape_kind, clip.shapes)
    return frames


def write_melody_clip(root: Path, clip: MelodyClip) -> None:
    """The clip's file, under its name in `root`."""
    sound = render_sound(CLIP_SECONDS, clip.tones, clip.sound_seed, clip.noise)
    write_video(root / clip.media["video"], render_melody_frames(clip), sound)


MELODIES = World(
    questions={
        "tone_count": Question(
            ("How many tones sound?", "How often do you hear a beep?", "What is the number of tones?"),
            channels=("audio",),
        ),
        "tone_pitch": Question(
            (
                "Is the last tone higher or lower than the first?",
                "Compared with the first tone, is the last one higher or lower?",
            ),
            channels=("audio",),
            chance=0.5,
        ),
        "melody_colour": Question(("Which colour is the background?", "What is the background colour?")),
        **SHAPE_QUESTIONS,
    },
    draw=draw_melody_clip,
    write=write_melody_clip,
)
