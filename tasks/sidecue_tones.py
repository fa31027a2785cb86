"""SideCue's world `tones`: the background changes its colour, and one tone sounds.

The question of the channel `audio` is `tone_colour`: which colour was on screen when the tone sounded?

Why the video alone cannot answer it: the whole visible world is drawn first, with each of the four colours present;
then the answer is drawn uniformly from the four colours and the tone is put into a segment of that colour. So
P(answer | video) = 1/4 for every video. The length of a clip is drawn with the video, and file names are running
numbers, so neither tells anything.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.sidecue_shapes import SHAPE_COUNTS, SHAPE_KINDS, SHAPE_QUESTIONS, Shapes, draw_shapes, paint_shapes
from tasks.sidecue_sound import NOISE, TONE_SECONDS, render_sound
from tasks.sidecue_video import write_video
from tasks.sidecue_world import COLOURS, FPS, FRAME_SIZE, Clip, Level, Question, World

BORDER_WIDTH = 8  # pixels
TONE_MARGIN_SECONDS = 0.1  # the tone keeps this distance from a change of colour
CLIP_SECONDS = (6, 7, 8)


@dataclass(frozen=True)
class ToneClip(Clip):
    """One drawn world. Times are seconds from the clip's start; positions are in frame widths.

    ``segment_ends`` are rising, the last equals ``seconds``; ``segment_colours`` has one colour for each. ``noise`` is
    the loudness of the noise.
    """

    world = "tones"

    seconds: int
    segment_ends: tuple[float, ...]
    segment_colours: tuple[str, ...]
    shape_kind: str
    shapes: Shapes
    border_second: int
    tone_time: float
    tone_hertz: float
    noise: float
    sound_seed: int

    @property
    def sample_id(self) -> str:
        """Without the world's name, as it was before there were others."""
        return f"{self.split}-{self.number:06d}"

    @property
    def place(self) -> str:
        """As `sample_id`."""
        return f"{self.split}/{self.number:06d}"


def draw_tone_clip(number: int, split: str, rng: np.random.Generator, level: Level) -> ToneClip:
    seconds = int(rng.choice(CLIP_SECONDS))
    num_segments = int(rng.integers(len(COLOURS) + 1, seconds))
    # Colours change on whole seconds: an audio encoder with a hop of one second cannot tell finer moments apart.
    starts = np.concatenate([[0], 1 + np.sort(rng.choice(seconds - 1, num_segments - 1, replace=False))])
    ends = np.concatenate([starts[1:], [seconds]])
    colours = _draw_colours(num_segments, rng)
    kind = str(rng.choice(SHAPE_KINDS))
    shapes = draw_shapes(int(rng.choice(SHAPE_COUNTS)), rng)

    border_colour, border_second = _draw_moment(colours, starts, ends, rng)

    # The video is complete here. The tone's colour is drawn without looking at it (see the module's docstring).
    tone_colour, tone_second = _draw_moment(colours, starts, ends, rng)
    tone_time = tone_second + float(rng.uniform(TONE_MARGIN_SECONDS, 1 - TONE_MARGIN_SECONDS - TONE_SECONDS))
    return ToneClip(
        number=number,
        split=split,
        seconds=seconds,
        segment_ends=tuple(float(end) for end in ends),
        segment_colours=tuple(colours),
        shape_kind=kind,
        shapes=shapes,
        border_second=border_second,
        tone_time=round(tone_time, 4),
        tone_hertz=round(float(rng.uniform(200, 600)), 1),
        noise=NOISE[level],
        sound_seed=int(rng.integers(2**31)),
        answers={
            "tone_colour": tone_colour,
            "shape_count": str(len(shapes)),
            "shape_kind": kind,
            "end_colour": colours[-1],
            "border_colour": border_colour,
        },
    )


def _draw_colours(num_segments: int, rng: np.random.Generator) -> list[str]:
    """Every colour at least once, no two neighbours equal."""
    names = list(COLOURS)
    while True:
        colours = [str(name) for name in rng.permutation(names)]
        colours += [str(rng.choice(names)) for _ in range(num_segments - len(names))]
        rng.shuffle(colours)
        if all(left != right for left, right in itertools.pairwise(colours)):
            return colours


def _draw_moment(
    colours: list[str], starts: NDArray[np.int64], ends: NDArray[np.int64], rng: np.random.Generator
) -> tuple[str, int]:
    """A colour, each equally likely, and a whole second at which it is on screen."""
    colour = str(rng.choice(list(COLOURS)))
    segment = int(rng.choice([i for i, shown in enumerate(colours) if shown == colour]))
    return colour, int(rng.integers(starts[segment], ends[segment]))


def render_frames(clip: ToneClip) -> NDArray[np.uint8]:
    """The clip's pictures, ``(seconds * FPS, FRAME_SIZE, FRAME_SIZE, 3)`` uint8 RGB."""
    num_frames = clip.seconds * FPS
    times = np.arange(num_frames) / FPS
    segment_of_frame = np.searchsorted(np.array(clip.segment_ends), times, side="right")
    palette = np.array([COLOURS[colour] for colour in clip.segment_colours], dtype=np.uint8)
    frames = np.empty((num_frames, FRAME_SIZE, FRAME_SIZE, 3), dtype=np.uint8)
    frames[:] = palette[segment_of_frame.clip(max=len(palette) - 1)][:, None, None, :]
    paint_shapes(frames, times, clip.shape_kind, clip.shapes)
    in_border = np.ones((FRAME_SIZE, FRAME_SIZE), dtype=np.bool_)
    in_border[BORDER_WIDTH:-BORDER_WIDTH, BORDER_WIDTH:-BORDER_WIDTH] = False
    shows_border = times.astype(int) == clip.border_second
    frames[shows_border[:, None, None] & in_border] = 255
    return frames


def write_tone_clip(root: Path, clip: ToneClip) -> None:
    """The clip's file, under its name in `root`."""
    sound = render_sound(clip.seconds, [(clip.tone_time, clip.tone_hertz)], clip.sound_seed, clip.noise)
    write_video(root / clip.media["video"], render_frames(clip), sound)


TONES = World(
    questions={
        "tone_colour": Question(
            (
                "Which colour was on screen when the tone sounded?",
                "What was the background colour at the moment of the beep?",
                "When you hear the tone, which colour do you see?",
            ),
            channels=("audio",),
        ),
        **SHAPE_QUESTIONS,
        "end_colour": Question(
            ("Which colour is on screen at the end?", "What is the last background colour?")
        ),
        "border_colour": Question(
            (
                "Which colour was on screen when the white border appeared?",
                "What was the background colour at the moment of the white border?",
                "When you see the white border, which colour do you see?",
            )
        ),
    },
    draw=draw_tone_clip,
    write=write_tone_clip,
)
