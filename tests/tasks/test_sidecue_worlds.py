"""The worlds beside `tones`: balanced, true to their files, and blind where the channel is missing."""

import dataclasses
import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import get_args

import av
import numpy as np
import pytest

from extractors.back_projection import back_project
from extractors.dense_frames import dense_frame_indices
from extractors.key_frames import key_frame_indices
from extractors.scannet_folder import read_folder
from tasks import sidecue, sidecue_flashes, sidecue_melodies, sidecue_rooms, sidecue_takes
from tasks.sidecue_sound import TONE_SECONDS
from tasks.sidecue_world import COLOURS, FPS, FRAME_SIZE, SAMPLE_RATE, Level

NEW = ("melodies", "flashes", "takes", "rooms")
DRAWN = 3000


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("worlds")
    sidecue.make(folder, sidecue.SideCueConfig(splits={"train": 3}, worlds=NEW, seed=3), workers=2)
    return folder


def drawn(world: sidecue.WorldName, count: int = DRAWN, level: Level = "easy") -> list:
    config = sidecue.SideCueConfig(splits={"train": count}, seed=1, level=level)
    return list(sidecue.draw_clips(config, world, "train"))


def pictures(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def nearest_colour(pixel: np.ndarray) -> str:
    return min(COLOURS, key=lambda name: int(abs(pixel.astype(int) - COLOURS[name]).sum()))


@pytest.mark.parametrize("world", NEW)
@pytest.mark.parametrize("level", get_args(Level))
def test_answers_are_balanced_at_every_level(world: sidecue.WorldName, level: Level) -> None:
    answers = defaultdict(list)
    for clip in drawn(world, level=level):
        for question, answer in clip.answers.items():
            answers[question].append(answer)
    assert answers.keys() == sidecue.WORLDS[world].questions.keys()
    for question, given in answers.items():
        options = round(1 / sidecue.QUESTIONS[question].chance)
        shares = [count / len(given) for count in Counter(given).values()]
        assert len(shares) == options, question
        assert max(abs(share - 1 / options) for share in shares) < 0.035, question


def test_whoever_sees_the_flashes_alone_knows_the_one_with_the_tone_half_the_time() -> None:
    clips = drawn("flashes")
    agree = np.mean([clip.answers["flash_at_tone"] == clip.answers["flash_first"] for clip in clips])
    assert abs(agree - 0.5) < 0.03


@pytest.mark.parametrize(
    ("world", "hidden", "seen"),
    [
        ("flashes", ("flash_first", "flash_second", "flash_at_tone"), ("blink_first", "blink_second")),
        ("melodies", ("tone_count",), ("melody_colour", "shape_count", "shape_kind")),
        ("takes", ("behind_colour", "behind_kind"), ("box_colour", "mark_kind")),
        ("rooms", ("nearer_ball", "ball_distance", "ball_side"), ("knob_ball", "lamp_count")),
    ],
)
def test_what_can_be_seen_says_nothing_about_the_answer(
    world: sidecue.WorldName, hidden: tuple[str, ...], seen: tuple[str, ...]
) -> None:
    """The best guess from each visible property is right as often as any guess."""
    clips = drawn(world, 8000)
    half = len(clips) // 2
    for question in hidden:
        for visible in seen:
            table: dict[str, Counter[str]] = defaultdict(Counter)
            for clip in clips[:half]:
                table[clip.answers[visible]][clip.answers[question]] += 1
            guess = {value: counts.most_common(1)[0][0] for value, counts in table.items()}
            right = np.mean([guess[clip.answers[visible]] == clip.answers[question] for clip in clips[half:]])
            assert abs(right - sidecue.QUESTIONS[question].chance) < 0.03, (question, visible)


@pytest.mark.parametrize("level", get_args(Level))
def test_dense_frames_show_the_flashes_alone_and_key_frames_the_blinks_alone(level: Level) -> None:
    for clip in drawn("flashes", 400, level):
        num_frames = clip.seconds * FPS
        key_frames = key_frame_indices(num_frames, sidecue_flashes.NUM_KEY_FRAMES)
        dense = dense_frame_indices(num_frames, float(FPS))
        assert set(clip.flash_frames) <= set(dense.tolist())
        assert not set(clip.flash_frames) & set(key_frames.tolist())
        assert set(clip.blink_frames) <= set(key_frames.tolist())
        assert not set(clip.blink_frames) & set(dense.tolist())
        assert np.diff(clip.flash_frames) / FPS >= sidecue_flashes.APART_SECONDS[level] >= 2
    plain = dataclasses.replace(clip, flash_colours=("red", "red"), flash_frames=clip.flash_frames[::-1])
    same = sidecue_flashes.render_flash_frames(plain)[key_frames]
    assert np.array_equal(sidecue_flashes.render_flash_frames(clip)[key_frames], same)


def test_flash_files_hold_the_flashes_and_the_tone(root: Path) -> None:
    for truth in truths(root, "flashes"):
        path = root / f"flashes/train/{truth['number']:06d}.mp4"
        frames = pictures(path)
        middle = np.median(frames[:, 16:-16, 16:-16].reshape(len(frames), -1, 3), axis=1)
        grey = abs(middle - sidecue_flashes.BACKGROUND).max(axis=1) < 20
        assert np.flatnonzero(~grey).tolist() == truth["flash_frames"]
        assert [nearest_colour(middle[frame]) for frame in truth["flash_frames"]] == truth["flash_colours"]
        (start,) = tones_in(path)
        with_tone = truth["flash_frames"][truth["tone_flash"]] / FPS
        assert start <= with_tone <= start + TONE_SECONDS
        assert truth["answers"]["flash_at_tone"] == truth["flash_colours"][truth["tone_flash"]]


def test_melody_files_hold_the_tones(root: Path) -> None:
    for truth in truths(root, "melodies"):
        found = tones_in(root / f"melodies/train/{truth['number']:06d}.mp4")
        assert len(found) == len(truth["tones"]) == int(truth["answers"]["tone_count"])
        assert np.allclose(found, [start for start, _ in truth["tones"]], atol=0.1)
        if len(found) > 1:
            rises = truth["tones"][-1][1] > truth["tones"][0][1]
            assert truth["answers"]["tone_pitch"] == ("higher" if rises else "lower")


def test_tones_of_a_melody_keep_their_distance() -> None:
    for level in get_args(Level):
        for clip in drawn("melodies", 300, level):
            starts, hertz = np.array(clip.tones).T
            assert (np.diff(starts) >= sidecue_melodies.APART_SECONDS - 1e-3).all()
            assert starts[-1] + TONE_SECONDS <= sidecue_melodies.CLIP_SECONDS + 1e-3
            if len(hertz) > 1:
                ratio = max(hertz[0], hertz[-1]) / min(hertz[0], hertz[-1])
                assert ratio > sidecue_melodies.PITCH_RATIO[level] * 0.99


def test_only_the_camera_behind_the_box_sees_the_sign(root: Path) -> None:
    for truth in truths(root, "takes"):
        folder = root / f"takes/train/{truth['number']:06d}"
        behind = pictures(folder / "behind.mp4")[0]
        beside = int(FRAME_SIZE * (0.5 - 1.15 * truth["sign_radius"]))  # between shape and edge
        colour = behind[int(FRAME_SIZE * sidecue_takes.MIDDLE_Y), beside]
        assert nearest_colour(colour) == truth["answers"]["behind_colour"]
    clip = drawn("takes", 1)[0]
    other = dataclasses.replace(clip, sign_colour="red", sign_kind="none", sign_radius=0.0)
    assert np.array_equal(sidecue_takes.render_ego(clip), sidecue_takes.render_ego(other))


def test_pictures_of_a_room_are_the_same_whatever_the_distances_and_the_direction() -> None:
    clip = drawn("rooms", 1)[0]
    pose = sidecue_rooms.poses(clip)[3]
    colour, depth = sidecue_rooms.render_view(clip, pose)
    others = {
        "swapped": dataclasses.replace(clip, distances=clip.distances[::-1]),
        "turned": dataclasses.replace(
            clip,
            yaw=clip.yaw + np.pi,
            position=(-clip.position[0], -clip.position[1], clip.position[2]),
        ),
    }
    for what, other in others.items():
        same, elsewhere = sidecue_rooms.render_view(other, sidecue_rooms.poses(other)[3])
        assert (same != colour).any(axis=-1).mean() < 0.002, what  # rounding at the edges
        if what == "swapped":
            balls = on_balls(colour, clip)
            assert (abs(depth[balls].astype(int) - elsewhere[balls]) > 500).mean() > 0.9


def test_points_of_a_room_lie_on_its_walls_and_balls_within_a_centimetre(root: Path) -> None:
    for truth, clip in zip(truths(root, "rooms"), drawn_for(root, "rooms"), strict=True):
        scene = read_folder(root / f"rooms/train/{truth['number']:06d}", "room")
        assert len(scene.names) == sidecue_rooms.NUM_VIEWS
        for number in (0, 4):
            depth = (scene.depth(number) / 1000).astype(np.float32)
            points = back_project(depth, scene.intrinsic, scene.poses[number]).reshape(-1, 3)
            walls = abs(points[:, :, None] - sidecue_rooms.ROOM).min(axis=(1, 2))
            balls = off_spheres(points, sidecue_rooms.balls(clip))
            small = np.concatenate([sidecue_rooms.knob(clip), sidecue_rooms.lamps(clip)])
            on_ball = on_balls(scene.colour(number).reshape(-1, 3), clip)
            assert on_ball.sum() > 400
            assert np.where(on_ball, balls, np.minimum(walls, off_spheres(points, small))).max() < 0.01


def test_the_distance_of_a_ball_is_that_of_the_answer() -> None:
    for clip in drawn("rooms", 300):
        centres = sidecue_rooms.balls(clip)[:, :3] - np.array(clip.position)
        metres = np.linalg.norm(centres, axis=1)
        assert round(metres.min()) == int(clip.answers["ball_distance"])
        assert clip.ball_colours[int(metres.argmin())] == clip.answers["nearer_ball"]
        # north is y: whoever faces it has larger x on the right
        assert clip.answers["ball_side"] == ("right" if (centres[:, 0] > 0).all() else "left")


def off_spheres(points: np.ndarray, spheres: np.ndarray) -> np.ndarray:
    """How far the points (N, 3) are from the nearest surface of the spheres (B, 4)."""
    from_middle = np.linalg.norm(points[:, None] - spheres[:, :3], axis=-1)
    return abs(from_middle - spheres[:, 3]).min(axis=1)


def on_balls(pixels: np.ndarray, clip: sidecue_rooms.RoomClip) -> np.ndarray:
    """Which of the pixels (..., 3) have the colour of a ball."""
    return np.any([(pixels == COLOURS[name]).all(axis=-1) for name in clip.ball_colours], axis=0)


def truths(root: Path, world: str) -> list[dict]:
    listed = json.loads((root / "truth" / "train.json").read_text())
    return [truth for truth in listed if truth["world"] == world]


def drawn_for(root: Path, world: sidecue.WorldName) -> list:
    config = sidecue.SideCueConfig(**json.loads((root / "sidecue.json").read_text()))
    return list(sidecue.draw_clips(config, world, "train"))


def tones_in(path: Path) -> list[float]:
    """When the tones of a file begin, in seconds."""
    with av.open(str(path)) as container:
        sound = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    step = SAMPLE_RATE // 50
    loud = [np.sqrt((sound[at : at + step] ** 2).mean()) > 0.03 for at in range(0, len(sound), step)]
    starts, quiet_for = [], 10
    for number, is_loud in enumerate(loud):
        if is_loud and quiet_for >= 10:
            starts.append(number / 50)
        quiet_for = 0 if is_loud else quiet_for + 1
    return starts
