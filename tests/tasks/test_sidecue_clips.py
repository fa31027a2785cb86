"""SideCue's clips: what a level changes, and what key frames and dense frames show of the flashes."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from extractors.config import DenseConfig
from extractors.contract import Sample
from extractors.dense import DenseExtractor
from extractors.key_frames import read_key_frames
from pipelines.sidecue_base import BaseTraining
from tasks import sidecue, sidecue_flashes, sidecue_tones
from tasks.sidecue_flashes import FlashClip, write_flash_clip
from tasks.sidecue_world import COLOURS, FPS, Level

CONFIG = sidecue.SideCueConfig(splits={"train": 2}, worlds=("melodies", "flashes"), seed=4)
# What depends on the level, and nothing else does.
CUES: dict[sidecue.WorldName, set[str]] = {
    "tones": {"noise"},
    "melodies": {"noise", "tones"},
    "flashes": {"noise", "strength", "flash_frames", "tone_time"},
    "takes": {"sign_radius"},
    "rooms": {"distances", "yaw"},
}
# sha256 of the easy clips of seed 0 as they were before there were levels.
TONES_QUESTIONS = "23279b40d3a3087d4930418da19874bf4c927d68ec89618ff9745dd80fd078e4"
TONES_PICTURES = "33eeb5943de7bbc93ed8eb5866dd490e1100694cc8afdca6a604c9ee4161d9da"


def drawn(world: sidecue.WorldName, count: int, level: Level = "easy") -> list:
    config = sidecue.SideCueConfig(splits={"train": count}, level=level)
    return list(sidecue.draw_clips(config, world, "train"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def written(clip: FlashClip, root: Path) -> Path:
    write_flash_clip(root, clip)
    return root / clip.media["video"]


def test_the_same_seed_gives_the_same_files_whoever_writes_them(tmp_path: Path) -> None:
    for folder, workers in (("one", 1), ("two", 2)):
        sidecue.make(tmp_path / folder, CONFIG, workers=workers)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_easy_tones_are_what_they_were_before_there_were_levels() -> None:
    clips = drawn("tones", 20)
    asked = [dataclasses.astuple(item) for clip in clips for item in sidecue.instructions(clip)]
    assert hashlib.sha256(json.dumps(asked).encode()).hexdigest() == TONES_QUESTIONS
    frames = b"".join(sidecue_tones.render_frames(clip).tobytes() for clip in clips)
    assert hashlib.sha256(frames).hexdigest() == TONES_PICTURES


@pytest.mark.parametrize("world", CUES)
def test_a_level_changes_the_cues_alone(world: sidecue.WorldName) -> None:
    by_level = {level: drawn(world, 50, level) for level in get_args(Level)}
    for level in ("medium", "hard"):
        differing = set()
        for easy, other in zip(by_level["easy"], by_level[level], strict=True):
            ours, theirs = dataclasses.asdict(easy), dataclasses.asdict(other)
            differing |= {name for name in ours if ours[name] != theirs[name]}
        assert differing == CUES[world]


def test_flashes_are_hidden_from_the_key_frames_of_the_demo() -> None:
    assert BaseTraining().num_frames == sidecue_flashes.NUM_KEY_FRAMES


@pytest.mark.parametrize("level", get_args(Level))
def test_decoded_key_frames_are_the_same_to_the_bit_whatever_the_flashes_are(
    level: Level, tmp_path: Path
) -> None:
    for clip in drawn("flashes", 6, level):
        unseen = tuple(colour for colour in COLOURS if colour not in clip.flash_colours)
        other = dataclasses.replace(clip, flash_colours=unseen)
        ours, theirs = (
            read_key_frames(written(each, tmp_path / name), clip.sample_id, sidecue_flashes.NUM_KEY_FRAMES)
            for name, each in (("ours", clip), ("theirs", other))
        )
        assert np.array_equal(ours.frames, theirs.frames)


def test_the_dense_extractor_reads_both_flashes_and_no_blink(tmp_path: Path) -> None:
    extractor = DenseExtractor(DenseConfig(weights="random:0"))
    for clip in drawn("flashes", 6):
        sample = Sample(clip.sample_id, "sidecue", {"video": written(clip, tmp_path)})
        decoded = extractor.decode(sample)
        # the mean colour of the picture, without the rim: (T, 3) of 255
        seen = decoded.tensors["pixels"][:, 32:-32, 32:-32].mean(axis=(1, 2))
        coloured = np.flatnonzero(abs(seen - sidecue_flashes.BACKGROUND).max(axis=1) > 20)
        moments = [frame / FPS for frame in clip.flash_frames]
        assert np.allclose(np.asarray(decoded.timestamps)[coloured], moments, atol=0.01)
        assert [nearest_colour(colour) for colour in seen[coloured]] == list(clip.flash_colours)
        rim = decoded.tensors["pixels"][:, :20].mean(axis=(1, 2))  # a blink would differ from the others
        assert rim[np.setdiff1d(np.arange(len(rim)), coloured)].std(axis=0).max() < 0.7


def nearest_colour(colour: np.ndarray) -> str:
    return min(COLOURS, key=lambda name: float(abs(colour - COLOURS[name]).sum()))
