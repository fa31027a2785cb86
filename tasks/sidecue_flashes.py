"""SideCue's world `flashes`: the picture flashes twice between the key frames, and a tone sounds with one flash.

Questions of the channel `dense`: which colour flashed first, and which of the two came later. The question
`flash_at_tone`, which colour flashed when the tone sounded, needs `dense` and `audio` together.

Why the key frames alone cannot answer: a flash is one frame long, on a frame that `dense` samples (two a second) and
that is none of `NUM_KEY_FRAMES` key frames, so that these are the same whatever the flashes are. Their colours and
moments, and which of them has the tone, are drawn last, without looking at what is visible.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.sidecue_shapes import SHAPE_COUNTS, SHAPE_KINDS, SHAPE_QUESTIONS, Shapes, draw_shapes, paint_shapes
from tasks.sidecue_sound import NOISE, TONE_SECONDS, render_sound
from tasks.sidecue_video import write_video
from tasks.sidecue_world import COLOURS, FPS, FRAME_SIZE, Level, Question, World

CLIP_SECONDS = (8, 9)
NUM_KEY_FRAMES = 10
NUM_DENSE_FRAMES = 16  # of clips of 8 and of 9 seconds: two a second, in chunks of 8
RIM = 8  # pixels
BACKGROUND = 128  # grey
# How far a flash is from the background's grey to its colour, by level.
STRENGTH: dict[Level, float] = {"easy": 1.0, "medium": 0.5, "hard": 0.25}
APART_SECONDS = 3.0  # a sound window reaches 1 s to each side: the tone belongs to one flash alone


@dataclass(frozen=True)
class FlashClip:
    """One drawn clip. `flash_frames` are frame numbers, rising; `tone_flash` is the number of the flash with the tone.

    `strength` is that of the flashes: 1 is the full colour, 0 none. `noise` is the loudness of the noise.
    """

    number: int
    split: str
    seconds: int
    rim_colour: str
    shape_kind: str
    shapes: Shapes
    flash_frames: tuple[int, int]
    flash_colours: tuple[str, str]
    strength: float
    tone_flash: int
    tone_time: float
    tone_hertz: float
    noise: float
    sound_seed: int
    words: dict[str, str]
    answers: dict[str, str]

    @property
    def sample_id(self) -> str:
        return f"flashes-{self.split}-{self.number:06d}"

    @property
    def media(self) -> dict[str, str]:
        return {"video": f"flashes/{self.split}/{self.number:06d}.mp4"}


def hidden_frames(seconds: int) -> NDArray[np.int64]:
    """The frames that `dense` sees and that are no key frames, rising."""
    last = seconds * FPS - 1
    dense = np.linspace(0, last, NUM_DENSE_FRAMES, dtype=np.int64)
    return np.setdiff1d(dense, np.linspace(0, last, NUM_KEY_FRAMES, dtype=np.int64))


def draw_flash_clip(number: int, split: str, rng: np.random.Generator, level: Level) -> FlashClip:
    seconds = int(rng.choice(CLIP_SECONDS))
    rim_colour = str(rng.choice(list(COLOURS)))
    kind = str(rng.choice(SHAPE_KINDS))
    shapes = draw_shapes(int(rng.choice(SHAPE_COUNTS)), rng)

    # All that key frames show is complete here (see the module's docstring).
    frames = hidden_frames(seconds)
    pairs = [(a, b) for a in frames.tolist() for b in frames.tolist() if b - a >= APART_SECONDS * FPS]
    first, second = pairs[int(rng.integers(len(pairs)))]
    colours = [str(colour) for colour in rng.permutation(list(COLOURS))[:2]]
    tone_flash = int(rng.integers(2))
    asked = [str(colour) for colour in rng.permutation(colours)]
    middle = ((first, second)[tone_flash] + 0.5) / FPS
    tone_time = min(max(middle - TONE_SECONDS / 2, 0), seconds - TONE_SECONDS)
    return FlashClip(
        number=number,
        split=split,
        seconds=seconds,
        rim_colour=rim_colour,
        shape_kind=kind,
        shapes=shapes,
        flash_frames=(first, second),
        flash_colours=(colours[0], colours[1]),
        strength=STRENGTH[level],
        tone_flash=tone_flash,
        tone_time=round(tone_time, 4),
        tone_hertz=round(float(rng.uniform(200, 600)), 1),
        noise=NOISE[level],
        sound_seed=int(rng.integers(2**31)),
        words={"one": asked[0], "other": asked[1]},
        answers={
            "flash_first": colours[0],
            "flash_order": colours[1],
            "flash_at_tone": colours[tone_flash],
            "rim_colour": rim_colour,
            "shape_count": str(len(shapes)),
            "shape_kind": kind,
        },
    )


def render_flash_frames(clip: FlashClip) -> NDArray[np.uint8]:
    """The clip's pictures, ``(seconds * FPS, FRAME_SIZE, FRAME_SIZE, 3)`` uint8 RGB."""
    num_frames = clip.seconds * FPS
    frames = np.full((num_frames, FRAME_SIZE, FRAME_SIZE, 3), BACKGROUND, np.uint8)
    for frame, name in zip(clip.flash_frames, clip.flash_colours, strict=True):
        colour = np.array(COLOURS[name])
        frames[frame] = np.round(BACKGROUND + clip.strength * (colour - BACKGROUND))
    paint_shapes(frames, np.arange(num_frames) / FPS, clip.shape_kind, clip.shapes)
    inside = frames[:, RIM:-RIM, RIM:-RIM].copy()
    frames[:] = COLOURS[clip.rim_colour]
    frames[:, RIM:-RIM, RIM:-RIM] = inside
    return frames


def write_flash_clip(root: Path, clip: FlashClip) -> None:
    """The clip's file, under its name in `root`."""
    sound = render_sound(clip.seconds, [(clip.tone_time, clip.tone_hertz)], clip.sound_seed, clip.noise)
    write_video(root / clip.media["video"], render_flash_frames(clip), sound)


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
        "flash_order": Question(
            (
                "Which flash came later, the {one} one or the {other} one?",
                "There was a {one} flash and a {other} flash. Which was the second?",
            ),
            channels=("dense",),
            chance=0.5,
        ),
        "flash_at_tone": Question(
            (
                "Which colour flashed when the tone sounded?",
                "What was the colour of the flash at the moment of the beep?",
            ),
            channels=("audio", "dense"),
        ),
        "rim_colour": Question(("Which colour is the rim of the picture?", "What colour is the frame?")),
        **SHAPE_QUESTIONS,
    },
    draw=draw_flash_clip,
    write=write_flash_clip,
)
