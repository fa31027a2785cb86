"""SideCue's world `rooms`: two balls in a room, seen by a camera that turns on the spot; in ScanNet's layout.

Questions of the channel `depth3d`: which ball is nearer, how far one is, and whether it would be on the left or on the
right of somebody who faces north.

Why the pictures alone cannot answer: a ball's radius grows with its distance, so both look equally large from where the
camera is (they differ in colour alone), and as it only turns, nothing moves against anything else. Surfaces have one
flat colour each, the balls touch nothing and cast no shadow. All walls look alike, so that nothing shows where north
is: that is the y axis of the world, which only the poses tell. Distances and direction are drawn last, without looking
at what is visible.
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
# Metres. The origin is not where the camera is: a position embedding with a norm and no biases, such as a random one,
# tells directions from the origin alone.
ROOM = np.array([[-6.0, 6.0], [-3.0, 9.0], [0.0, 3.0]])
CAMERA = (0.0, 3.0)  # the middle of the room
EYE_HEIGHT = 1.5  # metres
SIDES = ("left", "right")
METRES = (1, 2, 3, 4)  # how far the balls are
# How far a distance is from a whole number of metres at most, by level.
SPREAD: dict[Level, float] = {"easy": 0.1, "medium": 0.25, "hard": 0.4}
BALL_RADIUS = 0.14  # of the distance
BALL_SIDE = math.radians(9.5)  # from the middle of the pan: a ball fills most of its half of the picture
BALL_LIFT = math.radians(2)  # above or below the horizon at most
PAN = math.radians(2)  # how far the camera turns to each side
YAW = math.radians(20)  # how far the middle of the pan is from east or west at most
FLOOR_GREY, WALL_GREY, CEILING_GREY = 90, 140, 190


@dataclass(frozen=True)
class RoomClip(Clip):
    """One drawn scene. Metres and radians; the left ball comes first.

    `yaw` is that of the middle of the pan, anticlockwise from east. `lifts` are the balls' angles above the horizon.
    """

    world = "rooms"

    ball_colours: tuple[str, str]
    lifts: tuple[float, float]
    pan_phase: float
    distances: tuple[float, float]
    yaw: float
    position: tuple[float, float, float]

    @property
    def media(self) -> dict[str, str]:
        return {"scene": self.place}


def draw_room_clip(number: int, split: str, rng: np.random.Generator, level: Level) -> RoomClip:
    left, right = (str(colour) for colour in rng.permutation(list(COLOURS))[:2])
    seen, named = (int(number) for number in rng.integers(2, size=2))
    lifts = rng.uniform(-BALL_LIFT, BALL_LIFT, 2)
    pan_phase = float(rng.uniform(0, 2 * math.pi))

    # The pictures are complete here.
    metres = rng.permutation(METRES)[:2]
    distances = metres + rng.uniform(-SPREAD[level], SPREAD[level], 2)
    asked = int(rng.integers(2))
    east = bool(rng.integers(2))
    yaw = (0 if east else math.pi) + float(rng.uniform(-YAW, YAW))
    position = (*(CAMERA + rng.uniform(-0.1, 0.1, 2)), EYE_HEIGHT)
    return RoomClip(
        number=number,
        split=split,
        ball_colours=(left, right),
        lifts=_rounded(lifts),
        pan_phase=round(pan_phase, 4),
        distances=_rounded(distances),
        yaw=round(yaw, 4),
        position=(round(float(position[0]), 4), round(float(position[1]), 4), EYE_HEIGHT),
        words={"side": SIDES[asked], "seen_side": SIDES[seen], "colour": (left, right)[named]},
        answers={
            "nearer_ball": "left" if metres[0] < metres[1] else "right",
            "ball_distance": str(metres[asked]),
            "ball_side": "right" if east else "left",
            "ball_colour": (left, right)[seen],
            "colour_side": SIDES[named],
        },
    )


def _rounded(pair: NDArray[np.float64]) -> tuple[float, float]:
    return round(float(pair[0]), 4), round(float(pair[1]), 4)


def balls(clip: RoomClip) -> NDArray[np.float64]:
    """The balls (2, 4) as x, y, z and radius in metres."""
    found = []
    for side, lift, distance in zip((BALL_SIDE, -BALL_SIDE), clip.lifts, clip.distances, strict=True):
        yaw = clip.yaw + side
        towards = np.array([np.cos(yaw) * np.cos(lift), np.sin(yaw) * np.cos(lift), np.sin(lift)])
        found.append([*(np.array(clip.position) + distance * towards), BALL_RADIUS * distance])
    return np.array(found)


def poses(clip: RoomClip) -> list[NDArray[np.float64]]:
    """The pose (4, 4), camera to world, of each view."""
    turns = PAN * np.sin(2 * np.pi * np.arange(NUM_VIEWS) / NUM_VIEWS + clip.pan_phase)
    return [camera_pose(np.array(clip.position), clip.yaw + float(turn)) for turn in turns]


def render_view(clip: RoomClip, pose: NDArray[np.float64]) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """A picture (FRAME_SIZE, FRAME_SIZE, 3) uint8 RGB, and its depth (FRAME_SIZE, FRAME_SIZE) in millimetres."""
    hits = cast(pose, FOCAL, (FRAME_SIZE, FRAME_SIZE), ROOM, balls(clip))
    greys = [WALL_GREY] * 4 + [FLOOR_GREY, CEILING_GREY]
    colours = np.array(
        [(grey,) * 3 for grey in greys] + [COLOURS[name] for name in clip.ball_colours], np.uint8
    )
    return colours[hits.surface], np.round(1000 * hits.depth).astype(np.uint16)


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
            ("Which ball is nearer, the left or the right one?", "Is the left or the right ball closer?"),
            channels=("depth3d",),
            chance=0.5,
        ),
        "ball_distance": Question(
            ("How many metres away is the {side} ball?", "The {side} ball is how many metres away?"),
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
        "ball_colour": Question(
            ("Which colour is the {seen_side} ball?", "What colour has the {seen_side} ball?")
        ),
        "colour_side": Question(
            (
                "Is the {colour} ball the left or the right one?",
                "Which ball is {colour}, the left or the right one?",
            ),
            chance=0.5,
        ),
    },
    draw=draw_room_clip,
    write=write_room_clip,
)
