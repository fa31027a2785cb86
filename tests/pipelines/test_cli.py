"""The `pave` command: its errors, its help, its commands."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from odd_media import write_nothing, write_text, write_video_without_frames
from pave_process import ROOT, environment, invoke, start_pave

from extractors import CHANNELS
from extractors.audio import IMAGEBIND_LICENCE
from pipelines.cli import CHANNEL_TABLE
from pipelines.config import EXTRACT_CONFIGS
from pipelines.errors import PipelineError
from pipelines.setting_overrides import override
from store import FeatureStore
from tasks import TASKS

# What is given, and what the one line on stderr must name and advise.
BAD_INPUT: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "empty folder": (lambda here: (here / "clips").mkdir(), ["no videos in clips", "give a folder with"]),
    "text file": (
        lambda here: write_text(_clips(here) / "text.mp4"),
        ["text.mp4: not a media file", "remove it", "pave store query"],
    ),
    "zero bytes": (
        lambda here: write_nothing(_clips(here) / "nothing.mp4"),
        ["nothing.mp4: the file is empty (0 bytes)", "copy or download it again"],
    ),
    "no frames": (
        lambda here: write_video_without_frames(_clips(here) / "frameless.mp4"),
        ["frameless.mp4: the file", "no video frames", "remove"],
    ),
    "file in the way of the store": (
        lambda here: (write_text(_clips(here) / "text.mp4"), (here / "store").touch()),
        ["store is a file", "give the store a folder of its own"],
    ),
}


def _clips(here: Path) -> Path:
    (here / "clips").mkdir()
    return here / "clips"


EXTRACT = ("extract", "audio", "--videos", "clips", "--store", "store")


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_is_one_line_that_names_it_and_the_remedy(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    BAD_INPUT[name][0](tmp_path)
    result = invoke(*EXTRACT)
    assert capfd.readouterr() == ("", ""), "a native library writes past Python"
    assert_refused(name, result.exit_code, result.stderr)


def test_nothing_that_is_imported_adds_a_line_to_an_error(tmp_path: Path) -> None:
    BAD_INPUT["no frames"][0](tmp_path)
    run = start_pave(tmp_path, *EXTRACT)
    _, errors = run.communicate(timeout=120)
    assert_refused("no frames", run.returncode, errors)


def assert_refused(name: str, code: int, errors: str) -> None:
    assert code == 1
    warning = "warning: the audio encoder has random weights"
    lines = [line for line in errors.splitlines() if not line.startswith((warning, "read the media:"))]
    assert len(lines) == 1, errors
    assert lines[0].startswith("error: ")
    for words in BAD_INPUT[name][1]:
        assert words in lines[0]


def test_an_unknown_channel_is_named_with_the_known_ones(tmp_path: Path) -> None:
    run = start_pave(tmp_path, "extract", "smell", "--videos", "clips")
    output, errors = run.communicate(timeout=60)
    assert (run.returncode, output) == (1, "")
    assert errors == f"error: there is no channel 'smell'; choose one of: {', '.join(sorted(CHANNELS))}\n"


def test_a_store_below_a_file_is_named(tmp_path: Path, clips: dict[str, Path]) -> None:
    (tmp_path / "file").touch()
    result = invoke(
        "extract", "audio", "--videos", clips["bikes.mp4"], "--store", tmp_path / "file" / "store"
    )
    assert result.exit_code == 1
    assert f"error: cannot open a store at {tmp_path / 'file' / 'store'}: " in result.stderr
    assert "choose a folder that you may write to" in result.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_store_that_may_not_be_written_is_named(tmp_path: Path, clips: dict[str, Path]) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    result = invoke("extract", "audio", "--videos", clips["bikes.mp4"], "--store", locked / "store")
    assert result.exit_code == 1
    assert f"error: cannot open a store at {locked / 'store'}: Permission denied" in result.stderr


def test_help_is_quick_and_complete() -> None:
    seconds = []
    for _ in range(3):
        started = time.monotonic()
        finished = subprocess.run(
            [sys.executable, "-m", "pipelines.cli", "--help"],
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        seconds.append(time.monotonic() - started)
    assert min(seconds) < 0.5
    commands = (
        "sidecue",
        "prepare",
        "extract",
        "inspect",
        "train",
        "evaluate",
        "eval",
        "demo",
        "compare",
        "doctor",
        "extractors",
        "import-checkpoint",
        "profile",
        "plan",
        "tasks",
        "convert-audio-weights",
        "store",
    )
    for command in commands:
        assert f"\n  {command} " in finished.stdout


def test_a_bug_is_not_dressed_up_as_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FeatureStore, "open", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        invoke("store", "ls", "--store", tmp_path)


def test_every_channel_is_listed() -> None:
    assert set(CHANNEL_TABLE) == set(CHANNELS) == set(EXTRACT_CONFIGS)
    lines = invoke("extractors").stdout.splitlines()
    assert lines[0].split() == ["channel", "features", "encoder", "licence"]
    (audio,) = (line for line in lines if line.startswith("audio "))
    assert audio.endswith(IMAGEBIND_LICENCE)


def test_sidecue_is_made_and_prepared(tmp_path: Path) -> None:
    world, out = tmp_path / "world", tmp_path / "out"
    result = invoke("sidecue", "make", world, "--split", "train=2,test=1", "--seed", 4)
    assert result.stdout == f"3 clips in {world}\n"
    assert json.loads((world / "sidecue.json").read_text()) == {
        "splits": {"train": 2, "test": 1},
        "seed": 4,
        "level": "easy",
        "worlds": ["tones"],
    }
    other = invoke("sidecue", "make", world, "--split", "train=2,test=1", "--seed", 5)
    assert other.exit_code == 1
    assert other.stderr.startswith(f"error: {world} holds another SideCue world; ")
    result = invoke("prepare", "--task", "sidecue", "--root", world, "--out", out)
    assert result.exit_code == 0
    assert f"sidecue: 3 samples, 0 unusable -> {out / 'manifest.parquet'}" in result.stdout


def test_worlds_and_level_of_sidecue_are_chosen(tmp_path: Path) -> None:
    world = tmp_path / "world"
    result = invoke(
        "sidecue", "make", world, "--split", "test=1", "--worlds", "flashes, melodies", "--level", "hard"
    )
    assert result.stdout == f"2 clips in {world}\n"
    made = json.loads((world / "sidecue.json").read_text())
    assert (made["worlds"], made["level"]) == (["flashes", "melodies"], "hard")
    assert sorted(path.parts[-3] for path in world.rglob("*.mp4")) == ["flashes", "melodies"]


@pytest.mark.parametrize(
    ("option", "value", "problem"),
    [
        ("--worlds", "tones,tones", "worlds: name at least one world, and each once"),
        ("--worlds", "tunes", "worlds.0: Input should be 'tones', 'melodies', 'flashes', 'takes' or 'rooms'"),
        ("--level", "harder", "level: Input should be 'easy', 'medium' or 'hard'"),
    ],
)
def test_a_wrong_world_or_level_is_named(tmp_path: Path, option: str, value: str, problem: str) -> None:
    result = invoke("sidecue", "make", tmp_path / "world", option, value)
    assert result.exit_code == 1
    assert result.stderr == f"error: pave sidecue make: {problem}\n"
    assert not (tmp_path / "world").exists()


def test_every_task_is_listed() -> None:
    lines = invoke("tasks").stdout.splitlines()
    assert lines[0].split() == ["task", "channels", "source", "licence"]
    assert [line.split()[0] for line in lines[1:]] == sorted(TASKS)
    (avsd,) = (line for line in lines if line.startswith("avsd "))
    assert avsd.split()[1:3] == ["audio,", "dense"]
    assert avsd.endswith("Charades videos: non-commercial, AI2")
    told = "".join(invoke("prepare", "--help").stdout.split())
    assert ",".join(sorted(TASKS)) in told


@pytest.mark.parametrize("splits", ["train", "train=x", "train=-1", "../up=3", "train=1,train=2", ""])
def test_wrong_splits_are_named(tmp_path: Path, splits: str) -> None:
    result = invoke("sidecue", "make", tmp_path / "world", "--split", splits)
    assert result.exit_code == 1
    assert result.stderr == f"error: --split {splits!r} cannot be read; write it like train=1200,test=240\n"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["train", "absent.yaml"], ["absent.yaml cannot be read as YAML"]),
        (["train", "recipe.yaml", "--set", "epochs"], ["--set 'epochs' cannot be read"]),
        (
            ["train", "recipe.yaml", "--set", "epochs=0"],
            ["recipe.yaml: ", "epochs: Input should be greater than 0"],
        ),
        (["train", "recipe.yaml", "--set", "spoon=1"], ["spoon: Extra inputs are not permitted"]),
        (
            ["extract", "audio", "--set", "execution.part_samples=0"],
            ["pave extract audio: ", "part_samples: Input"],
        ),
        (["evaluate", "--run", "absent"], ["absent is no finished run"]),
        (["evaluate", "--base", "x"], ["pave evaluate: ", "data: Field required", "out: Field required"]),
    ],
)
def test_wrong_recipes_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    data = {"store": "s", "instructions": "i", "split": "train"}
    Path("recipe.yaml").write_text(json.dumps({"base": "b", "out": "o", "data": data}))
    result = invoke(*command)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    for word in words:
        assert word in line


def test_overrides_reach_into_settings_without_changing_the_given_ones() -> None:
    given = {"data": {"split": "train", "store": "s"}, "seed": 1}
    result = override(given, ["data.split=test", "lora=null", "new.deep=[1, 2]"], seed=2)
    assert result == {
        "data": {"split": "test", "store": "s"},
        "seed": 2,
        "lora": None,
        "new": {"deep": [1, 2]},
    }
    assert given == {"data": {"split": "train", "store": "s"}, "seed": 1}
    for wrong in ("=1", "a..b=1", "seed", "a=[1"):
        with pytest.raises(PipelineError, match="--set"):
            override(given, [wrong])
