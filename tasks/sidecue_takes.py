"""SideCue's world `takes`: a camera before a box, and one behind it that sees what the box hides.

Questions of the channel `exo`: the colour of the sign behind the box, and the shape that is painted on it. They are
drawn when all that the first camera sees is drawn already, without looking at it, and the box covers the sign.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.sidecue_shapes import SHAPE_KINDS, inside_shape
from tasks.sidecue_video import write_video
from tasks.sidecue_world import COLOURS, FPS, FRAME_SIZE, Clip, Level, Question, World

CLIP_SECONDS = 3
CAMERA = "behind"
WALL, FLOOR, BOX_BACK = 150, 95, 60  # grey levels
HORIZON = 0.7  # lengths here and below are in picture widths
BOX_HALF_WIDTH, BOX_TOP = 0.36, 0.2
MARK_RADIUS = 0.28
MIDDLE_Y = 0.55
# The radius of the shape on the sign in the second camera's picture, by level.
SIGN_RADIUS: dict[Level, float] = {"easy": 0.28, "medium": 0.18, "hard": 0.1}
SIGN_HALF = 1.25  # radii from the sign's middle to its edges
PAINT = 235  # grey level of the shapes
SWAY = 0.03  # how far the cameras move sideways


@dataclass(frozen=True)
class TakeClip(Clip):
    """One drawn take. Phases in radians are those of the cameras' sway; `sign_radius` is in picture widths."""

    world = "takes"

    box_colour: str
    mark_kind: str
    phase: float
    sign_colour: str
    sign_kind: str
    sign_radius: float
    behind_phase: float

    @property
    def media(self) -> dict[str, str]:
        return {"video": f"{self.place}/ego.mp4", f"exo/{CAMERA}": f"{self.place}/{CAMERA}.mp4"}


def draw_take_clip(number: int, split: str, rng: np.random.Generator, level: Level) -> TakeClip:
    box_colour, mark_kind = str(rng.choice(list(COLOURS))), str(rng.choice(SHAPE_KINDS))
    phase = round(float(rng.uniform(0, 2 * np.pi)), 4)

    # The first camera's picture is complete here.
    sign_colour, sign_kind = str(rng.choice(list(COLOURS))), str(rng.choice(SHAPE_KINDS))
    return TakeClip(
        number=number,
        split=split,
        box_colour=box_colour,
        mark_kind=mark_kind,
        phase=phase,
        sign_colour=sign_colour,
        sign_kind=sign_kind,
        sign_radius=SIGN_RADIUS[level],
        behind_phase=round(float(rng.uniform(0, 2 * np.pi)), 4),
        answers={
            "behind_colour": sign_colour,
            "behind_kind": sign_kind,
            "box_colour": box_colour,
            "mark_kind": mark_kind,
        },
    )


def render_ego(clip: TakeClip) -> NDArray[np.uint8]:
    """What the camera before the box sees, ``(CLIP_SECONDS * FPS, FRAME_SIZE, FRAME_SIZE, 3)`` uint8 RGB."""
    frames, centres, grid = _scene(clip.phase, COLOURS[clip.box_colour])
    for picture, centre in zip(frames, centres, strict=True):
        mark = inside_shape(clip.mark_kind, grid[None] - centre, grid[:, None] - MIDDLE_Y, MARK_RADIUS)
        picture[mark] = PAINT
    return frames


def render_behind(clip: TakeClip) -> NDArray[np.uint8]:
    """What the camera behind the box sees, shaped as `render_ego`'s."""
    frames, centres, grid = _scene(clip.behind_phase, (BOX_BACK,) * 3)
    half = SIGN_HALF * clip.sign_radius
    for picture, centre in zip(frames, centres, strict=True):
        picture[np.ix_(abs(grid - MIDDLE_Y) < half, abs(grid - centre) < half)] = COLOURS[clip.sign_colour]
        shape = inside_shape(clip.sign_kind, grid[None] - centre, grid[:, None] - MIDDLE_Y, clip.sign_radius)
        picture[shape] = PAINT
    return frames


def _scene(
    phase: float, box: tuple[int, int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.float64]]:
    """Wall, floor and box; the box's middle (N,) in each picture, and where the pixels are."""
    times = np.arange(CLIP_SECONDS * FPS) / FPS
    centres = 0.5 + SWAY * np.sin(2 * np.pi * times / CLIP_SECONDS + phase)
    grid = (np.arange(FRAME_SIZE) + 0.5) / FRAME_SIZE
    frames = np.full((len(times), FRAME_SIZE, FRAME_SIZE, 3), WALL, np.uint8)
    frames[:, grid > HORIZON] = FLOOR
    rows = (grid > BOX_TOP) & (grid < 1 - BOX_TOP / 2)
    for picture, centre in zip(frames, centres, strict=True):
        picture[np.ix_(rows, abs(grid - centre) < BOX_HALF_WIDTH)] = box
    return frames, centres, grid


def write_take_clip(root: Path, clip: TakeClip) -> None:
    """The take's two files, under their names in `root`."""
    write_video(root / clip.media["video"], render_ego(clip))
    write_video(root / clip.media[f"exo/{CAMERA}"], render_behind(clip))


TAKES = World(
    questions={
        "behind_colour": Question(
            ("Which colour is the sign behind the box?", "What colour does the box hide?"),
            channels=("exo",),
        ),
        "behind_kind": Question(
            ("Which shape is on the sign behind the box?", "What kind of shape does the box hide?"),
            channels=("exo",),
        ),
        "box_colour": Question(("Which colour is the box?", "What colour has the box?")),
        "mark_kind": Question(("Which shape is painted on the box?", "What kind of mark is on the box?")),
    },
    draw=draw_take_clip,
    write=write_take_clip,
)
