"""The world of SideCue: what happens in a clip, drawn from random numbers."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (200, 40, 40),
    "green": (40, 160, 60),
    "blue": (50, 80, 210),
    "yellow": (215, 190, 40),
}
SHAPE_KINDS = ("circle", "square", "triangle", "cross")
SHAPE_COUNTS = (1, 2, 3, 4)
FRAME_SIZE = 96  # pixels, both sides
BORDER_WIDTH = 8  # pixels
FPS = 8
SAMPLE_RATE = 16_000  # Hz
SWING = 0.05  # how far a shape moves from its start, in frame widths
TONE_SECONDS = 0.4
TONE_HARMONICS = 12
TONE_MARGIN_SECONDS = 0.1  # the tone keeps this distance from a change of colour
CLIP_SECONDS = (6, 7, 8)


@dataclass(frozen=True)
class Clip:
    """One drawn world. Times are seconds from the clip's start; positions are in frame widths.

    ``segment_ends`` are rising, the last equals ``seconds``; ``segment_colours`` has one colour for each.
    ``shapes`` has one row a shape: start x, start y, velocity x, velocity y, radius, grey level (0-255).
    """

    number: int
    split: str
    seconds: int
    segment_ends: tuple[float, ...]
    segment_colours: tuple[str, ...]
    shape_kind: str
    shapes: tuple[tuple[float, float, float, float, float, int], ...]
    border_second: int
    tone_time: float
    tone_hertz: float
    sound_seed: int
    answers: dict[str, str]

    @property
    def sample_id(self) -> str:
        return f"{self.split}-{self.number:06d}"

    @property
    def video(self) -> str:
        """Path relative to the root."""
        return f"{self.split}/{self.number:06d}.mp4"


def draw_clip(number: int, split: str, rng: np.random.Generator) -> Clip:
    seconds = int(rng.choice(CLIP_SECONDS))
    num_segments = int(rng.integers(len(COLOURS) + 1, seconds))
    # Colours change on whole seconds: an audio encoder with a hop of one second cannot tell finer moments apart.
    starts = np.concatenate([[0], 1 + np.sort(rng.choice(seconds - 1, num_segments - 1, replace=False))])
    ends = np.concatenate([starts[1:], [seconds]])
    colours = _draw_colours(num_segments, rng)
    kind = str(rng.choice(SHAPE_KINDS))
    shapes = _draw_shapes(int(rng.choice(SHAPE_COUNTS)), rng)

    border_colour, border_second = _draw_moment(colours, starts, ends, rng)

    # The video is complete here. The tone's colour is drawn without looking at it (see the module's docstring).
    tone_colour, tone_second = _draw_moment(colours, starts, ends, rng)
    tone_time = tone_second + float(rng.uniform(TONE_MARGIN_SECONDS, 1 - TONE_MARGIN_SECONDS - TONE_SECONDS))
    return Clip(
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


def _draw_shapes(
    count: int, rng: np.random.Generator
) -> tuple[tuple[float, float, float, float, float, int], ...]:
    """Shapes of one size start in different quarters of the frame and drift slowly, so that each stays visible."""
    radius = float(rng.uniform(0.15, 0.18))
    grey = int(rng.choice([20, 235]))
    shapes = []
    for quarter in rng.permutation(4)[:count]:
        x = 0.25 + 0.5 * (int(quarter) % 2) + float(rng.uniform(-0.02, 0.02))
        y = 0.25 + 0.5 * (int(quarter) // 2) + float(rng.uniform(-0.02, 0.02))
        angle = float(rng.uniform(0, 2 * math.pi))
        speed = float(rng.uniform(0.05, 0.15))  # frame widths a second
        shapes.append(
            (
                round(x, 4),
                round(y, 4),
                round(speed * math.cos(angle), 4),
                round(speed * math.sin(angle), 4),
                round(radius, 4),
                grey,
            )
        )
    return tuple(shapes)
