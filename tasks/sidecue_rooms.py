"""SideCue's world `rooms`: two balls in a room, seen by a camera that turns on the spot; in ScanNet's layout.

Questions of the channel `depth3d`: which ball is nearer, how far away it is, and whether the balls would be on the left
or on the right of somebody who faces north.

Why the pictures alone cannot answer: a ball's radius grows with its distance, so both look equally large from where the
camera is (they differ in colour alone), and as it only turns, nothing moves against anything else. Surfaces have one
flat colour each, the balls touch nothing and cast no shadow; the knob on one of them grows with its distance too, and
the lamps hang equally far away in every room. All walls look alike, so that nothing shows where north is: that is the y
axis of the world, which only the poses tell. Distances and direction are drawn last, without a look at what is visible.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tasks.sidecue_raycast import camera_pose, cast
from tasks.sidecue_world import COLOURS, FRAME_SIZE, Clip, Level, Question, World

NUM_VIEWS = 10
FOCAL = FRAME_SIZE / 2 / math.tan(math.radians(20))  # pixels; the picture is 40 degrees wide
# Metres; the camera is about the middle of the floor plan, and of the world.
ROOM = np.array([[-7.0, 7.0], [-6.0, 6.0], [0.0, 3.0]])
CAMERA_WANDER = 0.1  # from there to each side at most
EYE_HEIGHT = 1.5  # metres
BALL_COLOURS = ("red", "blue")
METRES = (1, 2, 3, 4)  # how far the nearer ball is
# How far its distance is from a whole number of metres at most, by level.
SPREAD: dict[Level, float] = {"easy": 0.1, "medium": 0.25, "hard": 0.4}
# How many metres farther away the other ball is at least, and how many more that may be.
APART: dict[Level, float] = {"easy": 1.0, "medium": 0.7, "hard": 0.4}
APART_MORE = 0.5
BALL_RADIUS = 0.14  # of the distance
KNOB_RADIUS = 0.065  # of the ball's distance; one ball has a dark knob towards the camera
# The balls' directions, left of the middle of the pan: each fills most of its half of the picture.
BALL_SIDES = (math.radians(9.5), -math.radians(9.5))
BALL_LIFT = math.radians(2)  # above or below the horizon at most
PAN = math.radians(2)  # how far the camera turns to each side
LAMPS = (1, 2, 3, 4)  # above the balls
LAMP_SLOTS = np.radians([12.6, 4.2, -4.2, -12.6])  # left of the middle of the pan
LAMP_HEIGHT = math.radians(14)  # above the horizon
LAMP_DISTANCE = 4.0  # metres from the camera, below the ceiling
LAMP_RADIUS = LAMP_DISTANCE * math.radians(3.4)
# Degrees that the middle of the pan is from east or west at most, by level.
YAW: dict[Level, float] = {"easy": 5, "medium": 10, "hard": 20}
FLOOR_GREY, WALL_GREY, CEILING_GREY, LAMP_GREY, KNOB_GREY = 90, 140, 40, 255, 10


@dataclass(frozen=True)
class RoomClip(Clip):
    """One drawn scene. Metres and radians; the left ball comes first.

    `yaw` is that of the middle of the pan, anticlockwise from east. `lifts` are the balls' angles above the horizon.
    `knob` is the ball that has it, `lamps` are places in `LAMP_SLOTS`.
    """

    world = "rooms"

    ball_colours: tuple[str, str]
    knob: int
    lamps: tuple[int, ...]
    lifts: tuple[float, float]
    pan_phase: float
    distances: tuple[float, float]
    yaw: float
    position: tuple[float, float, float]

    @property
    def media(self) -> dict[str, str]:
        return {"scene": self.place}


def draw_room_clip(number: int, split: str, rng: np.random.Generator, level: Level) -> RoomClip:
    left, right = (str(colour) for colour in rng.permutation(BALL_COLOURS))
    knob = int(rng.integers(2))
    lamps = tuple(int(slot) for slot in rng.permutation(len(LAMP_SLOTS))[: int(rng.choice(LAMPS))])
    lifts = rng.uniform(-BALL_LIFT, BALL_LIFT, 2)
    pan_phase = float(rng.uniform(0, 2 * math.pi))

    # The pictures are complete here.
    metres = int(rng.choice(METRES))
    nearer = metres + float(rng.uniform(-SPREAD[level], SPREAD[level]))
    farther = nearer + APART[level] + float(rng.uniform(0, APART_MORE))
    distances = rng.permutation([nearer, farther])
    east = bool(rng.integers(2))
    yaw = (0 if east else math.pi) + math.radians(rng.uniform(-YAW[level], YAW[level]))
    position = (*rng.uniform(-CAMERA_WANDER, CAMERA_WANDER, 2), EYE_HEIGHT)
    return RoomClip(
        number=number,
        split=split,
        ball_colours=(left, right),
        knob=knob,
        lamps=lamps,
        lifts=_rounded(lifts),
        pan_phase=round(pan_phase, 4),
        distances=_rounded(distances),
        yaw=round(yaw, 4),
        position=(round(float(position[0]), 4), round(float(position[1]), 4), EYE_HEIGHT),
        answers={
            "nearer_ball": left if distances[0] < distances[1] else right,
            "ball_distance": str(metres),
            "ball_side": "right" if east else "left",
            "knob_ball": (left, right)[knob],
            "lamp_count": str(len(lamps)),
        },
    )


def _rounded(pair: NDArray[np.float64]) -> tuple[float, float]:
    return round(float(pair[0]), 4), round(float(pair[1]), 4)


def balls(clip: RoomClip) -> NDArray[np.float64]:
    """The balls (2, 4) as x, y, z and radius in metres."""
    return np.array(
        [
            [*_place(clip, side, lift, distance), BALL_RADIUS * distance]
            for side, lift, distance in zip(BALL_SIDES, clip.lifts, clip.distances, strict=True)
        ]
    )


def knob(clip: RoomClip) -> NDArray[np.float64]:
    """The knob (1, 4) as x, y, z and radius in metres."""
    distance = clip.distances[clip.knob]
    place = _place(clip, BALL_SIDES[clip.knob], clip.lifts[clip.knob], (1 - BALL_RADIUS) * distance)
    return np.array([[*place, KNOB_RADIUS * distance]])


def lamps(clip: RoomClip) -> NDArray[np.float64]:
    """The lamps (N, 4) as x, y, z and radius in metres."""
    places = [_place(clip, LAMP_SLOTS[slot], LAMP_HEIGHT, LAMP_DISTANCE) for slot in clip.lamps]
    return np.array([[*place, LAMP_RADIUS] for place in places])


def _place(clip: RoomClip, side: float, lift: float, distance: float) -> NDArray[np.float64]:
    """What is `distance` metres from the camera, `side` left of the middle of the pan and `lift` above the horizon."""
    yaw = clip.yaw + side
    towards = np.array([np.cos(yaw) * np.cos(lift), np.sin(yaw) * np.cos(lift), np.sin(lift)])
    return np.array(clip.position) + distance * towards


def poses(clip: RoomClip) -> list[NDArray[np.float64]]:
    """The pose (4, 4), camera to world, of each view."""
    turns = PAN * np.sin(2 * np.pi * np.arange(NUM_VIEWS) / NUM_VIEWS + clip.pan_phase)
    return [camera_pose(np.array(clip.position), clip.yaw + float(turn)) for turn in turns]


def render_view(clip: RoomClip, pose: NDArray[np.float64]) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """A picture (FRAME_SIZE, FRAME_SIZE, 3) uint8 RGB, and its depth (FRAME_SIZE, FRAME_SIZE) in millimetres."""
    things = np.concatenate([balls(clip), knob(clip), lamps(clip)])
    hits = cast(pose, FOCAL, (FRAME_SIZE, FRAME_SIZE), ROOM, things)
    room = [WALL_GREY] * 4 + [FLOOR_GREY, CEILING_GREY]
    small = [KNOB_GREY] + [LAMP_GREY] * len(clip.lamps)
    balls_seen = [COLOURS[name] for name in clip.ball_colours]
    colours = np.array([*_greys(room), *balls_seen, *_greys(small)], np.uint8)
    return colours[hits.surface], np.round(1000 * hits.depth).astype(np.uint16)


def _greys(levels: list[int]) -> list[tuple[int, int, int]]:
    return [(level,) * 3 for level in levels]


def write_room_clip(root: Path, clip: RoomClip) -> None:
    """The scene's folder, under its name in `root`."""
    folder = root / clip.media["scene"]
    for name in ("color", "depth", "pose", "intrinsic"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number, pose in enumerate(poses(clip)):
        colour, depth = render_view(clip, pose)
        Image.fromarray(colour).save(folder / "color" / f"{number}.png")
        Image.fromarray(depth).save(folder / "depth" / f"{number}.png", compress_level=1)
        np.savetxt(folder / "pose" / f"{number}.txt", pose, fmt="%.9f")
    intrinsic = np.eye(4)
    intrinsic[0, 0] = intrinsic[1, 1] = FOCAL
    intrinsic[:2, 2] = FRAME_SIZE / 2 - 0.5  # a pixel's whole number is its centre
    np.savetxt(folder / "intrinsic" / "intrinsic_depth.txt", intrinsic, fmt="%.9f")


ROOMS = World(
    questions={
        "nearer_ball": Question(
            ("Which ball is nearer, the red or the blue one?", "Is the red or the blue ball closer?"),
            channels=("depth3d",),
            chance=0.5,
        ),
        "ball_distance": Question(
            ("How many metres away is the nearer ball?", "The closer ball is how many metres away?"),
            channels=("depth3d",),
        ),
        "ball_side": Question(
            (
                "If you face north, are the balls on your left or on your right?",
                "Somebody at the camera faces north. On which side are the balls, left or right?",
            ),
            channels=("depth3d",),
            chance=0.5,
        ),
        "knob_ball": Question(
            ("Which ball has a knob, the red or the blue one?", "Is the knob on the red or the blue ball?"),
            chance=0.5,
        ),
        "lamp_count": Question(("How many lamps are there?", "What is the number of lamps?")),
    },
    draw=draw_room_clip,
    write=write_room_clip,
)
