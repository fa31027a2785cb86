"""The generated world: repeatable, balanced, true to its annotations, and without leaks."""

import json
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest

from tasks import sidecue, sidecue_sound, sidecue_tones, sidecue_world
from tasks.instruction import TaskError

SMALL = sidecue.SideCueConfig(splits={"train": 3, "test": 2}, seed=5)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sidecue")
    sidecue.make(folder, SMALL, workers=1)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_seed_gives_the_same_files_and_another_seed_others(root: Path, tmp_path: Path) -> None:
    sidecue.make(tmp_path / "again", SMALL, workers=2)
    assert contents(tmp_path / "again") == contents(root)
    sidecue.make(tmp_path / "other", SMALL.model_copy(update={"seed": 6}), workers=2)
    other = contents(tmp_path / "other")
    assert all(other[name] != content for name, content in contents(root).items() if name.endswith(".mp4"))


def test_a_finished_world_is_not_made_again_and_not_overwritten(root: Path) -> None:
    before = contents(root)
    sidecue.make(root, SMALL)
    assert contents(root) == before
    with pytest.raises(FileExistsError, match="another SideCue world"):
        sidecue.make(root, SMALL.model_copy(update={"seed": 6}))


def test_files_hold_what_the_truth_says(root: Path) -> None:
    for truth in json.loads((root / "truth" / "train.json").read_text()):
        path = root / "train" / f"{truth['number']:06d}.mp4"
        with av.open(str(path)) as container:
            assert container.streams.video[0].codec_context.name == "h264"
            assert container.streams.audio[0].codec_context.name == "aac"
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        with av.open(str(path)) as container:
            sound = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
        assert len(frames) == truth["seconds"] * sidecue_world.FPS
        # The loudest half second is the tone's.
        half = sidecue_world.SAMPLE_RATE // 2
        energy = np.convolve(sound**2, np.ones(half), mode="valid")
        middle = (int(energy.argmax()) + half / 2) / sidecue_world.SAMPLE_RATE
        assert abs(middle - (truth["tone_time"] + sidecue_sound.TONE_SECONDS / 2)) < 0.15
        # The colour at that moment, seen just inside the border, is the answer.
        inside = (sidecue_tones.BORDER_WIDTH + 2, sidecue_world.FRAME_SIZE // 2)
        seen = frames[int(middle * sidecue_world.FPS)][inside].astype(int)
        nearest = min(
            sidecue_world.COLOURS, key=lambda name: int(abs(seen - sidecue_world.COLOURS[name]).sum())
        )
        assert nearest == truth["answers"]["tone_colour"]


def test_answers_are_balanced_and_independent_of_what_can_be_seen() -> None:
    config = sidecue.SideCueConfig(splits={"train": 4000}, seed=1)
    clips = list(sidecue.draw_clips(config, "tones", "train"))
    for question in sidecue.WORLDS["tones"].questions:
        share = Counter(clip.answers[question] for clip in clips)
        assert all(abs(count / len(clips) - 0.25) < 0.03 for count in share.values()), question
        assert len(share) == 4
    # No guess from the video alone beats chance: not its most frequent, first, last or bordered colour.
    guesses = {
        "first": lambda clip: clip.segment_colours[0],
        "last": lambda clip: clip.segment_colours[-1],
        "border": lambda clip: clip.answers["border_colour"],
        "longest": lambda clip: max(
            sidecue_world.COLOURS,
            key=lambda name: sum(
                end - start
                for start, end, colour in zip(
                    (0, *clip.segment_ends), clip.segment_ends, clip.segment_colours, strict=False
                )
                if colour == name
            ),
        ),
    }
    for name, guess in guesses.items():
        right = np.mean([guess(clip) == clip.answers["tone_colour"] for clip in clips])
        assert abs(right - 0.25) < 0.03, name


def test_a_damaged_or_missing_world_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="no complete SideCue"):
        sidecue.load(tmp_path)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "sidecue.json").write_text("{}")
    (tmp_path / "annotations" / "train.json").write_text('[{"sample_id": "a"}]')
    with pytest.raises(TaskError, match=r"train.json is damaged"):
        sidecue.load(tmp_path)
